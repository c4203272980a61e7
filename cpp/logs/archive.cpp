// The container: blocks, footer and trailer around them, written and read as a stream or at random. See FORMAT.md.

#include <algorithm>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <queue>
#include <utility>

#include "logs/block.h"
#include "logs/block_index.h"
#include "logs/bytes.h"
#include "logs/hash.h"
#include "slipstick/error.h"
#include "slipstick/logs.h"
#include "slipstick/threads.h"

namespace slipstick::logs {
namespace {

// A byte above 127, so that no text file starts so; CR LF and ^Z, so that a transfer that changes line ends shows.
constexpr std::string_view kMagic = "\x89SLIP\r\n\x1a";
constexpr std::string_view kEndMagic = "PILS";
constexpr uint8_t kVersion = 1;
constexpr size_t kHeaderBytes = 10;    // magic, version, level
constexpr size_t kTrailerBytes = 12;   // footer bytes (8), end magic
constexpr uint8_t kBlockTag = 1, kFooterTag = 2;
constexpr uint64_t kMaxBlockBytes = kBlockBytes * 2;   // raw; what a small archive can make a reader allocate
constexpr uint64_t kMaxHeaderFields = 1024;

[[noreturn]] void corrupt(const std::string& what) { throw Error(ErrorKind::corrupt_data, "archive: " + what); }

struct BlockHeader {
  Method method;
  uint64_t raw_bytes, lines, payload_bytes;
  bool open;               // the last line has no line feed
  uint64_t checksum;       // of the raw bytes
  uint32_t payload_checksum;
  std::string_view index;  // records of block_index.h
};

// tag, header size, then the fields; a later version may append fields, which this one skips.
std::string block_header(const BlockHeader& header) {
  std::string fields;
  fields.push_back(static_cast<char>(header.method));
  put_varint(fields, header.raw_bytes);
  put_varint(fields, header.lines << 1 | static_cast<uint64_t>(header.open));
  put_varint(fields, header.payload_bytes);
  put_fixed(fields, header.checksum, 8);
  put_fixed(fields, header.payload_checksum, 4);
  fields += header.index;
  std::string out(1, static_cast<char>(kBlockTag));
  put_varint(out, fields.size());
  out += fields;
  put_fixed(out, hash64(out.data(), out.size()), 4);
  return out;
}

BlockHeader read_fields(std::string_view data, size_t tag_at) {
  ByteReader fields(data);
  BlockHeader header;
  uint8_t method = fields.byte();
  if (method >= kMethods)
    throw Error(ErrorKind::unsupported, "archive: block at byte " + std::to_string(tag_at) + " has method " + std::to_string(method) +
                                            "; expected 0 to " + std::to_string(kMethods - 1) + " (a newer slipstick may read it)");
  header.method = static_cast<Method>(method);
  header.raw_bytes = fields.varint();
  uint64_t lines = fields.varint();
  header.lines = lines >> 1;
  header.open = (lines & 1) != 0;
  header.payload_bytes = fields.varint();
  header.checksum = fields.fixed(8);
  header.payload_checksum = static_cast<uint32_t>(fields.fixed(4));
  header.index = data.substr(fields.at());
  read_block_index(header.index);   // refuses what is no record
  return header;
}

// Reads a block header after its tag. The checksum covers tag, size and fields. ShortInput means that the header is not
// all there; fields that end early are damage, for which no more input would help.
BlockHeader read_block_header(ByteReader& in, std::string_view data, size_t tag_at) {
  auto where = [&] { return "block header at byte " + std::to_string(tag_at); };
  uint64_t size = in.varint();
  if (size > kMaxHeaderFields) corrupt(where() + " is damaged");
  std::string_view fields = in.take(size);
  size_t end = in.at();
  if (in.fixed(4) != (hash64(data.data() + tag_at, end - tag_at) & UINT32_MAX)) corrupt(where() + " is damaged (checksum)");
  BlockHeader header;
  try {
    header = read_fields(fields, tag_at);
  } catch (const ShortInput&) {
    corrupt(where() + " lacks fields");
  }
  // A block that modelling or zstd would make larger is stored.
  if (header.raw_bytes > kMaxBlockBytes || header.payload_bytes > header.raw_bytes || header.lines > header.raw_bytes ||
      (header.open && header.lines == 0))
    corrupt(where() + " has an illegal size");
  return header;
}

// `data` begins with at least kHeaderBytes bytes of byte `offset` of the input.
Level read_archive_header(std::string_view data, uint64_t offset) {
  if (data.substr(0, kMagic.size()) != kMagic)
    corrupt(offset == 0 ? std::string("the input is not a slipstick archive (its first bytes are not the magic)")
                        : "byte " + std::to_string(offset) + " is past the archive's end but begins no other archive");
  uint8_t version = static_cast<uint8_t>(data[kMagic.size()]);
  if (version != kVersion)
    throw Error(ErrorKind::unsupported, "archive: version is " + std::to_string(version) + "; expected " + std::to_string(kVersion) +
                                            " (a newer slipstick may read it)");
  uint8_t level = static_cast<uint8_t>(data[kMagic.size() + 1]);
  if (level > static_cast<uint8_t>(Level::max)) corrupt("level " + std::to_string(level) + " is unknown");
  return static_cast<Level>(level);
}

void check_payload(const BlockHeader& header, std::string_view payload, uint64_t offset) {
  if ((hash64(payload.data(), payload.size()) & UINT32_MAX) != header.payload_checksum)
    corrupt("block at byte " + std::to_string(offset) + " is damaged (checksum)");
}

void check_raw(const BlockHeader& header, std::string_view raw, uint64_t offset) {
  auto damaged = [&](const std::string& why) { corrupt("block at byte " + std::to_string(offset) + " is damaged (" + why + ")"); };
  if (hash64(raw.data(), raw.size()) != header.checksum) damaged("checksum of the raw bytes");
  const uint64_t lines = count_lines(raw);
  if (lines != header.lines || header.open != (!raw.empty() && raw.back() != '\n'))
    damaged("it has " + std::to_string(lines) + " lines; its header says otherwise");
}

std::string unpack_checked(const BlockHeader& header, std::string_view payload, uint64_t offset, ByteCodec& codec,
                           Account* account = nullptr) {
  check_payload(header, payload, offset);
  std::string raw = unpack_block(header.method, payload, header.lines, header.raw_bytes, codec, account);
  check_raw(header, raw, offset);
  return raw;
}

BlockInfo info_of(const BlockHeader& header, uint64_t archive_bytes) {
  BlockInfo info;
  info.archive_bytes = archive_bytes;
  info.raw_bytes = header.raw_bytes;
  info.lines = header.lines;
  info.open = header.open;
  info.method = method_name(header.method);
  return info;
}

// Reads footer and trailer after the footer's tag and compares them with the blocks seen.
void check_footer(ByteReader& in, std::string_view data, size_t tag_at, const std::vector<BlockInfo>& blocks) {
  uint64_t count = in.varint();
  if (count != blocks.size()) corrupt("footer does not agree with the blocks before it");
  bool same = true;
  for (const BlockInfo& block : blocks) {
    uint64_t archive_bytes = in.varint(), raw_bytes = in.varint(), lines = in.varint();
    same = same && archive_bytes == block.archive_bytes && raw_bytes == block.raw_bytes &&
           lines == (block.lines << 1 | static_cast<uint64_t>(block.open));
  }
  size_t end = in.at();
  if (in.fixed(4) != (hash64(data.data() + tag_at, end - tag_at) & UINT32_MAX)) corrupt("footer is damaged (checksum)");
  if (!same) corrupt("footer does not agree with the blocks before it");
  uint64_t size = in.fixed(8);
  if (size != in.at() + kEndMagic.size() - tag_at || in.take(kEndMagic.size()) != kEndMagic) corrupt("trailer is damaged");
}

}  // namespace

std::string archive_header(Level level) {
  std::string out(kMagic);
  out.push_back(static_cast<char>(kVersion));
  out.push_back(static_cast<char>(level));
  return out;
}

std::string archive_footer(const std::vector<BlockInfo>& blocks) {
  std::string out(1, static_cast<char>(kFooterTag));
  put_varint(out, blocks.size());
  for (const BlockInfo& block : blocks) {
    put_varint(out, block.archive_bytes);
    put_varint(out, block.raw_bytes);
    put_varint(out, block.lines << 1 | static_cast<uint64_t>(block.open));
  }
  put_fixed(out, hash64(out.data(), out.size()), 4);
  uint64_t size = out.size() + kTrailerBytes;
  put_fixed(out, size, 8);
  out += kEndMagic;
  return out;
}

const std::vector<std::string>& level_names() {
  static const std::vector<std::string> names = {"fast", "default", "max"};
  return names;
}

Level level_of(std::string_view name) {
  for (size_t i = 0; i < level_names().size(); ++i)
    if (level_names()[i] == name) return static_cast<Level>(i);
  throw Error(ErrorKind::invalid_argument, "compress: level is '" + std::string(name) + "'; expected 'fast', 'default' or 'max'");
}

struct Compressor::State {
  Level level;
  int threads;
  ByteCodec& codec;
  std::string pending;
  std::vector<BlockInfo> blocks;
  uint64_t raw_bytes = 0, archive_bytes = 0, lines = 0, feeds = 0;
  bool begun = false, finished = false;

