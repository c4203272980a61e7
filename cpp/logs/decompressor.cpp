// Unpacking a stream, fed as it comes: whole blocks are decoded by threads and given in their order, those in front of damage too.

#include <algorithm>
#include <exception>
#include <utility>

#include "logs/container.h"
#include "logs/continued.h"
#include "slipstick/error.h"
#include "slipstick/logs.h"
#include "slipstick/threads.h"

namespace slipstick::logs {

struct Decompressor::State {
  int threads;
  uint64_t max_memory, max_output;
  ByteCodec& codec;
  std::string pending;
  std::vector<BlockInfo> blocks;
  uint64_t consumed = 0;      // archive bytes in front of `pending`
  uint64_t raw_bytes = 0;
  bool inside = false;        // an archive has begun and not ended
  std::string prefix = {};    // of the next block
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
        if (header.method == Method::continued && blocks.empty()) refuse_first_continued(consumed + at);
        const BlockInfo info = info_of(header, in.at() - at + header.payload_bytes);
        check_limits(info);
        std::string_view payload = in.take(header.payload_bytes);
        blocks.push_back(info);
        raw_bytes += header.raw_bytes;
        work.push_back({header, payload, consumed + at, {}});
      } else if (tag == kFooterTag) {
        check_footer(in, data, at, blocks);
        inside = false;
      } else {
        corrupt_archive("byte " + std::to_string(consumed + at) + " is " + std::to_string(tag) +
                        "; expected a block (1) or the footer (2)");
      }
    } catch (const ShortInput&) {
      return false;
    }
    at = in.at();
    return true;
  }

  void check_limits(const BlockInfo& block) const {
    const uint64_t memory = decoding_memory(block);
    if (max_memory != 0 && memory > max_memory)
      throw Error(ErrorKind::limit_exceeded, "decompress: a block needs " + std::to_string(memory) + " bytes of memory; expected at most " +
                                                 std::to_string(max_memory));
    if (max_output != 0 && raw_bytes + block.raw_bytes > max_output)
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
  const auto is_continued = [&](size_t i) { return work[i].header.method == Method::continued; };
  for_each_in_runs(work.size(), state.threads, is_continued, [&](size_t i) {
    try {
      std::string_view prefix;
      if (is_continued(i)) prefix = i == 0 ? std::string_view(state.prefix) : prefix_of(work[i - 1].raw);
      work[i].raw = unpack_checked(work[i].header, work[i].payload, work[i].offset, state.codec, prefix);
      return true;
    } catch (...) {
      errors[i] = std::current_exception();
      return false;   // nothing is given from here on
    }
  });
  if (!work.empty()) state.prefix = std::string(prefix_of(work.back().raw));
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
    corrupt_archive("the input is truncated: it ends at byte " + std::to_string(size) + ", inside an archive");
}

uint64_t Decompressor::raw_bytes() const { return state_->raw_bytes; }
uint64_t Decompressor::archive_bytes() const { return state_->consumed; }

}  // namespace slipstick::logs
