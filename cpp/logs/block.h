// One block of raw bytes as an archive block's payload, and back. See FORMAT.md, "blocks".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "logs/account.h"
#include "logs/line_filter.h"
#include "logs/techniques.h"
#include "slipstick/logs.h"

namespace slipstick::logs {

enum class Method : uint8_t { stored = 0, zstd = 1, fast = 2, standard = 3, max = 4, continued = 5, trimmed = 6 };
constexpr int kMethods = 7;
const char* method_name(Method method);

struct PackedBlock {
  Method method = Method::stored;
  std::string payload;
  std::string index;   // records of block_index.h, where a model made the payload: in others they would cost more than zstd leaves
};

// Payload and index are at most what the block takes under zstd -3, less what trimming leaves of that (trimmed.h), and at most the block
// itself: see pack_block. Models' results are decoded and compared first. `prefix`: the end of the block before it (prefix_of), without
// which the block is independent. `offset`: where the block begins in the input.
PackedBlock pack_block(std::string_view raw, Level level, ByteCodec& codec, std::string_view prefix = {}, uint64_t offset = 0);

// The size of the block's payload under the level's model, without some techniques: it cannot be read.
size_t ablated_size(std::string_view raw, Level level, SwitchedOff off, ByteCodec& codec);

// Exactly `raw_size` bytes of `lines` lines, or Error{corrupt_data}. `account`, if given, learns where the bytes went.
std::string unpack_block(Method method, std::string_view payload, size_t lines, size_t raw_size, ByteCodec& codec,
                         Account* account = nullptr, std::string_view prefix = {});

// The lines of a block that a filter cannot rule out, in less time than all of them. False where blocks of this method have no templates to ask.
bool select_lines(Method method, std::string_view payload, size_t lines, size_t raw_size, ByteCodec& codec, const LineFilter& filter,
                  LineSelection& out);

// Whether bytes may have lines worth looking at.
bool is_text(std::string_view raw);

uint64_t count_lines(std::string_view raw);

}  // namespace slipstick::logs
