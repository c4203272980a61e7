// Trimmed zstd frames: see trimmed.h. A frame's header is known, and of the 24 bits in front of each of its blocks few are a surprise: sizes
// are below 2^18 and much like the last one.

#include "logs/trimmed.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "logs/bytes.h"
#include "logs/guesses.h"
#include "logs/range_coder.h"

namespace slipstick::logs {
namespace {

constexpr uint32_t kMagic = 0xFD2FB528;
constexpr uint64_t kMaxSize = 128 * 1024;  // of a zstd block
enum Kind : uint64_t { kRaw, kRun, kCompressed, kKinds };

struct Block {
  uint64_t kind = kRaw, size = 0;
  uint64_t body() const { return kind == kRun ? 1 : size; }
};

uint64_t max_blocks(size_t raw_size) { return raw_size / 256 + 2; }

// What tells the blocks' kinds and sizes, read or written.
template <class Coder> class Headers {
 public:
  explicit Headers(Coder& coder) : coder_(coder) {}
  Block next(const Block& block) {
    const uint64_t kind = tree(kind_, block.kind, 2);
    if (kind >= kKinds) throw Error(ErrorKind::corrupt_data, "block: a zstd block is of an unknown kind");
    Of& of = of_[kind];
    const int64_t change = static_cast<int64_t>(block.size) - of.size;
    const int length = static_cast<int>(tree(of.length, static_cast<uint64_t>(bit_length(static_cast<uint64_t>(std::abs(change)))), 5));
    int64_t size = of.size;
    if (length > 0) {
      const bool less = code_bit(coder_, change < 0, of.less);
      const int64_t top = int64_t{1} << (length - 1);
      const int64_t by = top + static_cast<int64_t>(code_plain(coder_, static_cast<uint64_t>(std::abs(change) - top), length - 1));
      size += less ? -by : by;
    }
    if (size < 0 || size > static_cast<int64_t>(kMaxSize)) throw Error(ErrorKind::corrupt_data, "block: a zstd block is of illegal size");
    of.size = size;
    return {kind, static_cast<uint64_t>(size)};
  }

 private:
  struct Of {
    Bit length[32], less;
    int64_t size = 0;
  };
  uint64_t tree(Bit* bits, uint64_t value, int depth) {
    uint64_t node = 1;
    for (int i = depth - 1; i >= 0; --i) node = 2 * node + static_cast<uint64_t>(code_bit(coder_, (value >> i & 1) != 0, bits[node]));
    return node - (uint64_t{1} << depth);
  }
  Coder& coder_;
  Bit kind_[4];
  Of of_[kKinds];
};

// What is behind the frame's header, or nothing for frames that are not trimmed.
std::string_view blocks_of(std::string_view frame) {
  if (frame.size() < 5 || ByteReader(frame).fixed(4) != kMagic) return {};
  const uint8_t flags = static_cast<uint8_t>(frame[4]);
  const bool single = (flags & 32) != 0;
  if ((flags & (16 | 8 | 4 | 3)) != 0) return {};  // unused, reserved, checksum, dictionary
  const int size_flag = flags >> 6;
  const size_t size_bytes = size_flag == 0 ? (single ? 1 : 0) : size_t{1} << size_flag;
  const size_t header = 5 + (single ? 0 : 1) + size_bytes;
  return frame.substr(std::min(frame.size(), header));
}

}  // namespace

std::string trim_frame(std::string_view frame, size_t raw_size) {
  const std::string_view blocks = blocks_of(frame);
  Encoder coder;
  Headers<Encoder> headers(coder);
  uint64_t count = 0;
  std::string bodies;
  bodies.reserve(blocks.size());
  size_t at = 0;
  for (bool last = false; !last; ++count) {
    if (blocks.size() - at < 3 || count == max_blocks(raw_size)) return {};
    const uint64_t header = ByteReader(blocks, at).fixed(3);
    const Block block{header >> 1 & 3, header >> 3};
    last = (header & 1) != 0;
    at += 3;
    if (block.kind >= kKinds || block.size > kMaxSize || blocks.size() - at < block.body()) return {};
    headers.next(block);
    bodies += blocks.substr(at, block.body());
    at += block.body();
  }
  if (at != blocks.size()) return {};
  const std::string told = coder.finish();
  std::string out;
  put_varint(out, count);
  put_varint(out, told.size());
  out += told;
  out += bodies;
  return out.size() < frame.size() ? out : std::string();
}

std::string whole_frame(std::string_view trimmed, size_t raw_size) {
  ByteReader in(trimmed);
  const uint64_t count = in.varint();
  if (count == 0 || count > max_blocks(raw_size)) in.fail("has an illegal number of zstd blocks");
  const std::string_view told = in.take(in.varint());
  Decoder coder(told.data(), told.size());
  Headers<Decoder> headers(coder);
  std::string out;
  out.reserve(trimmed.size() + 3 * count + 9);
  put_fixed(out, kMagic, 4);
  out.push_back('\xA0');  // one segment; its size in four bytes
  put_fixed(out, raw_size, 4);
  for (uint64_t i = 0; i < count; ++i) {
    const Block block = headers.next({});
    put_fixed(out, (i + 1 == count) | block.kind << 1 | block.size << 3, 3);
    out += in.take(block.body());
  }
  if (!in.done()) in.fail("goes on after the last zstd block");
  return out;
}

}  // namespace slipstick::logs
