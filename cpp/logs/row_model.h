// What comes next in a row of values: the statistical model under the `default` level.
//
// A block is coded line by line: session value, template, then the template's values from left to right. For every
// value up to three guesses are made and asked for one binary decision each: the last value seen under two contexts
// that the writer chose for the column by trial (Plan), and a copy from the recent values of the session, at the
// distance that last worked for this slot. Only what none of them foretells is written out: a number as a difference,
// a string by its place in the column's dictionary or as new text. Decisions are coded with adaptive bits in the
// context of how well the guess did before, shared between columns while a column is young.
//
// RowModel is one template over Encoder and Decoder: there is no second description of the same thing to keep in step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "logs/guesses.h"
#include "logs/plan.h"
#include "logs/range_coder.h"
#include "logs/row_past.h"
#include "slipstick/error.h"

namespace slipstick::logs {

// A number of 6 bits or fewer, bit by bit through a tree of adaptive bits.
template <int kBits>
struct BitTree {
  Bit bits[1 << kBits];
  template <class Coder>
  uint32_t code(Coder& coder, uint32_t value, BitTree& general) {
    uint32_t node = 1;
    for (int i = kBits - 1; i >= 0; --i)
      node = node << 1 | static_cast<uint32_t>(code_bit(coder, (value >> i & 1) != 0, bits[node], general.bits[node]));
    return node - (1u << kBits);
  }
};

// The length of a difference: below 4, below 12 or any, so that the usual small ones take few decisions.
struct LengthTree {
  Bit small, medium;
  BitTree<2> small_length;
  BitTree<3> medium_length;
  BitTree<6> any_length;
  template <class Coder>
  int code(Coder& coder, int length, LengthTree& general) {
    uint32_t value = static_cast<uint32_t>(length);
    if (code_bit(coder, value < 4, small, general.small)) return static_cast<int>(small_length.code(coder, value, general.small_length));
    if (code_bit(coder, value < 12, medium, general.medium))
      return static_cast<int>(4 + medium_length.code(coder, value - 4, general.medium_length));
    return static_cast<int>(any_length.code(coder, value, general.any_length));
  }
};

constexpr int kTreeBits = 10;   // dictionary places are learned in their upper 10 bits

// How far a dictionary place is known: its length, then the bits below the leading one; the upper ones learn.
struct Places {
  BitTree<5> length;
  std::vector<Bit> tree;
};

// What is known of one slot of one template.
struct RowSlot : SlotPast {
  uint16_t ring_distance = 1;
  uint16_t ring_history = 1;
};

struct RowColumn : ColumnPast {
  int last_length = 0;
  std::vector<Value> dictionary;
  Places places;
  Bit first_hit[16 * 4 * 4];
  Bit second_hit[16 * 4];
  Bit ring_hit[16 * 4];
  Bit known;     // in the column's dictionary
  Bit foreign;   // a string known from another column
  Bit odd;       // a string where numbers are usual
  Bit width_kept;
  Bit sign[8];
  LengthTree length[4];
  Bit top[64 * 8];
};

template <class Coder>
class RowModel : public RowPast<RowSlot, RowColumn> {
 public:
  // The host tells what is in the block: templates and columns as they appear, and strings.
  RowModel(Coder& coder, int table_bits, uint32_t session_column) : RowPast(session_column), coder_(coder), guesses_(table_bits) {}

  void add_column(Plan plan, int kind) {
    plan.first = code_choice(plan.first, plan_first_, kContextKinds);
    plan.second = code_choice(plan.second, plan_second_, kContextKinds);
    bool numeric = is_numeric_kind(kind);
    if (numeric) {
      plan.base = code_choice(plan.base, plan_base_, kBaseKinds);
      plan.dictionary = code_bit(coder_, plan.dictionary != 0, plan_dictionary_);
      plan.width = code_choice(plan.width, plan_width_, kMaxWidth + 1);
    }
    columns_.emplace_back();
    columns_.back().plan = plan;
    columns_.back().numeric = numeric;
  }

  // The session value of the coming line, or kNoValue. Returns it.
  Value code_session(Value value) {
    if (!begin_session()) return kNoValue;
    bool has = value != kNoValue;
    has = code_bit(coder_, has, session_flag_[previous_template_ & 4095], session_flag_any_);
    if (has) line_.session = code_value(session_slot_, value);
    enter_session();
    return line_.session;
  }

