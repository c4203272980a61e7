// The model of the `fast` level: the guesses of the row model, but a right guess only lengthens a run, and a wrong one is
// written as a varint in its column's stream. zstd does the rest.
//
// The same members as RowModel, so that blocks are written and read by the same code (model_block.cpp).
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "logs/column_streams.h"
#include "logs/guesses.h"
#include "logs/plan.h"

namespace slipstick::logs {

template <class Coder>
class FastModel : public NewString {
 public:
  FastModel(Coder& coder, int table_bits, uint32_t) : coder_(coder), guesses_(table_bits) { coder_.add_column(); }

  void add_column(Plan plan, int kind) {
    plan.first = choice(plan.first, kContextKinds);
    plan.second = choice(plan.second, kContextKinds);
    columns_.emplace_back();
    Column& column = columns_.back();
    column.numeric = is_numeric_kind(kind);
    if (column.numeric) {
      plan.base = choice(plan.base, kBaseKinds);
      plan.width = choice(plan.width, kMaxWidth + 1);
    }
    column.plan = plan;
    coder_.add_column();
  }
  void add_template(const TemplateSlots& slots) {
    templates_.emplace_back(slots.columns.size());
    for (size_t i = 0; i < slots.columns.size(); ++i) templates_.back()[i].column = slots.columns[i];
  }
  size_t template_count() const { return templates_.size(); }
  size_t column_count() const { return columns_.size(); }

  Value code_session(Value) { return kNoValue; }

  uint32_t code_template(uint32_t id) {
    Guess& first = guesses_.find(0x100, combine(previous_template_, line_.previous_template));
    Guess& second = guesses_.find(0x101, previous_template_);
    uint32_t count = static_cast<uint32_t>(templates_.size());
    if (coder_.guess(kTemplateStream, first.value == id)) {
      if (first.value >= count) corrupt("a template is guessed that is not there");
      id = static_cast<uint32_t>(first.value);
    } else {
      uint64_t code = coder_.miss(kTemplateStream, id == second.value ? 0 : id == count ? 1 : uint64_t{id} + 2);
      uint64_t got = code == 0 ? second.value : code == 1 ? count : code - 2;
      if (got > count) corrupt("a template is out of range");
      id = static_cast<uint32_t>(got);
    }
    first.value = second.value = id;
    line_.previous_template = previous_template_;
    previous_template_ = id;
    return id;
  }

  void begin_line(uint32_t id) {
    line_.begin(id);
    slots_ = templates_[id].data();
  }

  Value code_slot(Value value) {
    SlotPast& slot = slots_[line_.slot];
    Column& column = columns_[slot.column];
    Guess& first = guesses_.of_value(column.plan.first, line_, slot, column);
    if (coder_.guess(slot.column + 1, value == first.value)) {
      value = first.value;
    } else {
      Guess& second = guesses_.of_value(column.plan.second, line_, slot, column);
      value = column.numeric ? code_number(slot.column, column, value, first.value, second.value)
                             : code_string(slot.column, column, value, second.value);
      // Only what the first guess missed moves the second one.
      second.value = value;
      first.value = value;
    }
    column.push(value, line_.left[0]);
    line_.push(value);
    return value;
  }

 private:
  static constexpr uint32_t kTemplateStream = 0;
  // What a miss begins with; larger numbers carry the value itself.
  enum StringCode : uint64_t { kSecondString, kNewString, kForeignString, kFirstPlace };
  enum NumberCode : uint64_t { kSecondNumber, kOddNumber, kPlainNumber, kFirstDifference };

  struct Column : ColumnPast {
    std::vector<Value> dictionary;
    std::unordered_map<Value, uint32_t> places;   // writer only
  };

  [[noreturn]] static void corrupt(const char* what) { throw Error(ErrorKind::corrupt_data, std::string("block: ") + what); }

  uint8_t choice(uint8_t value, int choices) {
    uint64_t got = coder_.plain(value);
    if (got >= static_cast<uint64_t>(choices)) corrupt("a column's plan is illegal");
    return static_cast<uint8_t>(got);
  }

  Value code_string(uint32_t id, Column& column, Value value, Value second) {
    uint32_t stream = id + 1;
    uint64_t code = 0;
    if constexpr (!Coder::kDecodes) {
      auto place = column.places.find(value);
      code = value == second                        ? kSecondString
             : place != column.places.end()         ? kFirstPlace + (column.dictionary.size() - 1 - place->second)
             : value < (kStringBit | string_count_) ? kForeignString
                                                    : kNewString;
    }
    code = coder_.miss(stream, code);
    if (code == kSecondString) {
      if (second == kNoValue || !is_string(second)) corrupt("a string is guessed that is not there");
      return second;
    }
    if (code >= kFirstPlace) {
      if (code - kFirstPlace >= column.dictionary.size()) corrupt("a dictionary place is past its end");
      return column.dictionary[column.dictionary.size() - 1 - (code - kFirstPlace)];
    }
    if (code == kForeignString) {
      uint64_t number = coder_.miss(stream, value & UINT32_MAX);
      if (number >= string_count_) corrupt("a string is used before it is given");
      value = kStringBit | number;
    } else {
      value = kStringBit | string_count_++;
      note_new_string(id);
    }
    if constexpr (!Coder::kDecodes) column.places[value] = static_cast<uint32_t>(column.dictionary.size());
    column.dictionary.push_back(value);
    return value;
  }

  Value code_number(uint32_t id, Column& column, Value value, Value first, Value second) {
    uint32_t stream = id + 1;
    uint64_t base = base_of(column.plan.base, line_, column, first, second);
    uint64_t code = 0;
    if constexpr (!Coder::kDecodes) {
      bool negative = false;
      uint64_t size = signed_difference(value & kNumberMask, base, negative);
      bool usual = (value >> kZerosShift & 7) == usual_zeros(column.plan, value & kNumberMask);
      code = value == second    ? kSecondNumber
             : is_string(value) ? kOddNumber
             : !usual           ? kPlainNumber
                                : kFirstDifference + (size << 1 | static_cast<uint64_t>(negative));
    }
    code = coder_.miss(stream, code);
    if (code == kSecondNumber) {
      if (second == kNoValue) corrupt("a number is guessed that is not there");
      return second;
    }
    if (code == kOddNumber) return code_string(id, column, value, kNoValue);
    if (code == kPlainNumber) return coder_.miss(stream, value) & ~kStringBit;
    uint64_t size = code - kFirstDifference;
    uint64_t number = (size & 1 ? base - (size >> 1) : base + (size >> 1)) & kNumberMask;
    return number | usual_zeros(column.plan, number) << kZerosShift;
  }

  Coder& coder_;
  GuessTable guesses_;
  std::vector<std::vector<SlotPast>> templates_;
  std::vector<Column> columns_;
  LinePast line_;
  SlotPast* slots_ = nullptr;
  uint32_t previous_template_ = 0;
  uint32_t string_count_ = 0;
};

}  // namespace slipstick::logs
