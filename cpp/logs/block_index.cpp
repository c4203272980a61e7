// Which letter groups a block has, and its times: see block_index.h. A group is four letters in a row; a text can only be in the block if
// all its groups are. Words of logs are few, numbers are many: so letters alone filter well in a kilobyte a block.

#include "logs/block_index.h"

#include <algorithm>
#include <array>
#include <vector>

#include "logs/bytes.h"

namespace slipstick::logs {
namespace {

enum RecordKind : uint64_t { kLetters = 1, kTimes = 2 };

constexpr size_t kMaxLetterBytes = 960;   // header fields are at most 1024 bytes
constexpr size_t kMinLetterBytes = 8;
constexpr size_t kMinTimesPayload = 4096;   // the record has up to 29 bytes
constexpr size_t kPayloadShare = 256;     // a filter byte for so many bytes of payload
constexpr uint32_t kGroupMask = (1u << 20) - 1;

// 1 to 26, and 0 for what is no letter.
constexpr std::array<uint8_t, 256> letter_codes() {
  std::array<uint8_t, 256> codes{};
  for (size_t i = 1; i <= 26; ++i) codes['a' + i - 1] = codes['A' + i - 1] = static_cast<uint8_t>(i);
  return codes;
}
constexpr std::array<uint8_t, 256> kLetterCodes = letter_codes();

// A group is the codes of its letters, 5 bits each, the last one lowest. Those of a to f alone do not count: every log with
// hexadecimal numbers has nearly all of them.
bool is_group(uint32_t code) {
  bool named = false;
  for (int i = 0; i < 4; ++i) {
    uint32_t letter = code >> (5 * i) & 31;
    if (letter == 0) return false;
    named = named || letter > 6;
  }
  return named;
}

size_t bit_of(uint32_t group, size_t bits) { return static_cast<size_t>(uint64_t{group * 0x9E3779B1u} * bits >> 32); }

std::string letters_of(std::string_view raw, size_t bytes) {
  std::vector<char> seen(size_t{kGroupMask} + 1, 0);   // bytes, not bits: to set a bit waits for what was there
  auto see = [&, text = reinterpret_cast<const unsigned char*>(raw.data())](uint32_t& code, size_t at) {
    code = code << 5 | kLetterCodes[text[at]];
    seen[code & kGroupMask] = 1;
  };
  // Both halves at once, for neither to wait for its own last step.
  const size_t half = raw.size() / 2;
  uint32_t first = 0, second = 0;
  for (size_t at = half - std::min<size_t>(half, 3); at < half; ++at) see(second, at);
  for (size_t at = 0; at < half; ++at) {
    see(first, at);
    see(second, half + at);
  }
  if (raw.size() % 2 != 0) see(second, raw.size() - 1);
  std::string filter(bytes, '\0');
  size_t set = 0;
  for (auto at = seen.begin(); (at = std::find(at, seen.end(), 1)) != seen.end(); ++at) {
    auto group = static_cast<uint32_t>(at - seen.begin());
    if (!is_group(group)) continue;
    size_t bit = bit_of(group, bytes * 8);
    set += (filter[bit / 8] >> (bit % 8) & 1) == 0;
    filter[bit / 8] = static_cast<char>(filter[bit / 8] | 1 << (bit % 8));
  }
  if (set * 2 > bytes * 8) return {};   // too full to tell anything
  return filter;
}

// The least time, zigzag; the greatest as a difference to it; the last as a difference to that.
std::string times_of(std::string_view raw) {
  Microseconds least = INT64_MAX, greatest = kNoTime, last = kNoTime;
  for (size_t at = 0; at < raw.size();) {
    size_t end = std::min(raw.find('\n', at), raw.size());
    Microseconds time = line_time(raw.substr(at, end - at));
    if (time != kNoTime) {
      least = std::min(least, time);
      greatest = std::max(greatest, time);
      last = time;
    }
    at = end + 1;
  }
  std::string out;
  if (last == kNoTime) return out;
  put_varint(out, static_cast<uint64_t>(least) << 1 ^ static_cast<uint64_t>(least >> 63));
  put_varint(out, static_cast<uint64_t>(greatest) - static_cast<uint64_t>(least));
  put_varint(out, static_cast<uint64_t>(greatest) - static_cast<uint64_t>(last));
  return out;
}

void read_times(std::string_view content, BlockIndex& index) {
  ByteReader in(content);
  uint64_t least = in.varint(), span = in.varint(), back = in.varint();
  least = least >> 1 ^ (0 - (least & 1));
  index.least = static_cast<Microseconds>(least);
  index.greatest = static_cast<Microseconds>(least + span);
  index.last = static_cast<Microseconds>(least + span - back);
}

void put_record(std::string& out, RecordKind kind, const std::string& content) {
  if (content.empty()) return;
  put_varint(out, kind);
  put_varint(out, content.size());
  out += content;
}

}  // namespace

std::string make_block_index(std::string_view raw, size_t payload_bytes) {
  std::string out;
  size_t bytes = std::min(kMaxLetterBytes, payload_bytes / kPayloadShare);
  if (bytes >= kMinLetterBytes) put_record(out, kLetters, letters_of(raw, bytes));
  if (payload_bytes >= kMinTimesPayload) put_record(out, kTimes, times_of(raw));
  return out;
}

BlockIndex read_block_index(std::string_view records) {
  BlockIndex index;
  ByteReader in(records);
  while (!in.done()) {
    uint64_t kind = in.varint(), size = in.varint();
    std::string_view content = in.take(size);
    if (kind == kLetters) index.letters = content;
    if (kind == kTimes) read_times(content, index);
  }
  return index;
}

bool may_have(const BlockIndex& index, std::string_view text) {
  if (index.letters.empty()) return true;
  uint32_t code = 0;
  for (char c : text) {
    code = (code << 5 | kLetterCodes[static_cast<unsigned char>(c)]) & kGroupMask;
    if (!is_group(code)) continue;
    size_t bit = bit_of(code, index.letters.size() * 8);
    if ((index.letters[bit / 8] >> (bit % 8) & 1) == 0) return false;
  }
  return true;
}

}  // namespace slipstick::logs
