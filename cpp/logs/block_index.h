// What a block's header tells about its lines beyond sizes, so that a search can pass over the block. See FORMAT.md, section 3.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "logs/line_time.h"

namespace slipstick::logs {

// The records at the end of a header, for a block whose payload has so many bytes: at most 1/256 of them and a few more.
std::string make_block_index(std::string_view raw, size_t payload_bytes);

struct BlockIndex {
  // Of the lines that tell a time (line_time.h): the least, the greatest, the last; all kNoTime where nothing is known.
  Microseconds least = kNoTime, greatest = kNoTime, last = kNoTime;
  std::string_view letters;   // bits of the letter groups that the block has; empty where nothing is known
};

// Throws Error{corrupt_data} for records that overlap their end; unknown kinds are passed over.
BlockIndex read_block_index(std::string_view records);

// False if no line of the block has this text, letters in either case. `text` is in lower case.
bool may_have(const BlockIndex& index, std::string_view text);

}  // namespace slipstick::logs
