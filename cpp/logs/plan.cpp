// Choosing plans: see plan.h.

#include "logs/plan.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "logs/template_text.h"

namespace slipstick::logs {
namespace {

constexpr size_t kTrialValues = 4096;    // values of a column that a trial looks at
constexpr size_t kFastTrialValues = 128;
constexpr size_t kFastLines = 8192;            // looked at in a row; then an eighth of the rest
constexpr size_t kAllTrialValues = 1u << 20;   // of all columns: bounds the writer's memory
constexpr float kStringMissBits = 9;     // rough cost of a value that no guess foretold
constexpr int kTrialTableBits = 13;

// A guess of the run that stamped it. Others count as empty, which spares clearing the table thousands of times.
struct StampedGuess {
  Guess guess;
  uint32_t run = 0;
};

// One value of a column and the line in front of it.
struct Occurrence {
  Value value;
  LinePast line;
};

// The price of adaptive yes/no decisions, in bits.
class Price {
 public:
  float of(bool hit, uint32_t history) {
    float& p = chance_[history];
    float bits = hit ? -std::log2(p) : -std::log2(1 - p);
    p += ((hit ? 0.998f : 0.002f) - p) * 0.04f;
    return bits;
  }
  std::array<float, 32> chance_ = [] {
    std::array<float, 32> a;
    a.fill(0.5f);
    return a;
  }();
};

class ColumnTrial {
 public:
  ColumnTrial(const std::vector<Occurrence>& values, bool numeric, Effort effort, std::vector<StampedGuess>& table, uint32_t& runs)
      : values_(values), numeric_(numeric), effort_(effort), table_(table), runs_(runs) {}

  Plan choose() {
    std::array<std::vector<Value>, kContextKinds> guesses;
    std::array<std::vector<uint8_t>, kContextKinds> histories;
    float miss_bits = numeric_ ? number_bits() : kStringMissBits;
    Plan plan;
    float best = 1e30f;
    for (int kind = 0; kind < kContextKinds; ++kind) {
      if (!numeric_ && (kind == kStride || kind == kLeftOffset)) continue;
      if (effort_ == Effort::fast && !is_cheap(kind)) continue;
      run(kind, guesses[kind], histories[kind]);
      Price price;
      float bits = 0;
      for (size_t i = 0; i < values_.size(); ++i) {
        bool hit = guesses[kind][i] == values_[i].value;
        bits += price.of(hit, histories[kind][i]);
        if (!hit) bits += miss_bits;
      }
      if (bits < best) {
        best = bits;
        plan.first = static_cast<uint8_t>(kind);
      }
    }
    best = 1e30f;
    const auto& first = guesses[plan.first];
    for (int kind = 0; kind < kContextKinds; ++kind) {
      if (guesses[kind].empty()) continue;
      Price price, second_price;
      float bits = 0;
      for (size_t i = 0; i < values_.size(); ++i) {
        Value value = values_[i].value;
        bool agree = guesses[kind][i] == first[i];
        bool hit = first[i] == value;
        bits += price.of(hit, histories[plan.first][i] + (agree ? 16u : 0u));
        if (hit) continue;
        if (!agree) {
          bool second_hit = guesses[kind][i] == value;
          bits += second_price.of(second_hit, histories[kind][i]);
          if (second_hit) continue;
        }
        bits += miss_bits;
      }
      if (bits < best) {
        best = bits;
        plan.second = static_cast<uint8_t>(kind);
      }
    }
    if (numeric_) choose_number(plan, first, guesses[plan.second]);
    return plan;
  }

 private:
  // What `kind` would have guessed for each value, and its history then.
  void run(int kind, std::vector<Value>& guesses, std::vector<uint8_t>& histories) {
    ++runs_;
    guesses.resize(values_.size());
    histories.resize(values_.size());
    Value last = 0, before = 0, offset = 0;
    Guess predicted;
    for (size_t i = 0; i < values_.size(); ++i) {
      const Occurrence& o = values_[i];
      Guess* guess = &predicted;
      if (kind == kStride) {
        predicted.value = last + (last - before);
      } else if (kind == kLeftOffset) {
        predicted.value = o.line.left[0] + offset;
      } else {
        uint64_t hash = mix(context_of(static_cast<uint8_t>(kind), o.line, last, before) * 0x9E3779B97F4A7C15u + 1);
        StampedGuess& entry = table_[hash >> (64 - kTrialTableBits)];
        guess = &entry.guess;
        uint32_t check = static_cast<uint32_t>(hash);
        if (entry.run != runs_ || guess->check != check) entry = {{kNoValue, check, 0}, runs_};
      }
      guesses[i] = guess->history == 0 ? kNoValue : guess->value;
      histories[i] = static_cast<uint8_t>(guess->history);
      settle(*guess, o.value);
      offset = o.value - o.line.left[0];
      before = last;
      last = o.value;
    }
  }

