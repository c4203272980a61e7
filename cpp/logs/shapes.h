// Shapes of lines, static text and kinds of slots: the first pass of structure.h. Lines with the same shape fall together by one hash lookup,
// checked byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "logs/classes.h"
#include "logs/lexer.h"

namespace slipstick::logs {

constexpr uint32_t kRawShape = 0xFFFFFFFF;  // of a line that is one string

// A piece of a shape: a word, the bytes between words, or a slot of the lexer.
struct Element {
  enum Type : uint8_t { kWord, kGap, kLexed } type;
  uint8_t kind = 0;  // of a lexed slot
  bool variable = false;  // a word that became a slot
  uint32_t size = 0;  // of the text of a word or gap; there are millions of them
  const char* begin = nullptr;
  std::string_view text() const { return {begin, size}; }
};

struct Shape {
  std::string_view line;  // a line that has it
  std::vector<Slot> slots;  // of that line
  bool readable = true;  // without kString slots: a line can be read by the shape, see ShapeTable::read_by
  uint32_t lines = 0;
  std::vector<Element> elements;
  std::vector<uint16_t> words;  // positions of the words in `elements`
  uint64_t gaps_hash = 0;  // of everything but the words
  bool merged = false;
  uint32_t rest_from = UINT32_MAX;  // elements from here on are one string
  uint32_t template_id = 0;
};

// Pass 1: every line to its shape.
class ShapeTable {
 public:
  ShapeTable(std::string_view data, const LexerOptions& options, Interner& strings)
      : data_(data), options_(options), strings_(strings), table_(4096, 0), mask_(4095) {}

  void run();

  std::vector<Shape> shapes;
  std::vector<uint32_t> line_shapes;
  std::vector<uint64_t> line_begins;
  std::vector<Value> values;  // of the lexed slots of all lines

 private:
  void add_line(size_t begin, size_t end);
  void note_shape(uint32_t shape);
  bool read_by(uint32_t id, std::string_view line);
  void add_raw(std::string_view line);
  uint32_t find(std::string_view line, uint64_t hash);
  bool same(const Shape& shape, std::string_view line) const;
  void grow();

  std::string_view data_;
  std::string_view window_;  // the part of data_ that classes_ are of
  size_t window_begin_ = 0;
  ClassMap classes_;
  const LexerOptions& options_;
  Interner& strings_;
  std::vector<Slot> slots_;
  std::vector<uint64_t> hashes_;
  std::vector<uint32_t> table_;
  size_t mask_;
  // The shape that last followed a pair of shapes: the first guess for the next line.
  std::vector<uint32_t> followers_ = std::vector<uint32_t>(1u << 14, kRawShape);
  uint32_t previous_ = 0, before_previous_ = 0;
};

}  // namespace slipstick::logs
