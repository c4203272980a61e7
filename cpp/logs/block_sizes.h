// The sizes that a block under a model begins with.
#pragma once

#include <cstdint>

#include "logs/column_streams.h"
#include "logs/guesses.h"
#include "logs/range_coder.h"
#include "slipstick/error.h"

namespace slipstick::logs {

constexpr int kMinTableBits = 10, kMaxTableBits = 17;

inline int choose_table_bits(size_t values) {
  int bits = kMinTableBits;
  while (bits < kMaxTableBits && (size_t{1} << bits) < values) ++bits;
  return bits;
}

// A number of the block's header, below 2^32. Under the range coder: its length, then its bits.
template <class Coder>
uint32_t code_size(Coder& coder, uint32_t value) {
  int bits = static_cast<int>(code_plain(coder, static_cast<uint64_t>(bit_length(value)), 6));
  if (bits > 32) throw Error(ErrorKind::corrupt_data, "block: a size has more than 32 bits");
  return static_cast<uint32_t>(code_plain(coder, value, bits));
}
inline uint32_t code_size(StreamWriter& coder, uint32_t value) { return static_cast<uint32_t>(coder.plain(value)); }
inline uint32_t code_size(StreamReader& coder, uint32_t) {
  uint64_t value = coder.plain(0);
  if (value > UINT32_MAX) throw Error(ErrorKind::corrupt_data, "block: a size has more than 32 bits");
  return static_cast<uint32_t>(value);
}

}  // namespace slipstick::logs
