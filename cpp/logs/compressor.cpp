// Packing a stream: cut into blocks, which threads pack, and written out in their order.

#include <algorithm>

#include "logs/block.h"
#include "logs/container.h"
#include "logs/continued.h"
#include "logs/hash.h"
#include "slipstick/error.h"
#include "slipstick/logs.h"
#include "slipstick/threads.h"

namespace slipstick::logs {

struct Compressor::State {
  Level level;
  int threads;
  ByteCodec& codec;
  std::string pending;
  std::vector<BlockInfo> blocks;
  uint64_t raw_bytes = 0, archive_bytes = 0, lines = 0, feeds = 0;
  bool begun = false, finished = false;
  std::string prefix = {};   // of the next block

  // Ends of the blocks that `input` is cut into: after the last line feed that fits, unless that leaves less than a whole prefix. Binary data
  // have no lines; there zstd's own blocks begin where they would in the whole file.
  static std::vector<size_t> cut(std::string_view input, bool all) {
    std::vector<size_t> ends;
    size_t at = 0;
    while (input.size() - at >= kBlockBytes || (all && at < input.size())) {
      size_t size = std::min(kBlockBytes, input.size() - at);
      if (size == kBlockBytes && is_text(input.substr(at, size))) {
        size_t feed = input.substr(at, size).rfind('\n');
        if (feed != std::string_view::npos && feed + 1 >= kPrefixBytes) size = feed + 1;
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
      PackedBlock block =
          pack_block(raw, level, codec, i == 0 ? std::string_view(prefix) : prefix_of(input.substr(0, from)), raw_bytes + from);
      BlockHeader header{block.method,
                         raw.size(),
                         count_lines(raw),
                         block.payload.size(),
                         raw.back() != '\n',
                         hash64(raw.data(), raw.size()),
                         static_cast<uint32_t>(hash64(block.payload.data(), block.payload.size())),
                         block.index};
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
    if (ends.empty()) return 0;
    if (!all) prefix = std::string(prefix_of(input.substr(0, ends.back())));
    return ends.back();
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
    if (pending.empty() && data.size() >= batch) {  // no copy of what comes in large pieces
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

}  // namespace slipstick::logs