  // Guesses of the fast level: looked up without a hash, or worth one.
  static bool is_cheap(int kind) {
    return kind == kColumnLast || kind == kTemplate || kind == kLeft || kind == kPrevious || kind == kTemplateLeft || kind == kStride ||
           kind == kLeftOffset;
  }

  static uint64_t number_of(Value value) { return is_string(value) ? 0 : value & kNumberMask; }

  // A typical price of writing a number as a difference to the last one.
  float number_bits() const {
    double sum = 0;
    for (size_t i = 1; i < values_.size(); ++i) {
      bool negative;
      sum += bit_length(signed_difference(number_of(values_[i].value), number_of(values_[i - 1].value), negative));
    }
    return static_cast<float>(3 + sum / static_cast<double>(values_.size()));
  }

  void choose_number(Plan& plan, const std::vector<Value>& first, const std::vector<Value>& second) {
    std::array<double, kBaseKinds> sums{};
    size_t misses = 0, repeats = 0, zeros = 0;
    std::array<uint32_t, 32> widths{};
    std::unordered_map<Value, uint32_t> seen;
    for (size_t i = 0; i < values_.size(); ++i) {
      Value value = values_[i].value;
      uint64_t number = number_of(value);
      uint64_t leading = value >> kZerosShift & 7;
      if (leading != 0 && leading != kSpacePadded && !is_string(value)) {
        ++zeros;
        uint64_t width = leading;
        for (uint64_t rest = number;; rest /= 10) {
          ++width;
          if (rest < 10) break;
        }
        ++widths[width & 31];
      }
      bool known = !seen.try_emplace(value, 0).second;
      if (first[i] == value || second[i] == value) continue;
      ++misses;
      if (known) ++repeats;
      Value last = i > 0 ? values_[i - 1].value : 0;
      const Value bases[kBaseKinds] = {first[i] == kNoValue ? last : first[i], second[i] == kNoValue ? last : second[i], last,
                                       values_[i].line.left[0], 0};
      for (int base = 0; base < kBaseKinds; ++base) {
        bool negative;
        sums[base] += bit_length(signed_difference(number, number_of(bases[base]), negative));
      }
    }
    for (int base = 0; base < kBaseKinds; ++base)
      if (sums[base] < sums[plan.base]) plan.base = static_cast<uint8_t>(base);
    if (misses > 0) {
      double difference_bits = 2.5 + sums[plan.base] / static_cast<double>(misses);
      double place_bits = 0.8 * std::log2(static_cast<double>(seen.size()) + 1);
      double share = static_cast<double>(repeats) / static_cast<double>(misses);
      plan.dictionary = share * (difference_bits - place_bits) > 1.0 ? 1 : 0;
    }
    if (zeros > 0) {
      size_t usual = 0;
      for (size_t width = 1; width <= kMaxWidth; ++width)
        if (widths[width] > widths[usual]) usual = width;
      plan.width = static_cast<uint8_t>(usual);
    }
  }

