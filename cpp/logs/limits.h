// What a block may hold at most: bounds what a small archive can make its reader allocate. Part of the format.
#pragma once

#include <cstddef>

namespace slipstick::logs {

constexpr size_t kMaxParsedLine = 64 * 1024;                   // longer lines are raw
constexpr size_t kMaxTemplateText = 4 * kMaxParsedLine;        // a constant of one byte takes four
constexpr size_t kMaxColumns = size_t{1} << 14;                // the row model keeps 5 kB for each
constexpr size_t kMaxSlots = size_t{1} << 19;                  // of all templates of a block
constexpr size_t kMaxTemplateSlots = 65535;                    // of one: models number them in 16 bits, the last number is the session's
constexpr size_t kMaxTemplates = size_t{1} << 18;

}  // namespace slipstick::logs
