// Text under the level `max`: templates and new strings, byte by byte, by many contexts at once.
//
// Two match models follow the longest repeats; the byte that a long one expects is one decision. Other bytes are coded
// bit by bit under the last 1 to 5 bytes, the word, the shape of numbers, the string above and the column that the text
// belongs to. All start from a vocabulary of common log text (vocabulary.cpp), which is what makes small files small.
// About 1 to 2 MB/s both ways.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "logs/techniques.h"

namespace slipstick::logs {

// `off`: the code can then not be decoded.
std::string encode_mixed_text(std::string_view text, SwitchedOff off = {});

// Bounds what a small archive can make its reader do: longer texts, and those that pack better than that, are for zstd.
constexpr size_t kMaxMixedText = size_t{4} << 20;
constexpr bool is_plausible_mixed_text(size_t size, size_t packed_size) { return size / 4096 <= packed_size; }

// Exactly `size` bytes of text. Any input gives some text; checksums tell damage.
std::string decode_mixed_text(std::string_view code, size_t size);

// The text that the model has read before the first byte.
std::string_view vocabulary();

}  // namespace slipstick::logs
