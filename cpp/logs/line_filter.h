// Which templates of a block can have lines that a pattern matches, told from the template's text and the block's strings
// before a value is decoded. A string that every match has is laid over the template at every place; a slot gives way to
// any number of its kind and to any string of the block. So the answer "none" is certain, and "some" often wrong.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "logs/pattern.h"
#include "logs/template_text.h"

namespace slipstick::logs {

// A string to be found somewhere in a line. Prefix states are bits: bit i is set where the last i bytes are its first i.
class Needle {
 public:
  // Letters in either case where `folded`; then `text` is in lower case. A long text counts by its beginning.
  Needle(std::string_view text, bool folded);
  // `strings`: lines, of which some are the strings of the block.
  void read_strings(std::string_view strings);
  // Whether a line of this template can have the text; after read_strings. What is in a string as a whole counts only if `inside`.
  bool may_be_in(const TemplatePieces& pieces, bool inside) const;
  bool is_in(std::string_view string) const;

 private:
  static constexpr size_t kMaxBytes = 62;

  void read_string(std::string_view string);
  bool over_text(uint64_t& states, std::string_view text) const;
  bool over_slot(uint64_t& states, int kind, bool inside) const;

  size_t size_;
  std::array<uint64_t, 256> next_{};   // bit i: the byte is that at i
  std::array<uint64_t, 4> of_kind_{};  // the same of any byte of a number: decimal digits, hex in lower and upper case, with points
  bool inside_ = false;                // a string has all of it
  uint64_t begins_ = 0, ends_ = 0;     // bit i: a string begins with what is from i on; ends with its first i bytes
  std::array<uint64_t, kMaxBytes + 1> whole_{};   // [i], bit j: a string is what is from i to j
};

class LineFilter {
 public:
  explicit LineFilter(const Pattern& pattern);
  // The same for a block with these strings: what `verdict` asks.
  LineFilter of_block(std::string_view strings) const;
  // False if the pattern has no string that every match has: then every line may match.
  bool tells() const { return !exact_.empty() || !alternatives_.empty(); }
  enum Verdict : uint8_t { kNever, kWithString, kAlways };
  // Which lines of a template may match: none, those with a string that is_telling, all.
  Verdict verdict(const TemplatePieces& pieces) const;
  bool is_telling(std::string_view string) const;

 private:
  std::vector<Needle> exact_;                       // all of these
  std::vector<std::vector<Needle>> alternatives_;   // and all of one of these
};

// Lines of a block, in order.
struct LineSelection {
  bool whole = false;              // all lines: then there are no numbers
  std::string text;                // with their line feeds; the block's last one may lack it
  std::vector<uint32_t> numbers;   // in the block
};

}  // namespace slipstick::logs
