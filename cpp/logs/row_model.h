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
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "logs/guesses.h"
#include "logs/plan.h"
#include "logs/range_coder.h"
#include "slipstick/error.h"

namespace slipstick::logs {

// A number of 6 bits or fewer, bit by bit through a tree of adaptive bits.
template <class Coder, int kBits>
struct BitTree {
  Bit bits[1 << kBits];
  uint32_t code(Coder& coder, uint32_t value, BitTree& general) {
    uint32_t node = 1;
    for (int i = kBits - 1; i >= 0; --i)
      node = node << 1 | static_cast<uint32_t>(code_bit(coder, (value >> i & 1) != 0, bits[node], general.bits[node]));
    return node - (1u << kBits);
  }
};

// The length of a difference: below 4, below 12 or any, so that the usual small ones take few decisions.
template <class Coder>
struct LengthTree {
  Bit small, medium;
  BitTree<Coder, 2> small_length;
  BitTree<Coder, 3> medium_length;
  BitTree<Coder, 6> any_length;
  int code(Coder& coder, int length, LengthTree& general) {
    uint32_t value = static_cast<uint32_t>(length);
    if (code_bit(coder, value < 4, small, general.small)) return static_cast<int>(small_length.code(coder, value, general.small_length));
    if (code_bit(coder, value < 12, medium, general.medium))
      return static_cast<int>(4 + medium_length.code(coder, value - 4, general.medium_length));
    return static_cast<int>(any_length.code(coder, value, general.any_length));
  }
};

constexpr int kRing = 32;             // recent values of a session
constexpr uint32_t kSessions = 2048;  // sessions remembered at a time
constexpr int kTreeBits = 10;         // dictionary places are learned in their upper 10 bits

// The recent past of a session (or of the whole log, where there is none).
struct Session {
  Value key = kNoValue;
  uint32_t last_templates[2] = {0, 0};
  uint32_t ring_at = 0;
  Value ring[kRing];
  Session() { std::fill(std::begin(ring), std::end(ring), kNoValue); }
};

template <class Coder>
class RowModel {
 public:
  // The host tells what is in the block: templates and columns as they appear, and strings.
  RowModel(Coder& coder, int table_bits, uint32_t session_column)
      : coder_(coder), guesses_(table_bits), session_column_(session_column), sessions_(session_column == kNoColumn ? 1 : kSessions) {
    session_slot_.column = session_column;
  }

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
  void add_template(const TemplateSlots& slots) {
    templates_.emplace_back();
    templates_.back().slots.resize(slots.columns.size());
    for (size_t i = 0; i < slots.columns.size(); ++i) {
      templates_.back().slots[i].column = slots.columns[i];
      templates_.back().has_session |= slots.columns[i] == session_column_;
    }
  }
  size_t template_count() const { return templates_.size(); }

  // The session value of the coming line, or kNoValue. Returns it.
  Value code_session(Value value) {
    if (session_column_ >= columns_.size()) {   // none, or no template has had it yet
      line_.session = kNoValue;
      session_ = &sessions_[0];
      return kNoValue;
    }
    line_.begin(previous_template_);
    line_.left[0] = previous_session_;
    line_.slot = kSessionSlot;
    misses_ = 0;
    bool has = value != kNoValue;
    has = code_bit(coder_, has, session_flag_[previous_template_ & 4095], session_flag_any_);
    line_.session = kNoValue;
    if (has) line_.session = code_value(session_slot_, value);
    previous_session_ = line_.session;
    session_ = &sessions_[(mix(line_.session) >> 20) % kSessions];
    if (session_->key != line_.session) {
      *session_ = Session();
      session_->key = line_.session;
    }
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
    fourth_ = t3;
    line_.previous_template = previous_template_;
    before_before_ = before_previous_;
    before_previous_ = previous_template_;
    previous_template_ = id;
    session_->last_templates[1] = session_->last_templates[0];
    session_->last_templates[0] = id;
    return id;
  }

  void begin_line(uint32_t id) {
    line_.begin(id);
    misses_ = 0;
    state_ = templates_[id].slots.data();
    session_pending_ = line_.session != kNoValue;
    if (session_pending_ && !templates_[id].has_session)
      throw Error(ErrorKind::corrupt_data, "block: a line has a session value but its template has no place for it");
  }
  size_t column_count() const { return columns_.size(); }

  // The next value of the line. The writer passes it; a string not coded before is new by its number.
  Value code_slot(Value value) {
    SlotState& slot = state_[line_.slot];
    if (session_pending_ && slot.column == session_column_) {
      session_pending_ = false;
      value = line_.session;
    } else {
      value = code_value(slot, value);
    }
    session_->ring[session_->ring_at++ % kRing] = value;
    line_.push(value);
    return value;
  }

  // Writer: was this coded as new text, and under which column? Reader: the same, to fetch the text.
  struct NewString {
    uint32_t column;
  };
  std::vector<NewString>& new_strings() { return new_strings_; }

 private:
  // What is known of one slot of one template.
  struct SlotState : SlotPast {
    uint16_t ring_distance = 1;
    uint16_t ring_history = 1;
  };
  struct TemplateState {
    std::vector<SlotState> slots;
    bool has_session = false;
  };
  static constexpr uint32_t kSessionSlot = 0xFFFF;

  // How far a dictionary place is known: its length, then the bits below the leading one; the upper ones learn.
  struct Places {
    BitTree<Coder, 5> length;
    std::vector<Bit> tree;
  };