  // The template of the coming line; template_count() stands for a new one, which the host then adds.
  uint32_t code_template(uint32_t id) {
    uint64_t t1 = previous_template_, t2 = before_previous_, t3 = before_before_;
    uint64_t s1 = session_->last_templates[0], s2 = session_->last_templates[1];
    Guess* guesses[3];
    if (session_column_ == kNoColumn) {
      guesses[0] = &guesses_.find(0x100, combine(combine(combine(t1, t2), t3), fourth_));
      guesses[1] = &guesses_.find(0x101, combine(t1, t2));
    } else {
      guesses[0] = &guesses_.find(0x102, combine(combine(s1, s2), t1));
      guesses[1] = &guesses_.find(0x103, combine(combine(t1, t2), s1));
    }
    guesses[2] = &guesses_.find(0x104, t1);
    bool known = false;
    uint32_t agree = guesses[0]->value == guesses[1]->value ? 1 : 0;
    agree += guesses[0]->value == guesses[2]->value ? 2 : 0;
    for (int i = 0; i < 3 && !known; ++i) {
      Guess& guess = *guesses[i];
      if (guess.history == 0 || guess.value >= templates_.size()) continue;
      if (i > 0 && guess.value == guesses[0]->value) continue;
      if (i > 1 && guess.value == guesses[1]->value) continue;
      uint32_t next_history = i < 2 ? guesses[i + 1]->history : 0;
      Bit& specific = template_hit_[i][(guess.history * 16 + next_history) * 4 + agree];
      Bit& general = template_hit_any_[i][guess.history];
      bool hit = code_bit(coder_, guess.value == id, specific, general);
      if (hit) {
        id = static_cast<uint32_t>(guess.value);
        known = true;
      }
    }
    if (!known) id = code_template_fresh(id);
    for (Guess* guess : guesses) settle(*guess, id);
    push_template(id);
    return id;
  }

  void begin_line(uint32_t id) { begin_values(id); }

  // The next value of the line. The writer passes it; a string not coded before is new by its number.
  Value code_slot(Value value) {
    RowSlot& slot = state_[line_.slot];
    value = takes_session(slot) ? line_.session : code_value(slot, value);
    push_value(value);
    return value;
  }

 private:
  uint8_t code_choice(uint8_t value, BitTree<5>& tree, int choices) {
    uint32_t got = tree.code(coder_, value, tree);
    check_choice(got, choices);
    return static_cast<uint8_t>(got);
  }

  uint32_t code_template_fresh(uint32_t id) {
    uint32_t count = static_cast<uint32_t>(templates_.size());
    bool fresh = code_bit(coder_, id == count, template_new_);
    if (fresh || count == 0) return count;
    id = code_place(template_places_, id, count);
    return id;
  }

  uint32_t code_place(Places& places, uint32_t place, uint32_t count) {
    if (count == 1) return 0;
    if (places.tree.empty()) places.tree.resize(size_t{1} << kTreeBits);
    uint32_t number = place + 1;
    uint32_t length = static_cast<uint32_t>(bit_length(number)) - 1;
    length = places.length.code(coder_, length, place_length_any_);
    uint64_t node = 1;
    for (uint32_t i = length; i-- > 0;) {
      bool bit = number >> i & 1;
      if (node < places.tree.size()) {
        bit = code_bit(coder_, bit, places.tree[node]);
      } else {
        bit = coder_.code(bit, 32768);
      }
      node = node << 1 | static_cast<uint64_t>(bit);
    }
    if (node > count) throw Error(ErrorKind::corrupt_data, "block: a dictionary place is past its end");
    return static_cast<uint32_t>(node - 1);
  }

  Value code_value(RowSlot& slot, Value value) {
    RowColumn& column = columns_[slot.column];
    Guess& first = guesses_.of_value(column.plan.first, line_, slot, column);
    Guess& second = guesses_.of_value(column.plan.second, line_, slot, column);
    Value first_value = first.history == 0 ? kNoValue : first.value;
    Value second_value = second.history == 0 ? kNoValue : second.value;
    bool hit = false;
    uint32_t stress = misses_ & 3;
    if (first_value != kNoValue) {
      uint32_t doubt = second_value == kNoValue ? 0 : second_value == first_value ? 1 : second.history & 1 ? 2 : 3;
      uint32_t at = (first.history * 4 + doubt) * 4 + stress;
      hit = code_bit(coder_, value == first_value, column.first_hit[at], first_hit_any_[at]);
      if (hit) value = first_value;
    }
    if (!hit && second_value != kNoValue && second_value != first_value) {
      uint32_t at = second.history * 4 + stress;
      hit = code_bit(coder_, value == second_value, column.second_hit[at], second_hit_any_[at]);
      if (hit) value = second_value;
    }
    misses_ <<= 1;
    if (!hit) {
      value = code_miss(slot, column, value, first_value, second_value);
      misses_ |= 1;
    }
    settle(first, value);
    if (&second != &first) settle(second, value);
    column.push(value, line_.left[0]);
    return value;
  }

