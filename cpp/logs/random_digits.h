// Digests, identifiers, keys: digits that nothing foretells, taken out of a text. zstd pays for them with codes that also have to tell them
// from all other bytes, and every other run of digits breaks its repeats; here each costs the bits it has, and the text keeps one byte in
// the place of all digits of a digest. See FORMAT.md, section 3.3.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "logs/bytes.h"

namespace slipstick::logs {

// A text in three parts, of which the second is packed as any text.
struct DigitParts {
  std::string layouts;  // which byte of the rest stands for digits of which alphabet and arrangement
  std::string rest;
  std::string digits;  // their bits
  size_t taken = 0;  // bytes of the text that a mark stands for
  bool hexadecimal = true;  // all digits: two are a byte, so that a byte codec sees whether they are random
};

// Takes out what looks random and stands in the text once: what comes again is cheaper as a repeat. False where that is
// less than a sixteenth of the text. In linear time but for a sort of what was found.
bool take_digits(std::string_view text, DigitParts& parts);

// What may stand in a text for digits, as an archive tells.
class DigitLayouts {
 public:
  // Error{corrupt_data} for what FORMAT.md does not allow.
  explicit DigitLayouts(ByteReader& in);
  // The text of exactly `size` bytes, or Error{corrupt_data}; checked before it is made.
  std::string put_back(std::string_view rest, std::string_view digits, size_t size) const;

 private:
  struct Group {
    size_t digits;
    char behind;  // the separator, where a group follows
  };
  struct Layout {
    int alphabet = 0;
    std::vector<Group> groups;
    size_t digits = 0, bytes = 0;  // of all groups, without and with separators; 0: the byte is no mark
  };
  std::vector<Layout> layouts_;  // by the byte that stands for it
};

}  // namespace slipstick::logs