  // Ends of the blocks that `input` is cut into: after the last line feed that fits.
  static std::vector<size_t> cut(std::string_view input, bool all) {
    std::vector<size_t> ends;
    size_t at = 0;
    while (input.size() - at >= kBlockBytes || (all && at < input.size())) {
      size_t size = std::min(kBlockBytes, input.size() - at);
      if (size == kBlockBytes) {
        size_t feed = input.substr(at, size).rfind('\n');
        if (feed != std::string_view::npos) size = feed + 1;
      }
      at += size;
      ends.push_back(at);
    }
    return ends;
  }

  // Packs the whole blocks of `input` (all of it at the end of the stream); returns how much that was.
  size_t pack(std::string_view input, bool all, std::string& out) {
    size_t before = out.size();
    if (!begun) {
      out += archive_header(level);
      begun = true;
    }
    std::vector<size_t> ends = cut(input, all);
    std::vector<std::string> packed(ends.size());
    std::vector<BlockInfo> infos(ends.size());
    parallel_for(static_cast<int64_t>(ends.size()), threads, [&](int64_t i) {
      size_t from = i == 0 ? 0 : ends[static_cast<size_t>(i - 1)];
      std::string_view raw = input.substr(from, ends[static_cast<size_t>(i)] - from);
      PackedBlock block = pack_block(raw, level, codec);
      std::string index = make_block_index(raw, block.payload.size());
      BlockHeader header{block.method,
                         raw.size(),
                         count_lines(raw),
                         block.payload.size(),
                         raw.back() != '\n',
                         hash64(raw.data(), raw.size()),
                         static_cast<uint32_t>(hash64(block.payload.data(), block.payload.size())),
                         index};
      std::string& here = packed[static_cast<size_t>(i)];
      here = block_header(header) + block.payload;
      infos[static_cast<size_t>(i)] = info_of(header, here.size());
    });
    for (size_t i = 0; i < ends.size(); ++i) {
      out += packed[i];
      blocks.push_back(infos[i]);
      raw_bytes += infos[i].raw_bytes;
      lines = feeds + infos[i].lines;
      feeds += infos[i].lines - static_cast<uint64_t>(infos[i].open);
    }
    archive_bytes += out.size() - before;
    return ends.empty() ? 0 : ends.back();
  }
};

Compressor::Compressor(Level level, int threads, ByteCodec& codec) : state_(new State{level, resolve_threads(threads), codec, {}, {}}) {}
Compressor::~Compressor() = default;

std::string Compressor::write(std::string_view data) {
  if (state_->finished) throw Error(ErrorKind::invalid_argument, "write: the compressor is finished");
  std::string out;
  std::string& pending = state_->pending;
  const size_t batch = kBlockBytes * static_cast<size_t>(state_->threads);
  while (!data.empty()) {
    if (pending.empty() && data.size() >= batch) {   // no copy of what comes in large pieces
      data.remove_prefix(state_->pack(data.substr(0, batch), false, out));
      continue;
    }
    size_t take = std::min(data.size(), batch - pending.size());
    pending.append(data.substr(0, take));
    data.remove_prefix(take);
    if (pending.size() >= batch) pending.erase(0, state_->pack(pending, false, out));
  }
  return out;
}

std::string Compressor::finish() {
  if (state_->finished) throw Error(ErrorKind::invalid_argument, "finish: the compressor is finished");
  std::string out;
  state_->pack(state_->pending, true, out);
  state_->pending.clear();
  state_->finished = true;
  std::string footer = archive_footer(state_->blocks);
  state_->archive_bytes += footer.size();
  return out + footer;
}

uint64_t Compressor::raw_bytes() const { return state_->raw_bytes; }
uint64_t Compressor::archive_bytes() const { return state_->archive_bytes; }
uint64_t Compressor::lines() const { return state_->lines; }

struct Decompressor::State {
  int threads;
  uint64_t max_memory, max_output;
  ByteCodec& codec;
  std::string pending;
  std::vector<BlockInfo> blocks;
  uint64_t consumed = 0;      // archive bytes in front of `pending`
  uint64_t raw_bytes = 0;
  bool inside = false;        // an archive has begun and not ended
  std::exception_ptr failure = nullptr;  // what was found behind the blocks given last: thrown by the next call

