// Text that no column foretells: templates and new strings, coded byte by byte.
//
// A context-mixing coder: seven contexts (the last 1 to 6 bytes, the word, the column of the text above) each foretell
// the next bit, a match model follows the longest repeat, and a mixer weighs them (the arrangement of Mahoney's lpaq,
// written anew). Integers only. About 2 MB/s both ways: blocks with much text use zstd instead.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace slipstick::logs {

std::string encode_text(std::string_view text);

// Exactly `size` bytes of text. Any input gives some text; checksums tell damage.
std::string decode_text(std::string_view code, size_t size);

}  // namespace slipstick::logs
