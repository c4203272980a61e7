// Blocks that go on where the block before them ends. Blocks are independent, so each tells anew what zstd with its window across the
// whole file would only refer to; where that is much, a block may refer to the end of its predecessor. See FORMAT.md, "continued".
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "slipstick/logs.h"
#include "slipstick/threads.h"

namespace slipstick::logs {

// What a block's successor may refer to.
inline std::string_view prefix_of(std::string_view raw) { return raw.substr(raw.size() - std::min(raw.size(), kPrefixBytes)); }

// body(i) for all i below `count`: at once for different runs, of blocks that continue each other, and in order within a run, which ends where
// body says false. The first of all begins a run, whatever it is.
template <class IsContinued, class Body> void for_each_in_runs(size_t count, int threads, IsContinued is_continued, Body body) {
  std::vector<size_t> begins;
  for (size_t i = 0; i < count; ++i)
    if (i == 0 || !is_continued(i)) begins.push_back(i);
  parallel_for(static_cast<int64_t>(begins.size()), threads, [&](int64_t run) {
    const size_t begin = begins[static_cast<size_t>(run)];
    for (size_t i = begin; i < count && (i == begin || is_continued(i)) && body(i); ++i) {
    }
  });
}

// The payload of `raw` behind `prefix`, which is not empty. Empty if under zstd -3 it would be larger than `limit`; it may become still
// smaller under `better_level`. `first`: see ByteCodec.
std::string pack_continued(std::string_view raw, std::string_view prefix, size_t limit, int better_level, size_t first, ByteCodec& codec);

// Exactly `raw_size` bytes, or Error{corrupt_data}.
std::string unpack_continued(std::string_view payload, std::string_view prefix, size_t raw_size, ByteCodec& codec);

}  // namespace slipstick::logs