  struct Work {
    BlockHeader header;
    std::string_view payload;
    uint64_t offset;
    std::string raw;
  };

  // Reads the next part (header, block or footer) of `pending` at `at`. False if it is not all there yet.
  bool step(size_t& at, std::vector<Work>& work) {
    std::string_view data(pending);
    ByteReader in(data, at);
    if (!inside) {
      if (data.size() - at < kHeaderBytes) return false;
      read_archive_header(data.substr(at), consumed + at);
      inside = true;
      blocks.clear();
      at += kHeaderBytes;
      return true;
    }
    try {
      uint8_t tag = in.byte();
      if (tag == kBlockTag) {
        BlockHeader header = read_block_header(in, data, at);
        check_limits(header);
        std::string_view payload = in.take(header.payload_bytes);
        blocks.push_back(info_of(header, in.at() - at));
        raw_bytes += header.raw_bytes;
        work.push_back({header, payload, consumed + at, {}});
      } else if (tag == kFooterTag) {
        check_footer(in, data, at, blocks);
        inside = false;
      } else {
        corrupt("byte " + std::to_string(consumed + at) + " is " + std::to_string(tag) + "; expected a block (1) or the footer (2)");
      }
    } catch (const ShortInput&) {
      return false;
    }
    at = in.at();
    return true;
  }

