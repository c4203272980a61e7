// The parts of an archive as bytes: header, block headers, footer and trailer, written and read. See FORMAT.md, sections 2 and 3.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "logs/block.h"
#include "logs/bytes.h"
#include "slipstick/logs.h"

namespace slipstick::logs {

// A byte above 127, so that no text file starts so; CR LF and ^Z, so that a transfer that changes line ends shows.
inline constexpr std::string_view kMagic = "\x89SLIP\r\n\x1a";
inline constexpr std::string_view kEndMagic = "PILS";
constexpr uint8_t kVersion = 1;
constexpr size_t kHeaderBytes = 10;    // magic, version, level
constexpr size_t kTrailerBytes = 12;   // footer bytes (8), end magic
constexpr uint8_t kBlockTag = 1, kFooterTag = 2;
constexpr uint64_t kMaxBlockBytes = kBlockBytes * 2;   // raw; what a small archive can make a reader allocate
constexpr uint64_t kMaxHeaderFields = 1024;

[[noreturn]] void corrupt_archive(const std::string& what);

struct BlockHeader {
  Method method;
  uint64_t raw_bytes, lines, payload_bytes;
  bool open;               // the last line has no line feed
  uint64_t checksum;       // of the raw bytes
  uint32_t payload_checksum;
  std::string_view index;  // records of block_index.h
};

// Tag, size and fields of a block, and their checksum.
std::string block_header(const BlockHeader& header);

// Reads a block header after its tag, which is at `tag_at` of `data`. The checksum covers tag, size and fields. ShortInput means that the
// header is not all there; fields that end early are damage, for which no more input would help.
BlockHeader read_block_header(ByteReader& in, std::string_view data, size_t tag_at);

// Whether the checksum of a block header at `at` agrees: a look that costs little and throws nothing, for it is had at every byte.
bool is_block_header(std::string_view data, size_t at);

// What an index says of the block.
BlockInfo info_of(const BlockHeader& header, uint64_t archive_bytes);

// `data` begins with at least kHeaderBytes bytes of byte `offset` of the input.
Level read_archive_header(std::string_view data, uint64_t offset);

// Reads footer and trailer after the footer's tag and compares them with the blocks seen.
void check_footer(ByteReader& in, std::string_view data, size_t tag_at, const std::vector<BlockInfo>& blocks);

// `offset`: of the block, for messages. All throw Error{corrupt_data}.
void check_payload(const BlockHeader& header, std::string_view payload, uint64_t offset);
void check_raw(const BlockHeader& header, std::string_view raw, uint64_t offset);
// `prefix`: of a continued block, the end of the block before it.
std::string unpack_checked(const BlockHeader& header, std::string_view payload, uint64_t offset, ByteCodec& codec,
                           std::string_view prefix = {}, Account* account = nullptr);
[[noreturn]] void refuse_first_continued(uint64_t offset);

}  // namespace slipstick::logs
