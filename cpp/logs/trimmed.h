// zstd frames without what zstd's layout spends and a reader need not be told. See FORMAT.md, section 3.2.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace slipstick::logs {

// One zstd frame of `raw_size` bytes, trimmed. Empty where that cannot be or is not smaller: where it is no frame, or has a dictionary's
// number, a checksum, or blocks without end.
std::string trim_frame(std::string_view frame, size_t raw_size);

// A frame of the same blocks, or Error{corrupt_data}. It is for the codec to say whether they are `raw_size` bytes.
std::string whole_frame(std::string_view trimmed, size_t raw_size);

}  // namespace slipstick::logs
