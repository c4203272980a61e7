// Shift-and (Baeza-Yates and Gonnet 1992) over templates and strings: see line_filter.h.

#include "logs/line_filter.h"

#include <algorithm>

#include "logs/lexer.h"

namespace slipstick::logs {
namespace {

constexpr size_t kMaxNeedles = 16;   // each reads all strings of a block

// The kinds of numbers whose bytes differ, and which of them a kind is like.
constexpr int kNumberKinds[] = {kNumber, kHexLower, kHexUpper, kDecimal};
size_t like_kind(int kind) { return kind >= kDecimal ? 3 : kind == kHexUpper ? 2 : kind == kHexLower ? 1 : 0; }

bool is_of_kind(int kind, unsigned char c) {
  if (c >= '0' && c <= '9') return true;
  if (kind >= kDecimal) return c == '.' || c == ':' || c == ',';
  return c == ' ' || (kind == kHexLower && c >= 'a' && c <= 'f') || (kind == kHexUpper && c >= 'A' && c <= 'F');
}

}  // namespace

Needle::Needle(std::string_view text, bool folded) : size_(std::min(text.size(), kMaxBytes)) {
  for (size_t i = 0; i < size_; ++i) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    next_[c] |= uint64_t{1} << i;
    if (folded && c >= 'a' && c <= 'z') next_[c ^ 32u] |= uint64_t{1} << i;
  }
  for (int kind : kNumberKinds)
    for (unsigned c = 0; c < 256; ++c)
      if (is_of_kind(kind, static_cast<unsigned char>(c))) of_kind_[like_kind(kind)] |= next_[c];
}

// Goes on with the states over static text; true once all of the needle was there.
bool Needle::over_text(uint64_t& states, std::string_view text) const {
  for (char c : text) {
    states = (states & next_[static_cast<unsigned char>(c)]) << 1 | 1;
    if (states >> size_ & 1) return true;
  }
  return false;
}

bool Needle::is_in(std::string_view string) const {
  uint64_t states = 1;
  return over_text(states, string);
}

void Needle::read_string(std::string_view string) {
  inside_ = inside_ || is_in(string);
  uint64_t states = 1;
  over_text(states, string.substr(string.size() - std::min(string.size(), size_ - 1)));   // too short to have all of it
  ends_ |= states;
  // From any place at once: after m bytes bit j is set where string[0, m) is what is from j - m to j.
  states = (uint64_t{1} << size_) - 1;
  for (size_t m = 1; m <= string.size(); ++m) {
    states = (states & next_[static_cast<unsigned char>(string[m - 1])]) << 1;
    if (states == 0) return;
    if (states >> size_ & 1) begins_ |= uint64_t{1} << (size_ - m);
  }
  for (size_t j = string.size(); j < size_; ++j)
    if (states >> j & 1) whole_[j - string.size()] |= uint64_t{1} << j;
}

void Needle::read_strings(std::string_view strings) {
  inside_ = false;
  begins_ = ends_ = 0;
  whole_.fill(0);
  for (size_t at = 0; at < strings.size();) {
    size_t end = std::min(strings.find('\n', at), strings.size());
    read_string(strings.substr(at, end - at));
    at = end + 1;
  }
}

bool Needle::over_slot(uint64_t& states, int kind, bool inside) const {
  if ((inside && inside_) || (states & begins_ & ~uint64_t{1}) != 0) return true;
  uint64_t after = ends_ | 1;
  for (size_t i = 1; i < size_; ++i)
    if (states >> i & 1) after |= whole_[i];
  if (is_numeric_kind(kind)) {
    const uint64_t digits = of_kind_[like_kind(kind)];
    uint64_t within = states | 1;
    for (size_t i = 0; i < size_; ++i) {   // a number has any length, but at least one byte
      within = (within & digits) << 1;
      after |= within;
      within |= 1;
    }
  }
  states = after;
  return (states >> size_ & 1) != 0;
}

bool Needle::may_be_in(const TemplatePieces& pieces, bool inside) const {
  uint64_t states = 1;
  if (over_text(states, pieces.texts[0])) return true;
  for (size_t i = 0; i < pieces.kinds.size(); ++i)
    if (over_slot(states, pieces.kinds[i], inside) || over_text(states, pieces.texts[i + 1])) return true;
  return false;
}

LineFilter::LineFilter(const Pattern& pattern) {
  if (!pattern.must.empty()) exact_.emplace_back(pattern.must, false);
  size_t count = 0;
  for (const std::vector<std::string>& all : pattern.required) count += all.size();
  if (count > kMaxNeedles) return;
  for (const std::vector<std::string>& all : pattern.required) {
    alternatives_.emplace_back();
    for (const std::string& text : all) alternatives_.back().emplace_back(text, true);
  }
}

LineFilter LineFilter::of_block(std::string_view strings) const {
  LineFilter own = *this;
  for (Needle& needle : own.exact_) needle.read_strings(strings);
  for (std::vector<Needle>& all : own.alternatives_)
    for (Needle& needle : all) needle.read_strings(strings);
  return own;
}

LineFilter::Verdict LineFilter::verdict(const TemplatePieces& pieces) const {
  auto may = [&](bool inside) {
    auto all = [&](const std::vector<Needle>& needles) {
      return std::all_of(needles.begin(), needles.end(), [&](const Needle& needle) { return needle.may_be_in(pieces, inside); });
    };
    return all(exact_) && (alternatives_.empty() || std::any_of(alternatives_.begin(), alternatives_.end(), all));
  };
  return may(false) ? kAlways : may(true) ? kWithString : kNever;
}

bool LineFilter::is_telling(std::string_view string) const {
  auto any = [&](const std::vector<Needle>& needles) {
    return std::any_of(needles.begin(), needles.end(), [&](const Needle& needle) { return needle.is_in(string); });
  };
  return any(exact_) || std::any_of(alternatives_.begin(), alternatives_.end(), any);
}

}  // namespace slipstick::logs
