// Reading an archive at random: by the index in its footer, or, where it is damaged, by a look for its blocks.

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <queue>
#include <utility>

#include "logs/container.h"
#include "logs/continued.h"
#include "logs/hash.h"
#include "logs/template_text.h"
#include "slipstick/error.h"
#include "slipstick/logs.h"
#include "slipstick/threads.h"

namespace slipstick::logs {

// The last bytes of blocks that a continued one follows, for it to be decoded without those before it. A few, as threads may be on their
// way through several runs of blocks.
class Archive::Prefixes {
 public:
  bool find(size_t index, std::string& prefix) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [known, text] : kept_)
      if (known == index) {
        prefix = text;
        return true;
      }
    return false;
  }
  void keep(size_t index, std::string prefix) {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.erase(std::remove_if(kept_.begin(), kept_.end(), [&](const auto& each) { return each.first == index; }), kept_.end());
    kept_.emplace_back(index, std::move(prefix));
    if (kept_.size() > kKept) kept_.erase(kept_.begin());
  }

 private:
  static constexpr size_t kKept = 8;
  std::mutex mutex_;
  std::vector<std::pair<size_t, std::string>> kept_;   // the latest last
};

Archive::Archive(std::string_view data, ByteCodec& codec, Level level)
    : data_(data), codec_(codec), level_(level), prefixes_(std::make_shared<Prefixes>()) {}

Archive::Archive(std::string_view data, ByteCodec& codec) : Archive(data, codec, Level::standard) {
  // Footers give the offsets, last archive first; what they say is checked against each block when it is read.
  std::vector<std::vector<BlockInfo>> archives;
  uint64_t end = data.size();
  do {
    if (end < kHeaderBytes + kTrailerBytes) {
      if (data.substr(0, kMagic.size()) != kMagic.substr(0, data.size())) read_archive_header(std::string(kHeaderBytes, '?'), 0);
      corrupt_archive("the input is truncated");
    }
    read_archive_header(data, 0);
    if (data.substr(end - kEndMagic.size(), kEndMagic.size()) != kEndMagic)
      corrupt_archive("the trailer is missing: the archive is truncated, or bytes were added at its end");
    uint64_t footer_size = ByteReader(data, end - kTrailerBytes).fixed(8);
    if (footer_size > end - kHeaderBytes || footer_size < kTrailerBytes) corrupt_archive("trailer is damaged");
    uint64_t footer_at = end - footer_size;
    ByteReader in(data.substr(0, end), footer_at);
    if (in.byte() != kFooterTag) corrupt_archive("trailer does not point to a footer");
    std::vector<BlockInfo> blocks;
    uint64_t count = in.varint(), total = 0;
    for (uint64_t i = 0; i < count; ++i) {
      BlockInfo block;
      block.archive_bytes = in.varint();
      block.raw_bytes = in.varint();
      block.lines = in.varint();
      block.open = (block.lines & 1) != 0;
      block.lines >>= 1;
      if (block.archive_bytes == 0 || block.archive_bytes > footer_at - total || block.raw_bytes > kMaxBlockBytes ||
          block.lines > block.raw_bytes)
        corrupt_archive("footer has an illegal size");
      total += block.archive_bytes;
      blocks.push_back(block);
    }
    size_t sum_at = in.at();
    if (in.fixed(4) != (hash64(data.data() + footer_at, sum_at - footer_at) & UINT32_MAX)) corrupt_archive("footer is damaged (checksum)");
    if (in.at() + kTrailerBytes != end) corrupt_archive("trailer is damaged");
    if (total + kHeaderBytes > footer_at) corrupt_archive("footer does not agree with the archive's size");
    uint64_t begin = footer_at - total;
    for (BlockInfo& block : blocks) {
      block.offset = begin;
      begin += block.archive_bytes;
    }
    end = footer_at - total - kHeaderBytes;
    level_ = read_archive_header(data.substr(end), end);
    archives.push_back(std::move(blocks));
  } while (end > 0);
  for (auto archive = archives.rbegin(); archive != archives.rend(); ++archive) {
    for (BlockInfo& block : *archive) {
      ByteReader in(data, block.offset + 1);
      BlockHeader header = read_block_header(in, data, block.offset);
      block.method = method_name(header.method);
      block.continued = header.method == Method::continued;
      block.index = header.index;
      if (block.continued && &block == archive->data()) refuse_first_continued(block.offset);
      add_block(std::move(block));
    }
  }
}

