// Shapes of lines: see shapes.h.

#include "logs/shapes.h"

#include <algorithm>
#include <cstring>

#include "logs/bytes.h"
#include "logs/limits.h"

namespace slipstick::logs {

namespace {

constexpr size_t kWindowBytes = 2 * kMaxParsedLine;
constexpr uint32_t kMaxShapes = 1u << 17;  // further shapes are raw lines
static_assert(kMaxShapes < kMaxTemplates);

}  // namespace

// Window by window, so that the class bitmaps stay in the cache.
void ShapeTable::run() {
  // Pages that are not used cost nothing; moving what is there does.
  values.reserve(data_.size() / 2);
  line_begins.reserve(data_.size() / 32);
  line_shapes.reserve(data_.size() / 32);
  size_t at = 0;
  while (at < data_.size()) {
    size_t window_end = std::min(data_.size(), at + kWindowBytes);
    window_ = data_.substr(at, window_end - at);
    window_begin_ = at;
    classes_.assign(window_);
    while (true) {
      size_t end = window_begin_ + classes_.next(at - window_begin_, window_.size(), [](const ByteClasses& c) { return c.feed; });
      if (end == window_end && window_end < data_.size()) {   // the line goes on behind the window
        if (at > window_begin_) break;
        const void* feed = std::memchr(data_.data() + end, '\n', data_.size() - end);
        end = feed ? static_cast<size_t>(static_cast<const char*>(feed) - data_.data()) : data_.size();
      }
      add_line(at, end);
      at = end + 1;
      if (at >= window_end) break;
    }
  }
}

void ShapeTable::add_line(size_t begin, size_t end) {
  line_begins.push_back(begin);
  std::string_view line = data_.substr(begin, end - begin);
  uint32_t& followed_by = followers_[mix(before_previous_ * 0x9E3779B97F4A7C15u + previous_) % followers_.size()];
  if (followed_by != kRawShape && read_by(followed_by, line)) {
    note_shape(followed_by);
    return;
  }
  slots_.clear();
  if (line.size() > kMaxParsedLine || classes_.any_nul(begin - window_begin_, end - window_begin_)) {
    add_raw(line);
    return;
  }
  lex_line(window_, begin - window_begin_, end - window_begin_, classes_, options_, strings_, slots_);
  uint64_t hash = line.size() == 0 ? 0 : 1;
  size_t from = 0;
  for (const Slot& slot : slots_) {
    hash = combine(hash, hash_bytes(line.data() + from, slot.begin - from) + slot.kind);
    from = slot.end;
  }
  hash = combine(hash, hash_bytes(line.data() + from, line.size() - from));
  uint32_t shape = find(line, hash);
  if (shape == kRawShape) {
    add_raw(line);
    return;
  }
  for (const Slot& slot : slots_) values.push_back(slot.value);
  followed_by = shapes[shape].readable ? shape : kRawShape;
  note_shape(shape);
}

void ShapeTable::note_shape(uint32_t shape) {
  ++shapes[shape].lines;
  line_shapes.push_back(shape);
  before_previous_ = previous_;
  previous_ = shape;
}

// Reads the line as one of a shape that is known, which is several times faster than lexing it. The static text must
// be the same and the slots must be of their kinds; then the line is what the shape and the values say, whatever the
// lexer would have made of it.
bool ShapeTable::read_by(uint32_t id, std::string_view line) {
  const Shape& shape = shapes[id];
  const char* at = line.data();
  const char* end = at + line.size();
  const char* text = shape.line.data();
  uint32_t from = 0;
  if (line.size() > kMaxParsedLine) return false;
  size_t begin = values.size();
  values.resize(begin + shape.slots.size());
  Value* value = values.data() + begin;
  for (const Slot& slot : shape.slots) {
    size_t size = slot.begin - from;
    if (static_cast<size_t>(end - at) < size || !same_bytes(at, text + from, size) ||
        (at = read_slot(slot.kind, at + size, end, strings_, *value++)) == nullptr) {
      values.resize(begin);
      return false;
    }
    from = slot.end;
  }
  size_t size = shape.line.size() - from;
  if (static_cast<size_t>(end - at) == size && same_bytes(at, text + from, size)) return true;
  values.resize(begin);
  return false;
}

void ShapeTable::add_raw(std::string_view line) {
  line_shapes.push_back(kRawShape);
  values.push_back(kStringBit | strings_.intern(line));
}

uint32_t ShapeTable::find(std::string_view line, uint64_t hash) {
  size_t at = hash & mask_;
  while (uint32_t entry = table_[at]) {
    if (hashes_[entry - 1] == hash) return same(shapes[entry - 1], line) ? entry - 1 : kRawShape;
    at = (at + 1) & mask_;
  }
  if (shapes.size() >= kMaxShapes) return kRawShape;
  shapes.emplace_back();
  shapes.back().line = line;
  shapes.back().slots = slots_;
  for (const Slot& slot : slots_) shapes.back().readable = shapes.back().readable && slot.kind != kString;
  hashes_.push_back(hash);
  table_[at] = static_cast<uint32_t>(shapes.size());
  if (shapes.size() * 2 > mask_) grow();
  return static_cast<uint32_t>(shapes.size() - 1);
}

// Equal hashes are not proof: every static byte is compared.
bool ShapeTable::same(const Shape& shape, std::string_view line) const {
  if (shape.slots.size() != slots_.size()) return false;
  size_t from_a = 0, from_b = 0;
  for (size_t i = 0; i <= slots_.size(); ++i) {
    bool last = i == slots_.size();
    size_t to_a = last ? shape.line.size() : shape.slots[i].begin;
    size_t to_b = last ? line.size() : slots_[i].begin;
    if (to_a - from_a != to_b - from_b) return false;
    if (std::memcmp(shape.line.data() + from_a, line.data() + from_b, to_a - from_a) != 0) return false;
    if (!last) {
      if (shape.slots[i].kind != slots_[i].kind) return false;
      from_a = shape.slots[i].end;
      from_b = slots_[i].end;
    }
  }
  return true;
}

void ShapeTable::grow() {
  mask_ = mask_ * 2 + 1;
  table_.assign(mask_ + 1, 0);
  for (uint32_t id = 0; id < shapes.size(); ++id) {
    size_t at = hashes_[id] & mask_;
    while (table_[at]) at = (at + 1) & mask_;
    table_[at] = id + 1;
  }
}

}  // namespace slipstick::logs