  struct Column : ColumnPast {
    int last_length = 0;
    std::vector<Value> dictionary;
    Places places;
    Bit first_hit[16 * 4 * 4];
    Bit second_hit[16 * 4];
    Bit ring_hit[16 * 4];
    Bit known;                     // in the column's dictionary
    Bit foreign;                   // a string known from another column
    Bit odd;                       // a string where numbers are usual
    Bit width_kept;
    Bit sign[8];
    LengthTree<Coder> length[4];
    Bit top[64 * 8];
  };

  uint8_t code_choice(uint8_t value, BitTree<Coder, 5>& tree, int choices) {
    uint32_t got = tree.code(coder_, value, tree);
    if (got >= static_cast<uint32_t>(choices)) throw Error(ErrorKind::corrupt_data, "block: a column's plan is illegal");
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

  Value code_value(SlotState& slot, Value value) {
    Column& column = columns_[slot.column];
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
  Value code_miss(SlotState& slot, Column& column, Value value, Value not_first, Value not_second) {
    if (line_.slot == kSessionSlot) return code_new(slot.column, column, value, not_first, not_second);
    Value copy = session_->ring[(session_->ring_at - slot.ring_distance) % kRing];
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
    for (uint32_t distance = 1; distance <= kRing; ++distance) {
      if (session_->ring[(session_->ring_at - distance) % kRing] != value) continue;
      if (slot.ring_distance != distance) {
        slot.ring_distance = static_cast<uint16_t>(distance);
        slot.ring_history = 1;
      }
      break;
    }
    return value;
  }

  Value code_new(uint32_t column_id, Column& column, Value value, Value not_first, Value not_second) {
    return column.numeric ? code_number(column_id, column, value, not_first, not_second) : code_string(column_id, column, value);
  }

  // Keeps the column's dictionary complete. Returns the place of `value`, or UINT32_MAX if it is new.
  uint32_t remember(uint32_t column_id, Column& column, Value value) {
    if (column.numeric && !column.plan.dictionary) return UINT32_MAX;
    auto [it, fresh] = places_.try_emplace(combine(value, column_id), static_cast<uint32_t>(column.dictionary.size()));
    if (!fresh) return it->second;
    column.dictionary.push_back(value);
    return UINT32_MAX;
  }
  uint32_t place_of(uint32_t column_id, Value value) const {
    auto it = places_.find(combine(value, column_id));
    return it == places_.end() ? UINT32_MAX : it->second;
  }

  // Returns true and sets `value` if it is in the column's dictionary.
  bool code_known(uint32_t column_id, Column& column, Value& value) {
    uint32_t count = static_cast<uint32_t>(column.dictionary.size());
    if (count == 0) return false;
    uint32_t place = 0;
    if constexpr (!Coder::kDecodes) place = place_of(column_id, value);
    bool known = code_bit(coder_, place != UINT32_MAX, column.known, known_any_);
    if (!known) return false;
    value = column.dictionary[code_place(column.places, place, count)];
    return true;
  }

  Value code_string(uint32_t column_id, Column& column, Value value) {
    if (code_known(column_id, column, value)) return value;
    bool foreign = value < (kStringBit | string_count_);
    foreign = code_bit(coder_, foreign, column.foreign, foreign_any_);
    if (foreign) {
      int bits = bit_length(string_count_);
      value = kStringBit | code_plain(coder_, value & UINT32_MAX, bits);
      if (value >= (kStringBit | string_count_)) throw Error(ErrorKind::corrupt_data, "block: a string is used before it is given");
    } else {
      value = kStringBit | string_count_++;
      new_strings_.push_back({column_id});
    }
    remember(column_id, column, value);
    return value;
  }

  Value code_number(uint32_t column_id, Column& column, Value value, Value first, Value second) {
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
  uint64_t code_mantissa(Column& column, uint64_t size, int length) {
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
  uint32_t session_column_;
  std::vector<Session> sessions_;
  Session* session_ = nullptr;
  std::vector<TemplateState> templates_;
  std::vector<Column> columns_;
  SlotState session_slot_;   // of the session value, which comes before its template
  std::unordered_map<uint64_t, uint32_t> places_;
  std::vector<NewString> new_strings_;
  uint32_t string_count_ = 0;

  // The line being coded.
  LinePast line_;
  SlotState* state_ = nullptr;
  Value previous_session_ = 0;
  bool session_pending_ = false;
  uint32_t misses_ = 0;
  uint32_t previous_template_ = 0, before_previous_ = 0, before_before_ = 0;
  uint64_t fourth_ = 0;

  BitTree<Coder, 5> plan_first_, plan_second_, plan_base_, plan_width_;
  Bit plan_dictionary_;
  Bit session_flag_[4096], session_flag_any_;
  Bit template_hit_[3][16 * 16 * 4];
  Bit template_hit_any_[3][16];
  Bit template_new_;
  Places template_places_;
  BitTree<Coder, 5> place_length_any_;
  Bit first_hit_any_[16 * 4 * 4], second_hit_any_[16 * 4], ring_hit_any_[16 * 4];
  Bit known_any_, foreign_any_, odd_any_, width_kept_any_, sign_any_[8];
  LengthTree<Coder> length_any_[4];
  Bit top_any_[64 * 8];
};

}  // namespace slipstick::logs