// A line that a block leaves open goes on in the next block: it is counted where it ends.
void Archive::add_block(BlockInfo block) {
  block.first_line = blocks_.empty() ? 0 : blocks_.back().first_line + blocks_.back().lines - static_cast<uint64_t>(blocks_.back().open);
  lines_ = block.first_line + block.lines;
  raw_bytes_ += block.raw_bytes;
  blocks_.push_back(std::move(block));
}

namespace {

// A block that an index promises.
std::pair<BlockHeader, std::string_view> find_block(std::string_view data, const BlockInfo& block) {
  std::string_view own = data.substr(block.offset, block.archive_bytes);
  ByteReader in(own);
  if (in.byte() != kBlockTag) corrupt_archive("byte " + std::to_string(block.offset) + " is no block");
  BlockHeader header = read_block_header(in, own, 0);
  if (header.raw_bytes != block.raw_bytes || header.lines != block.lines || header.open != block.open ||
      header.payload_bytes != own.size() - in.at())
    corrupt_archive("block at byte " + std::to_string(block.offset) + " does not agree with the footer");
  return {header, in.take(header.payload_bytes)};
}

std::string unpack_at(std::string_view data, const BlockInfo& block, ByteCodec& codec, std::string_view prefix = {},
                      Account* account = nullptr) {
  auto [header, payload] = find_block(data, block);
  return unpack_checked(header, payload, block.offset, codec, prefix, account);
}

// Decodes blocks in their order, with what the last one leaves to the next.
class BlockSequence {
 public:
  BlockSequence(std::string_view data, ByteCodec& codec) : data_(data), codec_(codec) {}
  void next(const BlockInfo& block, Account& account) { prefix_ = prefix_of(unpack_at(data_, block, codec_, prefix_, &account)); }

 private:
  std::string_view data_;
  ByteCodec& codec_;
  std::string prefix_;
};

// Headers may be made to claim the same bytes over and over; each claim costs a checksum of all of them.
constexpr size_t kMaxFalseClaims = 64;

}  // namespace

Archive Archive::recovered(std::string_view data, ByteCodec& codec, int threads) {
  std::vector<BlockInfo> found;
  std::priority_queue<size_t, std::vector<size_t>, std::greater<>> false_claims;   // ends of payloads over `at` whose checksum differs
  Level level = Level::standard;
  bool levelled = false;
  for (size_t at = 0; at < data.size();) {
    if (!levelled && data.substr(at, kMagic.size()) == kMagic && data.size() - at >= kHeaderBytes) {
      try {
        level = read_archive_header(data.substr(at), at);
        levelled = true;
      } catch (const Error&) {   // whoever wrote it, its blocks are looked at one by one
      }
    }
    while (!false_claims.empty() && false_claims.top() <= at) false_claims.pop();
    if (is_block_header(data, at) && false_claims.size() < kMaxFalseClaims) {
      try {
        ByteReader in(data, at + 1);
        BlockHeader header = read_block_header(in, data, at);
        std::string_view payload = in.take(header.payload_bytes);
        if ((hash64(payload.data(), payload.size()) & UINT32_MAX) == header.payload_checksum) {
          found.push_back(info_of(header, in.at() - at));
          found.back().offset = at;
          found.back().index = header.index;
          at = in.at();
          continue;
        }
        false_claims.push(in.at());
      } catch (const Error&) {   // no block begins here
      }
    }
    ++at;
  }
  std::vector<uint8_t> whole(found.size());
  std::vector<std::string> prefixes(found.size());
  const auto is_continued = [&](size_t i) { return found[i].continued; };
  for_each_in_runs(found.size(), threads, is_continued, [&](size_t i) {
    if (i == 0 && is_continued(i)) return false;
    try {   // what continues a block that is not the one in front of it here does not come to its checksum
      const std::string raw = unpack_at(data, found[i], codec, is_continued(i) ? std::string_view(prefixes[i - 1]) : std::string_view());
      if (is_continued(i)) prefixes[i - 1] = std::string();
      if (i + 1 < found.size() && is_continued(i + 1)) prefixes[i] = std::string(prefix_of(raw));
      whole[i] = 1;
      return true;
    } catch (const Error&) {   // checksums agree by chance, or a method is unknown
      return false;
    }
  });
  Archive out(data, codec, level);
  for (size_t i = 0; i < found.size(); ++i) {
    if (whole[i])
      out.add_block(std::move(found[i]));
    else
      out.orphans_ += found[i].continued;
  }
  return out;
}

