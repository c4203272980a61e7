// States made on demand: see matcher.h.

#include "logs/matcher.h"

#include <algorithm>
#include <cstring>

namespace slipstick::logs {

Automaton::Automaton(const Pattern& pattern, bool anchored) : pattern_(pattern), anchored_(anchored), seen_(pattern.steps.size(), 0) {}

// Adds what `step` leads to without a byte or an assertion.
void Automaton::follow(uint32_t step) {
  stack_.push_back(step);
  while (!stack_.empty()) {
    uint32_t at = stack_.back();
    stack_.pop_back();
    if (seen_[at]) continue;
    seen_[at] = 1;
    found_.push_back(at);
    if (pattern_.steps[at].op == PatternStep::kSplit) {
      stack_.push_back(pattern_.steps[at].other);
      stack_.push_back(pattern_.steps[at].next);
    }
  }
}

// found_: the steps of a state, and those behind assertions that hold in front of a byte of kind `after`.
void Automaton::close(const State& state, ByteKind after) {
  found_.clear();
  for (uint32_t step : state.steps) follow(step);
  for (size_t i = 0; i < found_.size(); ++i) {
    const PatternStep& step = pattern_.steps[found_[i]];
    if (step.op == PatternStep::kAssertion && holds(static_cast<Assertion>(step.argument), state.before, after)) follow(step.next);
  }
  for (uint32_t step : found_) seen_[step] = 0;
}

uint32_t Automaton::row_of(State state) {
  std::string key(reinterpret_cast<const char*>(state.steps.data()), state.steps.size() * sizeof(uint32_t));
  key.push_back(static_cast<char>(state.before));
  auto known = rows_.find(key);
  if (known != rows_.end()) return known->second;
  key_bytes_ += key.size();
  if (table_.size() + pattern_.classes > kMaxCells || key_bytes_ > kMaxKeyBytes) {
    key_bytes_ = key.size();
    table_.clear();
    states_.clear();
    rows_.clear();
    std::fill(std::begin(starts_), std::end(starts_), kUnknown);
  }
  if (table_.empty()) {   // row numbers begin behind kUnknown and kStop
    table_.assign(2 * pattern_.classes, kUnknown);
    states_.resize(2);
  }
  uint32_t row = static_cast<uint32_t>(table_.size());
  table_.resize(table_.size() + pattern_.classes, kUnknown);
  states_.push_back(std::move(state));
  rows_.emplace(std::move(key), row);
  return row;
}

uint32_t Automaton::start(ByteKind before) {
  if (!pattern_.has_assertions) before = kEdge;
  if (starts_[before] != kUnknown) return starts_[before];
  State state;
  state.before = before;
  found_.clear();
  follow(pattern_.start);
  for (uint32_t step : found_) {
    seen_[step] = 0;
    if (pattern_.steps[step].op != PatternStep::kSplit) state.steps.push_back(step);
  }
  std::sort(state.steps.begin(), state.steps.end());
  uint32_t row = row_of(std::move(state));
  return starts_[before] = row;
}

// What the state of `row` does at `byte`, a line feed being the end of a line. The row itself may be gone afterwards.
uint32_t Automaton::move(uint32_t row, unsigned byte) {
  ByteKind kind = byte_kind(static_cast<unsigned char>(byte));
  const size_t cell = row + pattern_.byte_class[byte];
  close(states_[row / pattern_.classes], kind);
  std::vector<uint32_t> open;
  open.swap(found_);
  bool matched = false;
  for (uint32_t step : open) matched = matched || pattern_.steps[step].op == PatternStep::kMatch;
  if (matched && !anchored_) return table_[cell] = kStop;
  for (uint32_t step : open) {
    const PatternStep& at = pattern_.steps[step];
    if (at.op == PatternStep::kBytes && pattern_.sets[at.argument][byte]) follow(at.next);
  }
  if (!anchored_) follow(pattern_.start);
  State next;
  next.before = pattern_.has_assertions ? kind : kEdge;
  for (uint32_t step : found_) {
    seen_[step] = 0;
    if (pattern_.steps[step].op != PatternStep::kSplit) next.steps.push_back(step);
    if (pattern_.steps[step].op == PatternStep::kMatch && !anchored_) matched = true;
  }
  std::sort(next.steps.begin(), next.steps.end());
  const uint32_t ended = anchored_ && matched ? kEnded : 0;
  if (!anchored_ && matched && byte != '\n') return table_[cell] = kStop;
  if (anchored_ && next.steps.empty()) return table_[cell] = kStop | ended;
  size_t states = states_.size();
  uint32_t to = row_of(std::move(next)) | ended;
  if (states_.size() >= states) table_[cell] = to;   // unless the table has begun anew
  return to;
}

size_t Automaton::search(std::string_view text, size_t from) {
  const unsigned char* data = reinterpret_cast<const unsigned char*>(text.data());
  const unsigned char* at = data + from;
  const unsigned char* end = data + text.size();
  const uint8_t* classes = pattern_.byte_class.data();
  uint32_t row = start(kEdge);
  while (at != end) {
    uint32_t next = table_[row + classes[*at]];
    if (next <= kStop) {
      if (next == kUnknown) next = move(row, *at);
      if (next == kStop) return static_cast<size_t>(at - data);
    }
    row = next;
    ++at;
  }
  if (text.size() == from || text.back() == '\n') return std::string_view::npos;
  uint32_t next = table_[row];   // the last line ends without a line feed
  if (next == kUnknown) next = move(row, '\n');
  return next == kStop ? text.size() : std::string_view::npos;
}

size_t Automaton::longest(std::string_view line, size_t from) {
  size_t end = std::string_view::npos;
  uint32_t row = start(from == 0 ? kEdge : byte_kind(static_cast<unsigned char>(line[from - 1])));
  for (size_t at = from; at <= line.size(); ++at) {
    unsigned byte = at == line.size() ? '\n' : static_cast<unsigned char>(line[at]);
    uint32_t next = table_[row + pattern_.byte_class[byte]];
    if (next == kUnknown) next = move(row, byte);
    if (next & kEnded) end = at;
    row = next & ~kEnded;
    if (row == kStop) break;
  }
  return end;
}

namespace {

constexpr size_t kMinMust = 3;   // shorter ones are too frequent to save anything

Span line_around(std::string_view text, size_t from, size_t at) {
  const void* feed = at == from ? nullptr : memrchr(text.data() + from, '\n', at - from);
  Span line;
  line.begin = feed ? static_cast<size_t>(static_cast<const char*>(feed) - text.data()) + 1 : from;
  feed = std::memchr(text.data() + at, '\n', text.size() - at);
  line.end = feed ? static_cast<size_t>(static_cast<const char*>(feed) - text.data()) : text.size();
  return line;
}

size_t find_literal(std::string_view text, size_t from, std::string_view literal) {
  const void* found = memmem(text.data() + from, text.size() - from, literal.data(), literal.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string_view::npos;
}

}  // namespace

bool Matcher::next_line(std::string_view text, size_t from, Span& line) {
  const bool literal = pattern_.is_literal, filtered = !literal && pattern_.must.size() >= kMinMust;
  while (from < text.size()) {
    size_t at = literal    ? find_literal(text, from, pattern_.literal)
                : filtered ? find_literal(text, from, pattern_.must)
                           : lines_.search(text, from);
    if (at == std::string_view::npos) return false;
    line = line_around(text, from, at);
    from = std::min(line.end + 1, text.size());
    if (!filtered || lines_.search(text.substr(0, from), line.begin) != std::string_view::npos) return true;
  }
  return false;
}

bool Matcher::next_match(std::string_view line, size_t from, Span& match) {
  if (pattern_.is_literal) {
    size_t at = from > line.size() ? std::string_view::npos : find_literal(line, from, pattern_.literal);
    match = {at, at + pattern_.literal.size()};
    return at != std::string_view::npos;
  }
  for (; from < line.size(); ++from) {
    size_t end = spans_.longest(line, from);
    if (end == std::string_view::npos || end == from) continue;
    match = {from, end};
    return true;
  }
  return false;
}

}  // namespace slipstick::logs
