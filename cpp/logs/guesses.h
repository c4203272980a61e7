// Guesses: what a value probably is, from what was seen under a context before. Both levels that model values guess by
// these, and the writer tries them on each column to choose its Plan.
#pragma once

#include <cstdint>
#include <utility>
#include "base/large_pages.h"
#include "logs/hash.h"
#include "logs/lexer.h"

namespace slipstick::logs {

// Under which context the last value is a guess for the next. Part of the format.
enum ContextKind : uint8_t {
  kColumnLast,
  kTemplate,
  kSession,
  kLeft,
  kLeftTwo,
  kPrevious,
  kPreviousTwo,
  kTemplateLeft,
  kTemplateSession,
  kTemplatePrevious,
  kSecondLeft,
  kSessionLeft,
  kTemplatePair,       // this line's template and the one before
  kThirdLeft,
  kTemplateSlotFirst,  // template and the first value of the line
  kStride,             // numbers: last + (last - the one before)
  kLeftOffset,         // numbers: left value + the last difference to it
  kContextKinds
};

// From where a number's difference is taken.
enum BaseKind : uint8_t { kBaseFirst, kBaseSecond, kBaseLast, kBaseLeft, kBaseZero, kBaseKinds };

// How a column is coded; chosen by the writer, stored with the column.
struct Plan {
  uint8_t first = kTemplate;
  uint8_t second = kColumnLast;
  uint8_t base = kBaseLast;
  uint8_t dictionary = 0;   // numbers: ask whether the column had the value before
  uint8_t width = 0;        // numbers: usual width with leading zeros, 0 for none
};
constexpr int kMaxWidth = 18;

constexpr Value kNoValue = UINT64_MAX;   // no slot has it: strings have ids below 2^32
constexpr uint32_t kNoColumn = UINT32_MAX;

// What a guess is made of: the value last seen under a context and how that context did lately.
struct Guess {
  Value value = kNoValue;
  uint32_t check = 0;
  uint32_t history = 0;   // 0 unseen, 1 seen once, then a leading 1 and up to 3 outcomes
};

inline uint32_t push_outcome(uint32_t history, bool hit) {
  if (history == 0) return 1;
  uint32_t next = history << 1 | static_cast<uint32_t>(hit);
  return next < 16 ? next : (next & 7) | 8;
}

inline void settle(Guess& guess, Value value) {
  guess.history = push_outcome(guess.history, guess.value == value);
  guess.value = value;
}

inline int bit_length(uint64_t x) { return x == 0 ? 0 : 64 - __builtin_clzll(x); }

inline uint64_t signed_difference(uint64_t value, uint64_t base, bool& negative) {
  negative = value < base;
  return negative ? base - value : value - base;
}

// The line being coded, up to the present slot.
struct LinePast {
  uint32_t template_id = 0;
  uint32_t slot = 0;
  uint32_t previous_template = 0;   // of the line before
  Value left[3] = {0, 0, 0};
  Value first = 0;
  Value session = kNoValue;

  void begin(uint32_t id) {
    template_id = id;
    slot = 0;
    left[0] = left[1] = left[2] = first = 0;
  }
  void push(Value value) {
    left[2] = left[1];
    left[1] = left[0];
    left[0] = value;
    if (slot == 0) first = value;
    ++slot;
  }
};

// What a column remembers of its values.
struct ColumnPast {
  Plan plan;
  bool numeric = false;
  Value last = 0, before_last = 0;
  Guess last_guess;          // of kColumnLast
  Guess predicted[2];        // of kStride and kLeftOffset
  uint64_t left_offset = 0;

  void push(Value value, Value left) {
    left_offset = value - left;
    before_last = last;
    last = value;
  }
};

// What one slot of one template remembers.
struct SlotPast {
  uint32_t column = 0;
  Guess last;   // of kTemplate
};

// What a model tells its host of the value coded last: whether it is a string that was not known, and of which column. The host has its text.
class NewString {
 public:
  // kNoColumn if there is none. Asking takes it.
  uint32_t take_new_string() { return std::exchange(column_, kNoColumn); }

