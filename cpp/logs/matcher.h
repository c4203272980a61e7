// Runs a pattern over lines: a deterministic automaton that is made state by state as bytes call for it (as in grep(1)
// and RE2), so that a byte costs one look-up whatever the pattern is. A state is a set of steps and what kind of byte was
// last; what it does with a byte waits until that byte is seen, for assertions look at both sides of a place.
//
// A Matcher serves one thread at a time and must not outlive its Pattern.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "logs/pattern.h"

namespace slipstick::logs {

struct Span {
  size_t begin = 0, end = 0;   // `end` is past the last byte
};

class Automaton {
 public:
  // Anchored: matches begin where the run begins. Otherwise they begin anywhere in a line, and a run goes over many lines.
  Automaton(const Pattern& pattern, bool anchored);
  // Not anchored: where in text[from, size) it is known that a line matches: in that line, or at its line feed. npos: none does.
  size_t search(std::string_view text, size_t from);
  // Anchored: the end of the longest match that begins at `from`, or npos. `line` has no line feed.
  size_t longest(std::string_view line, size_t from);

 private:
  struct State {
    std::vector<uint32_t> steps;   // of kBytes, kAssertion and kMatch only, sorted
    ByteKind before = kEdge;
  };
  static constexpr uint32_t kUnknown = 0, kStop = 1;     // what a cell of the table can hold besides a row
  static constexpr uint32_t kEnded = uint32_t{1} << 31;  // anchored: a match ends in front of the byte
  static constexpr size_t kMaxCells = size_t{1} << 21;   // 8 MiB; then the table begins anew
  static constexpr size_t kMaxKeyBytes = size_t{1} << 25;

  uint32_t start(ByteKind before);
  uint32_t move(uint32_t row, unsigned byte);
  uint32_t row_of(State state);
  void follow(uint32_t step);
  void close(const State& state, ByteKind after);

  const Pattern& pattern_;
  bool anchored_;
  std::vector<uint32_t> table_;    // by row + class
  std::vector<State> states_;      // by row / classes
  std::unordered_map<std::string, uint32_t> rows_;
  size_t key_bytes_ = 0;           // of all keys of rows_
  uint32_t starts_[3] = {kUnknown, kUnknown, kUnknown};
  // Scratch of follow() and close().
  std::vector<uint32_t> found_, stack_;
  std::vector<uint8_t> seen_;
};

class Matcher {
 public:
  explicit Matcher(const Pattern& pattern) : pattern_(pattern), lines_(pattern, false), spans_(pattern, true) {}
  // The next line that matches, from the beginning `from` of a line on; without its line feed.
  bool next_line(std::string_view text, size_t from, Span& line);
  // The leftmost-longest match of at least one byte that begins at or behind `from` in a line.
  bool next_match(std::string_view line, size_t from, Span& match);

 private:
  const Pattern& pattern_;
  Automaton lines_, spans_;
};

}  // namespace slipstick::logs
