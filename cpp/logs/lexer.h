// Splits log lines into static text and typed slots.
//
// A slot is a piece of a line that is expected to vary: a number, a time of day, a hexadecimal word, an address, an
// identifier. Everything between slots is static text; a line's static text together with the kinds of its slots is its
// shape. Reading a slot gives a 64-bit Value that stands for the slot's exact bytes; what has no exact Value becomes an
// interned string. Hence render(value(bytes)) == bytes for every slot, whatever the input is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "logs/classes.h"
#include "logs/intern.h"

namespace slipstick::logs {

// What a slot holds. The numbers are part of the format (FORMAT.md, "slot kinds").
enum SlotKind : uint8_t {
  kNumber = 1,       // 1 to 18 digits, up to 6 leading zeros, or one leading space for padded days
  kHexLower = 2,     // up to 15 digits of 0-9a-f
  kHexUpper = 3,     // up to 15 digits of 0-9A-F
  kString = 4,       // any bytes but a line feed: identifiers, quoted text, words, the rest of a line
  kAddress = 5,      // IPv4 address, interned
  kDecimal = 8,      // 8 + d, d = 3..9: digits '.' d digits
  kTime = 24,        // 24 + d, d = 0..9: hh:mm:ss and d digits after '.'
  kTimeComma = 40,   // 40 + d: the same with ','
  kTimeColon = 56,   // 56 + d: the same with ':'
};
constexpr int kMaxFraction = 9;

// A slot's bytes in 64 bits. Bit 63 set: an interned string, whose id is in the low bits. Clear: bits 60..62 are the
// number of leading zeros (kSpacePadded: one leading space), bits 0..59 the number.
using Value = uint64_t;
constexpr Value kStringBit = uint64_t{1} << 63;
constexpr Value kNumberMask = (uint64_t{1} << 60) - 1;
constexpr uint64_t kSpacePadded = 7;
constexpr int kZerosShift = 60;

inline bool is_string(Value value) { return (value & kStringBit) != 0; }
inline bool is_numeric_kind(int kind) { return kind != kString && kind != kAddress; }
bool is_legal_kind(int kind);

// Writes the bytes that `value` stands for in a slot of this kind, at most kMaxRendered; returns their end. Any numeric
// value is safe to render.
constexpr size_t kMaxRendered = 32;
char* render_number(int kind, Value value, char* out);

// Which text counts as one value; chosen for each block by trying them on a sample.
struct LexerOptions {
  bool quotes_are_values = false;   // "quoted text" is one slot, unless a colon follows it
  bool paths_are_values = false;    // a/b/c is one slot
};

struct Slot {
  uint32_t begin;   // first byte of the slot in the line
  uint32_t end;     // past its last byte
  uint8_t kind;
  Value value;
};

// Lexes the line data[begin, end) (without its line feed) into `slots`, whose positions count from `begin`. `classes` is
// of all of `data`. Strings are interned.
void lex_line(std::string_view data, size_t begin, size_t end, const ClassMap& classes, const LexerOptions& options, Interner& interner,
              std::vector<Slot>& slots);
// The same for a line by itself.
void lex_line(std::string_view line, const LexerOptions& options, Interner& interner, std::vector<Slot>& slots);

// Reads one slot of a kind that is expected at `at`, without looking at what surrounds it. Returns its end and sets
// `value`, or returns nullptr. Whatever it accepts renders back to the same bytes. Not for kString.
const char* read_slot(int kind, const char* at, const char* end, Interner& interner, Value& value);

}  // namespace slipstick::logs