int Archive::version() const { return kVersion; }

std::string Archive::decompress_block(size_t index) const {
  if (index >= blocks_.size())
    throw Error(ErrorKind::invalid_argument,
                "decompress_block: index is " + std::to_string(index) + "; expected less than " + std::to_string(blocks_.size()));
  size_t from = index;
  std::string prefix;
  while (blocks_[from].continued && !prefixes_->find(from, prefix)) --from;
  for (;; ++from) {
    std::string raw = unpack_at(data_, blocks_[from], codec_, prefix);
    prefix = prefix_of(raw);
    if (is_continued(from + 1)) prefixes_->keep(from + 1, prefix);
    if (from == index) return raw;
  }
}

bool Archive::select_lines(size_t index, const LineFilter& filter, LineSelection& out) const {
  const BlockInfo& block = blocks_.at(index);
  auto [header, payload] = find_block(data_, block);
  check_payload(header, payload, block.offset);
  if (!logs::select_lines(header.method, payload, header.lines, header.raw_bytes, codec_, filter, out)) return false;
  if (out.whole) check_raw(header, out.text, block.offset);
  if (header.open && !out.numbers.empty() && out.numbers.back() + 1 == header.lines) out.text.pop_back();
  return true;
}

namespace {

std::vector<TemplateInfo> templates_of(const Account& account) {
  std::map<std::string, TemplateInfo> shown;   // texts that differ in the kinds of their slots are one
  for (const auto& [text, use] : account.templates) {
    TemplateInfo& info = shown[shown_template(text)];
    info.count += use.count;
    if (info.example.empty()) info.example = use.example;
  }
  std::vector<TemplateInfo> out;
  for (auto& [text, info] : shown) {
    info.text = text;
    out.push_back(std::move(info));
  }
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
  return out;
}

std::vector<StreamInfo> streams_of(const Account& account) {
  std::vector<StreamInfo> out;
  for (const auto& [name, share] : account.shares) {
    StreamInfo info;
    size_t space = name.find(' ');
    info.kind = name.substr(0, space);
    info.name = space == std::string::npos ? name : name.substr(space + 1);
    info.archive_bytes = static_cast<uint64_t>(share.bits / 8 + 0.5);
    info.raw_bytes = share.raw_bytes;
    info.values = share.values;
    out.push_back(std::move(info));
  }
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.archive_bytes > b.archive_bytes; });
  return out;
}

}  // namespace

ArchiveContents Archive::contents() const {
  Account account;
  uint64_t container = data_.size();
  BlockSequence sequence(data_, codec_);
  for (const BlockInfo& block : blocks_) {
    container -= find_block(data_, block).first.payload_bytes;
    sequence.next(block, account);
  }
  account.shares["container"].bits = static_cast<double>(container) * 8;
  return {templates_of(account), streams_of(account)};
}

TemplateColumns Archive::columns(const std::string& text) const {
  ValueAccount values;
  values.text = text;
  BlockSequence sequence(data_, codec_);
  for (const BlockInfo& block : blocks_) {
    Account account;
    account.values = &values;
    values.first_line = block.first_line;
    sequence.next(block, account);
  }
  return std::move(values.columns);
}

}  // namespace slipstick::logs