  const std::vector<Occurrence>& values_;
  bool numeric_;
  Effort effort_;
  std::vector<StampedGuess>& table_;
  uint32_t& runs_;   // of the table; at most kMaxColumns * kContextKinds a block
};

// The slot whose value best tells which template comes next in its session.
uint32_t choose_session(const Structure& structure, const std::vector<TemplateSlots>& slots, size_t columns) {
  constexpr size_t kLines = 65536;
  size_t lines = std::min(structure.line_templates.size(), kLines);
  if (lines < 64) return kNoColumn;
  // Columns that most lines have, in one place of the line.
  std::vector<uint32_t> count(columns, 0);
  for (size_t line = 0; line < lines; ++line) {
    const TemplateSlots& here = slots[structure.line_templates[line]];
    for (size_t i = 0; i < here.columns.size(); ++i)
      if (std::find(here.columns.begin(), here.columns.begin() + static_cast<ptrdiff_t>(i), here.columns[i]) ==
          here.columns.begin() + static_cast<ptrdiff_t>(i))
        ++count[here.columns[i]];
  }
  std::vector<uint32_t> candidates;
  for (uint32_t column = 0; column < columns; ++column)
    if (count[column] > lines / 5) candidates.push_back(column);
  if (candidates.size() > 24) candidates.resize(24);
  auto cost = [&](uint32_t column) {
    std::vector<Guess> table(1u << 14);
    std::unordered_map<Value, uint32_t> last;
    Price price;
    float bits = 0;
    uint32_t previous = 0;
    size_t at = 0;
    uint32_t sessions = 0;
    for (size_t line = 0; line < lines; ++line) {
      uint32_t id = structure.line_templates[line];
      const TemplateSlots& here = slots[id];
      Value session = kNoValue;
      for (size_t i = 0; i < here.columns.size() && column != kNoColumn; ++i)
        if (here.columns[i] == column) {
          session = structure.values[at + i];
          break;
        }
      at += here.columns.size();
      uint32_t* mine = &last[session];
      if (*mine == 0) ++sessions;
      uint64_t context = column == kNoColumn ? combine(previous, 1) : combine(*mine, previous);
      Guess& guess = table[mix(context) >> 50];
      bool hit = guess.history != 0 && guess.value == id;
      bits += price.of(hit, guess.history);
      if (!hit) bits += 6;
      settle(guess, id);
      previous = id + 1;
      *mine = previous;
    }
    return bits + static_cast<float>(sessions) * 2;
  };
  float best = cost(kNoColumn) * 0.97f;
  uint32_t chosen = kNoColumn;
  for (uint32_t column : candidates) {
    float bits = cost(column);
    if (bits < best) {
      best = bits;
      chosen = column;
    }
  }
  return chosen;
}

}  // namespace

TemplateSlots ColumnTable::add_template(std::string_view text) {
  TemplateSlots slots;
  for (std::string& key : column_keys(text)) {
    const uint32_t next = static_cast<uint32_t>(kinds_.size());
    const uint32_t column = by_ == Columns::by_slot ? next : ids_.try_emplace(key, next).first->second;
    slots.columns.push_back(column);
    slots.kinds.push_back(static_cast<uint8_t>(key[0]));
    if (column != next) continue;
    kinds_.push_back(static_cast<uint8_t>(key[0]));
    keys_.push_back(std::move(key));
  }
  return slots;
}

BlockPlan make_plan(const Structure& structure, Columns by, Effort effort, SwitchedOff off) {
  BlockPlan plan;
  plan.by = by;
  ColumnTable table(by);
  for (const std::string& text : structure.templates) plan.slots.push_back(table.add_template(text));
  size_t columns = table.kinds().size();
  plan.columns.resize(columns);
  if (effort == Effort::sketch) return plan;
  if (effort != Effort::fast && !off.has(Technique::sessions)) plan.session_column = choose_session(structure, plan.slots, columns);
  if (off.has(Technique::plans)) return plan;
  std::vector<std::vector<Occurrence>> occurrences(columns);
  size_t trial_values =
      std::clamp<size_t>(kAllTrialValues / std::max<size_t>(columns, 1), 64, effort == Effort::fast ? kFastTrialValues : kTrialValues);
  size_t at = 0;
  uint32_t previous_template = 0;
  for (size_t line = 0; line < structure.line_templates.size(); ++line) {
    uint32_t id = structure.line_templates[line];
    const TemplateSlots& here = plan.slots[id];
    if (effort == Effort::fast && line >= kFastLines && (line / 1024) % 8 != 0) {
      at += here.columns.size();
      previous_template = id;
      continue;
    }
    Occurrence o{};
    o.line.begin(id);
    o.line.previous_template = previous_template;
    for (size_t i = 0; i < here.columns.size(); ++i) {
      if (here.columns[i] == plan.session_column) {
        o.line.session = structure.values[at + i];
        break;
      }
    }
    for (size_t i = 0; i < here.columns.size(); ++i) {
      o.value = structure.values[at + i];
      std::vector<Occurrence>& into = occurrences[here.columns[i]];
      if (into.size() < trial_values) into.push_back(o);
      o.line.push(o.value);
    }
    at += here.columns.size();
    previous_template = id;
  }
  std::vector<StampedGuess> guesses(size_t{1} << kTrialTableBits);
  uint32_t runs = 0;
  for (size_t column = 0; column < columns; ++column)
    if (occurrences[column].size() > 1)
      plan.columns[column] = ColumnTrial(occurrences[column], is_numeric_kind(table.kinds()[column]), effort, guesses, runs).choose();
  return plan;
}

}  // namespace slipstick::logs
