// Blocks that go on where the block before them ends. Blocks are independent, so each tells anew what zstd with its window across the
// whole file would only refer to; where that is much, a block may refer to the end of its predecessor. See FORMAT.md, "continued".
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "slipstick/logs.h"

namespace slipstick::logs {

// What a block's successor may refer to.
inline std::string_view prefix_of(std::string_view raw) { return raw.substr(raw.size() - std::min(raw.size(), kPrefixBytes)); }

// The payload of `raw` behind `prefix`, which is not empty. Empty if it would be larger than `limit`.
std::string pack_continued(std::string_view raw, std::string_view prefix, size_t limit, ByteCodec& codec);

// Exactly `raw_size` bytes, or Error{corrupt_data}.
std::string unpack_continued(std::string_view payload, std::string_view prefix, size_t raw_size, ByteCodec& codec);

}  // namespace slipstick::logs
