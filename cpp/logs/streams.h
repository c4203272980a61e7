// The streams of which payloads are made: bytes, each with how they are packed and both sizes. See FORMAT.md, section 3.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "logs/bytes.h"
#include "slipstick/logs.h"

namespace slipstick::logs {

enum StreamCodec : uint8_t {
  kStreamStored = 0,
  kStreamZstd = 1,
  kStreamMixed = 2,
  kStreamMax = 3,
  kStreamContinued = 4,
  kStreamTrimmed = 5,   // as continued, trimmed
  kStreamDigits = 6,    // random digits apart, see random_digits.h
};

constexpr size_t kMixedTextBytes = 96 * 1024;    // the text coder takes a second for 1 MB

// Text is at most what a block can make it: every byte of a line once as template and once as value.
inline size_t max_text(size_t raw_size) { return raw_size * 3 + 1024; }

struct Stream {
  std::string own;            // empty if it is stored
  std::string_view stored;
  size_t packed_size = 0;
  size_t digits_packed = 0, digits = 0;   // of digits that were taken out, and how many bytes of the text they are
  std::string_view view() const { return own.empty() ? stored : std::string_view(own); }
};

void put_stream(std::string& out, StreamCodec codec, std::string_view packed, size_t size);

// Error{corrupt_data} for streams of more than `most` bytes. `prefix`: of a continued block.
Stream get_stream(ByteReader& in, size_t most, ByteCodec& codec, std::string_view prefix = {});

}  // namespace slipstick::logs
