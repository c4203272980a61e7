// Long repeats of a text, wherever they are: what zstd with a window of 2 MiB loses sight of when a block begins anew.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace slipstick::logs {

struct Repeat {
  size_t at = 0, length = 0;   // in the text
  size_t distance = 0;         // to where the same bytes stand; less than the length where they overlap
};

constexpr size_t kSureRepeat = 8192;   // repeats of so many bytes are found, of less than half as many are not

// Repeats of what stands anywhere before them, from `begin` of the text on: in their order, none over another. In linear time, also of
// texts that were made to be slow.
std::vector<Repeat> find_repeats(std::string_view text, size_t begin);

}  // namespace slipstick::logs