  // A value that neither context foretold: a copy, a known value, or something new.
  Value code_miss(RowSlot& slot, RowColumn& column, Value value, Value not_first, Value not_second) {
    if (line_.slot == kSessionSlot) return code_new(slot.column, column, value, not_first, not_second);
    Value copy = session_->back(slot.ring_distance);
    if (copy != kNoValue && copy != not_first && copy != not_second && is_string(copy) <= !column.numeric) {
      uint32_t at = slot.ring_history * 4u + (misses_ >> 1 & 3);
      bool hit = code_bit(coder_, value == copy, column.ring_hit[at], ring_hit_any_[at]);
      slot.ring_history = static_cast<uint16_t>(push_outcome(slot.ring_history, hit));
      if (hit) {
        remember(slot.column, column, copy);
        return copy;
      }
    }
    value = code_new(slot.column, column, value, not_first, not_second);
    const uint32_t distance = distance_of(value);
    if (distance != 0 && slot.ring_distance != distance) {
      slot.ring_distance = static_cast<uint16_t>(distance);
      slot.ring_history = 1;
    }
    return value;
  }

  Value code_new(uint32_t column_id, RowColumn& column, Value value, Value not_first, Value not_second) {
    return column.numeric ? code_number(column_id, column, value, not_first, not_second) : code_string(column_id, column, value);
  }

  // Returns true and sets `value` if it is in the column's dictionary.
  bool code_known(uint32_t column_id, RowColumn& column, Value& value) {
    uint32_t count = static_cast<uint32_t>(column.dictionary.size());
    if (count == 0) return false;
    uint32_t place = 0;
    if constexpr (!Coder::kDecodes) place = place_of(column_id, value);
    bool known = code_bit(coder_, place != UINT32_MAX, column.known, known_any_);
    if (!known) return false;
    value = column.dictionary[code_place(column.places, place, count)];
    return true;
  }

  Value code_string(uint32_t column_id, RowColumn& column, Value value) {
    if (code_known(column_id, column, value)) return value;
    bool foreign = value < (kStringBit | string_count_);
    foreign = code_bit(coder_, foreign, column.foreign, foreign_any_);
    if (foreign) {
      int bits = bit_length(string_count_);
      value = kStringBit | code_plain(coder_, value & UINT32_MAX, bits);
      if (value >= (kStringBit | string_count_)) throw Error(ErrorKind::corrupt_data, "block: a string is used before it is given");
    } else {
      value = kStringBit | string_count_++;
      note_new_string(column_id);
    }
    remember(column_id, column, value);
    return value;
  }

  Value code_number(uint32_t column_id, RowColumn& column, Value value, Value first, Value second) {
    bool odd = is_string(value);
    odd = code_bit(coder_, odd, column.odd, odd_any_);
    if (odd) return code_string(column_id, column, value);
    if (column.plan.dictionary && code_known(column_id, column, value)) return value;
    uint64_t base = base_of(column.plan.base, line_, column, first, second);
    bool negative = false;
    uint64_t size = signed_difference(value & kNumberMask, base, negative);
    uint32_t context = column.last_length == 0 ? 0 : column.last_length < 6 ? 1 : column.last_length < 14 ? 2 : 3;
    int length = column.length[context].code(coder_, bit_length(size), length_any_[context]);
    if (length > 60) throw Error(ErrorKind::corrupt_data, "block: a difference has more than 60 bits");
    column.last_length = length;
    if (length > 0) {
      int bucket = std::min(length / 4, 7);
      negative = code_bit(coder_, negative, column.sign[bucket], sign_any_[bucket]);
      size = code_mantissa(column, size, length);
    } else {
      size = 0;
    }
    uint64_t number = (negative ? base - size : base + size) & kNumberMask;
    uint64_t zeros = value >> kZerosShift & 7;
    uint64_t usual = usual_zeros(column.plan, number);
    bool kept = code_bit(coder_, zeros == usual, column.width_kept, width_kept_any_);
    zeros = kept ? usual : code_plain(coder_, zeros, 3);
    value = number | zeros << kZerosShift;
    remember(column_id, column, value);
    return value;
  }

  // The bits below the leading one: the first three are learned, the rest are noise.
  uint64_t code_mantissa(RowColumn& column, uint64_t size, int length) {
    uint64_t result = 1;
    int left = length - 1;
    uint32_t node = 1;
    for (int i = 0; i < 3 && left > 0; ++i, --left) {
      bool bit = size >> (left - 1) & 1;
      bit = code_bit(coder_, bit, column.top[length * 8 + node], top_any_[length * 8 + node]);
      node = node << 1 | static_cast<uint32_t>(bit);
      result = result << 1 | static_cast<uint64_t>(bit);
    }
    return result << left | code_plain(coder_, size, left);
  }

  Coder& coder_;
  GuessTable guesses_;

  BitTree<5> plan_first_, plan_second_, plan_base_, plan_width_;
  Bit plan_dictionary_;
  Bit session_flag_[4096], session_flag_any_;
  Bit template_hit_[3][16 * 16 * 4];
  Bit template_hit_any_[3][16];
  Bit template_new_;
  Places template_places_;
  BitTree<5> place_length_any_;
  Bit first_hit_any_[16 * 4 * 4], second_hit_any_[16 * 4], ring_hit_any_[16 * 4];
  Bit known_any_, foreign_any_, odd_any_, width_kept_any_, sign_any_[8];
  LengthTree length_any_[4];
  Bit top_any_[64 * 8];
};

}  // namespace slipstick::logs