  void check_limits(const BlockHeader& header) const {
    uint64_t memory = header.raw_bytes * 2 + header.payload_bytes * 2;
    if (max_memory != 0 && memory > max_memory)
      throw Error(ErrorKind::limit_exceeded, "decompress: a block needs " + std::to_string(memory) + " bytes of memory; expected at most " +
                                                 std::to_string(max_memory));
    if (max_output != 0 && raw_bytes + header.raw_bytes > max_output)
      throw Error(ErrorKind::limit_exceeded,
                  "decompress: the output is more than " + std::to_string(max_output) + " bytes, the limit that was set");
  }
};

Decompressor::Decompressor(int threads, uint64_t max_memory, uint64_t max_output, ByteCodec& codec)
    : state_(new State{resolve_threads(threads), max_memory, max_output, codec, {}, {}}) {}
Decompressor::~Decompressor() = default;

void Decompressor::feed(std::string_view data) { state_->pending.append(data); }

bool Decompressor::next(std::string& out) {
  State& state = *state_;
  out.clear();
  if (state.failure) std::rethrow_exception(state.failure);
  std::vector<State::Work> work;
  size_t at = 0;
  try {
    while (work.size() < static_cast<size_t>(state.threads) && state.step(at, work)) {
    }
  } catch (const Error&) {
    state.failure = std::current_exception();  // whole blocks in front of damage are given, for any number of threads
    if (work.empty()) throw;
  }
  std::vector<std::exception_ptr> errors(work.size());
  parallel_for(static_cast<int64_t>(work.size()), state.threads, [&](int64_t i) {
    State::Work& mine = work[static_cast<size_t>(i)];
    try {
      mine.raw = unpack_checked(mine.header, mine.payload, mine.offset, state.codec);
    } catch (...) {
      errors[static_cast<size_t>(i)] = std::current_exception();
    }
  });
  size_t whole = 0;
  while (whole < work.size() && !errors[whole]) ++whole;
  if (whole < work.size()) {
    state.failure = errors[whole];
    if (whole == 0) std::rethrow_exception(state.failure);
  }
  if (whole == 1) {
    out = std::move(work[0].raw);
  } else {
    for (size_t i = 0; i < whole; ++i) out += work[i].raw;
  }
  state.pending.erase(0, at);
  state.consumed += at;
  return !work.empty();
}

void Decompressor::finish() {
  const State& state = *state_;
  std::string_view rest(state.pending);
  uint64_t size = state.consumed + rest.size();
  bool begins_archive = rest == kMagic.substr(0, std::min(kMagic.size(), rest.size())) || rest.size() > kMagic.size();
  if (!state.inside && !rest.empty() && !begins_archive) read_archive_header(std::string(kHeaderBytes, '?'), state.consumed);
  if (state.inside || !rest.empty() || size == 0)
    corrupt("the input is truncated: it ends at byte " + std::to_string(size) + ", inside an archive");
}

uint64_t Decompressor::raw_bytes() const { return state_->raw_bytes; }
uint64_t Decompressor::archive_bytes() const { return state_->consumed; }

Archive::Archive(std::string_view data, ByteCodec& codec) : data_(data), codec_(codec) {
  // Footers give the offsets, last archive first; what they say is checked against each block when it is read.
  std::vector<std::vector<BlockInfo>> archives;
  uint64_t end = data.size();
  do {
    if (end < kHeaderBytes + kTrailerBytes) {
      if (data.substr(0, kMagic.size()) != kMagic.substr(0, data.size())) read_archive_header(std::string(kHeaderBytes, '?'), 0);
      corrupt("the input is truncated");
    }
    read_archive_header(data, 0);
    if (data.substr(end - kEndMagic.size(), kEndMagic.size()) != kEndMagic)
      corrupt("the trailer is missing: the archive is truncated, or bytes were added at its end");
    uint64_t footer_size = ByteReader(data, end - kTrailerBytes).fixed(8);
    if (footer_size > end - kHeaderBytes || footer_size < kTrailerBytes) corrupt("trailer is damaged");
    uint64_t footer_at = end - footer_size;
    ByteReader in(data.substr(0, end), footer_at);
    if (in.byte() != kFooterTag) corrupt("trailer does not point to a footer");
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
        corrupt("footer has an illegal size");
      total += block.archive_bytes;
      blocks.push_back(block);
    }
    size_t sum_at = in.at();
    if (in.fixed(4) != (hash64(data.data() + footer_at, sum_at - footer_at) & UINT32_MAX)) corrupt("footer is damaged (checksum)");
    if (in.at() + kTrailerBytes != end) corrupt("trailer is damaged");
    if (total + kHeaderBytes > footer_at) corrupt("footer does not agree with the archive's size");
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
      block.index = header.index;
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
  if (in.byte() != kBlockTag) corrupt("byte " + std::to_string(block.offset) + " is no block");
  BlockHeader header = read_block_header(in, own, 0);
  if (header.raw_bytes != block.raw_bytes || header.lines != block.lines || header.open != block.open ||
      header.payload_bytes != own.size() - in.at())
    corrupt("block at byte " + std::to_string(block.offset) + " does not agree with the footer");
  return {header, in.take(header.payload_bytes)};
}

std::string unpack_at(std::string_view data, const BlockInfo& block, ByteCodec& codec, Account* account) {
  auto [header, payload] = find_block(data, block);
  return unpack_checked(header, payload, block.offset, codec, account);
}

// Whether the checksum of a block header at `at` agrees: a look that costs little and throws nothing, for it is had at every byte.
bool is_block_header(std::string_view data, size_t at) {
  if (static_cast<uint8_t>(data[at]) != kBlockTag) return false;
  size_t size = 0, fields = at + 1;
  for (int shift = 0;; shift += 7) {
    if (fields == data.size() || shift > 63) return false;
    uint8_t next = static_cast<uint8_t>(data[fields++]);
    if (shift < 14) size |= size_t{next & 127u} << shift;
    if (shift >= 14 && (next & 127) != 0) return false;
    if (next < 128) break;
  }
  if (size > kMaxHeaderFields || data.size() - fields < size + 4) return false;
  return ByteReader(data, fields + size).fixed(4) == (hash64(data.data() + at, fields + size - at) & UINT32_MAX);
}

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
  parallel_for(static_cast<int64_t>(found.size()), threads, [&](int64_t i) {
    try {
      unpack_at(data, found[static_cast<size_t>(i)], codec, nullptr);
      whole[static_cast<size_t>(i)] = 1;
    } catch (const Error&) {   // checksums agree by chance, or a method is unknown
    }
  });
  Archive out(data, codec, level);
  for (size_t i = 0; i < found.size(); ++i)
    if (whole[i]) out.add_block(std::move(found[i]));
  return out;
}