 protected:
  void note_new_string(uint32_t column) { column_ = column; }

 private:
  uint32_t column_ = kNoColumn;
};

// The number that a difference is taken from.
inline uint64_t base_of(uint8_t kind, const LinePast& line, const ColumnPast& column, Value first, Value second) {
  Value base = kind == kBaseFirst && first != kNoValue     ? first
               : kind == kBaseSecond && second != kNoValue ? second
               : kind == kBaseLeft                         ? line.left[0]
               : kind == kBaseZero                         ? 0
                                                           : column.last;
  return is_string(base) ? 0 : base & kNumberMask;
}

inline int natural_width(uint64_t number) {
  int width = 1;
  for (; number >= 10; number /= 10) ++width;
  return width;
}

// Leading zeros that the column's usual width asks for; a Value holds at most 6.
inline uint64_t usual_zeros(const Plan& plan, uint64_t number) {
  if (plan.width == 0) return 0;
  int zeros = plan.width - natural_width(number);
  return zeros <= 0 ? 0 : zeros < 6 ? static_cast<uint64_t>(zeros) : 6;
}

// The context that a guess of this kind looks under, where it is looked up by hash.
inline uint64_t context_of(uint8_t kind, const LinePast& line, Value last, Value before_last) {
  uint64_t where = static_cast<uint64_t>(line.template_id) << 16 | line.slot;
  switch (kind) {
    case kColumnLast: return 0;
    case kTemplate: return where;
    case kSession: return line.session;
    case kLeft: return line.left[0];
    case kLeftTwo: return combine(line.left[0], line.left[1]);
    case kPrevious: return last;
    case kPreviousTwo: return combine(last, before_last);
    case kTemplateLeft: return combine(where, line.left[0]);
    case kTemplateSession: return combine(where, line.session);
    case kTemplatePrevious: return combine(where, last);
    case kSecondLeft: return combine(line.left[1], 1);
    case kSessionLeft: return combine(line.session, line.left[0]);
    case kTemplatePair: return combine(where, line.previous_template);
    case kThirdLeft: return combine(line.left[2], 2);
    default: return combine(where, line.first);
  }
}

// Guesses by hash of their context. A context that another one displaced starts anew.
class GuessTable {
 public:
  explicit GuessTable(int bits) : guesses_(size_t{1} << bits), mask_((size_t{1} << bits) - 1) {}

  Guess& find(uint32_t space, uint64_t context) {
    uint64_t hash = combine(context, space);
    Guess& guess = guesses_[hash & mask_];
    uint32_t check = static_cast<uint32_t>(hash >> 32);
    if (guess.check != check) {
      guess.check = check;
      guess.history = 0;
      guess.value = kNoValue;
    }
    return guess;
  }

  void prefetch(uint32_t space, uint64_t context) const { __builtin_prefetch(&guesses_[combine(context, space) & mask_]); }

  Guess& of_value(uint8_t kind, const LinePast& line, SlotPast& slot, ColumnPast& column) {
    switch (kind) {
      case kColumnLast: return column.last_guess;
      case kTemplate: return slot.last;
      case kStride: return predict(column.predicted[0], column.last + (column.last - column.before_last));
      case kLeftOffset: return predict(column.predicted[1], line.left[0] + column.left_offset);
      default: return find(kFirstColumnSpace + slot.column * kContextKinds + kind, context_of(kind, line, column.last, column.before_last));
    }
  }

  // Spaces below are for contexts of templates.
  static constexpr uint32_t kFirstColumnSpace = 0x200;

 private:
  static Guess& predict(Guess& guess, uint64_t number) {
    guess.value = number & ~kNumberMask ? kNoValue : number;
    return guess;
  }

  LargeTable<Guess> guesses_;
  size_t mask_;
};

}  // namespace slipstick::logs
