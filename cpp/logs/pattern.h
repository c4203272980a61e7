// A search pattern as grep(1) takes it, turned into a program of steps over bytes. Two syntaxes of POSIX with GNU's
// additions (\w \W \s \S \b \B \< \> and, in basic ones, \+ \? \|) and plain strings; back-references are refused, for they
// are no regular language. A line matches by its bytes, as under LC_ALL=C. Lines of a pattern are alternatives.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "slipstick/logs.h"

namespace slipstick::logs {

// What stands on either side of a place in a line.
enum ByteKind : uint8_t { kEdge, kWordByte, kOtherByte };
enum Assertion : uint8_t { kLineStart, kLineEnd, kWordStart, kWordEnd, kWordEdge, kNoWordEdge };
bool holds(Assertion assertion, ByteKind before, ByteKind after);
ByteKind byte_kind(unsigned char byte);

// A non-deterministic automaton after Thompson (1968): bytes and assertions lead to `next`, a split to both.
struct PatternStep {
  enum Op : uint8_t { kBytes, kSplit, kAssertion, kMatch } op;
  uint32_t argument = 0;   // set of bytes, or Assertion
  uint32_t next = 0, other = 0;
};

struct Pattern {
  std::vector<PatternStep> steps;
  uint32_t start = 0;
  std::vector<std::bitset<256>> sets;
  bool has_assertions = false;
  // Bytes that no set tells apart share a class; class 0 is the line feed and the end of a line.
  std::array<uint8_t, 256> byte_class{};
  size_t classes = 0;
  // The pattern is one string to be found as it is.
  bool is_literal = false;
  std::string literal;
  // Every line that matches has this string as it is; it is found faster than the pattern. May be empty.
  std::string must;
  // Every line that matches has all strings of one of these lists, letters in either case (here in lower). Empty: nothing is known.
  std::vector<std::vector<std::string>> required;
};

// Throws Error{invalid_argument} for what is no pattern, Error{unsupported} for a back-reference, Error{limit_exceeded} for
// a pattern of more than a hundred thousand steps.
Pattern compile_pattern(std::string_view text, PatternSyntax syntax, bool ignore_case);

}  // namespace slipstick::logs