int Archive::version() const { return kVersion; }

std::string Archive::decompress_block(size_t index) const {
  if (index >= blocks_.size())
    throw Error(ErrorKind::invalid_argument,
                "decompress_block: index is " + std::to_string(index) + "; expected less than " + std::to_string(blocks_.size()));
  return unpack_at(data_, blocks_[index], codec_, nullptr);
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

std::vector<TemplateInfo> Archive::templates() const {
  Account account;
  for (const BlockInfo& block : blocks_) unpack_at(data_, block, codec_, &account);
  std::map<std::string, TemplateInfo> shown;   // texts that differ in the kinds of their slots are one
  for (auto& [text, use] : account.templates) {
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

TemplateColumns Archive::columns(const std::string& text) const {
  ValueAccount values;
  values.text = text;
  for (const BlockInfo& block : blocks_) {
    Account account;
    account.values = &values;
    values.first_line = block.first_line;
    unpack_at(data_, block, codec_, &account);
  }
  return std::move(values.columns);
}

std::vector<StreamInfo> Archive::streams() const {
  Account account;
  uint64_t container = data_.size();
  for (const BlockInfo& block : blocks_) {
    ByteReader in(data_, block.offset + 1);
    container -= read_block_header(in, data_, block.offset).payload_bytes;
    unpack_at(data_, block, codec_, &account);
  }
  account.shares["container"].bits = static_cast<double>(container) * 8;
  std::vector<StreamInfo> out;
  for (auto& [name, share] : account.shares) {
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

}  // namespace slipstick::logs
