// What comes next in a row of values, under the level `max`: many sources, mixed.
//
// As in RowModel a block is coded line by line: session value, template, values from left to right. Where RowModel asks
// two guesses that the writer chose, this model asks all contexts for what they saw last and before (candidates.h),
// ranks the candidates and codes "is it this one?" for each; what no candidate foretells is a place in the column's
// dictionary or a difference, bit by bit. Every decision is mixed from all sources and from adaptive bits under
// contexts of the column, the template, the neighbours in the line and the session (mixing.h).
//
// The same members as RowModel, so that blocks are written and read by the same code (model_block.cpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "logs/candidates.h"
#include "logs/guesses.h"
#include "logs/plan.h"
#include "logs/row_past.h"
#include "logs/techniques.h"
#include "slipstick/error.h"

namespace slipstick::logs {

// Sources of values: some contexts of guesses.h, each with a memory in the table, then predictions, which have none.
// More contexts cost time and, beyond these, bits.
struct MaxSources {
  static constexpr int kHashedSources = 9;
  static constexpr uint8_t kHashedKinds[kHashedSources] = {kColumnLast,   kTemplate,        kSession,      kLeftTwo,  kPreviousTwo,
                                                           kTemplateLeft, kTemplateSession, kTemplatePair, kThirdLeft};
  static constexpr int kSessionSource = 6;   // kTemplateSession
  static_assert(kHashedKinds[kSessionSource] == kTemplateSession);
  enum Source { kFromStride = kHashedSources, kFromLeftOffset, kFromSlotOffset, kFromSessionStride, kFromRing, kValueSources };
  static constexpr int kPredictedSources = kValueSources - kHashedSources;
  static_assert(kValueSources <= kMaxSources);
  static constexpr uint8_t kNotSure = 255;
};

struct MaxSlot : SlotPast {
  uint64_t left_offset = 0, step = 0;
  uint16_t ring_distance = 1;
  uint8_t hits = 0;
  uint8_t sure_source = MaxSources::kNotSure;
  uint8_t runs[MaxSources::kValueSources] = {};   // how often in a row each source was right
  Bit sure[2];                                    // on a line without and with a recent miss
};

struct MaxColumn : ColumnPast {
  MaxColumn() : trust(MaxSources::kValueSources) {}
  bool is_time = false;
  uint8_t last_length = 0;
  SourceTrust trust;
  Memory predictions[MaxSources::kPredictedSources];
  std::vector<Value> dictionary;
  Bit low[64];   // of differences, the bits that no context is asked for
  Bit usual_width;
};

template <class Coder>
class MaxModel : private MaxSources, public RowPast<MaxSlot, MaxColumn> {
 public:
  MaxModel(Coder& coder, int table_bits, uint32_t session_column)
      : RowPast(session_column),
        coder_(coder),
        memories_(table_bits + 2),
        groups_(table_bits + 2),
        value_trust_(kValueSources),
        template_trust_(kTemplateSources),
        candidate_mixer_(kCandidateSets, 2 * (kOwnSets + 1), kFirstWeight * 2),
        symbol_mixer_(kSymbolSets, 2 * kOwnSets, kFirstWeight * 3),
        candidate_apm_(1024),
        symbol_apm_(1024) {}

  // A writer's: see techniques.h.
  void switch_off(SwitchedOff off) { off_ = off; }

  void add_column(Plan plan, int kind) {
    plan.first = code_choice(plan.first, kContextKinds);
    plan.second = code_choice(plan.second, kContextKinds);
    bool numeric = is_numeric_kind(kind);
    if (numeric) {
      plan.base = code_choice(plan.base, kBaseKinds);
      plan.dictionary = code_choice(plan.dictionary, 2);
      plan.width = code_choice(plan.width, kMaxWidth + 1);
    }
    columns_.emplace_back();
    columns_.back().plan = plan;
    columns_.back().numeric = numeric;
    columns_.back().is_time = kind >= kTime;
  }

  Value code_session(Value value) {
    last_line_hash_ = line_hash_;
    if (!begin_session()) return kNoValue;
    uint64_t contexts[kSymbolContexts];
    for (int i = 0; i < kSymbolContexts; ++i)
      contexts[i] = combine(i < 1   ? 0
                            : i < 2 ? previous_template_
                            : i < 3 ? combine(previous_template_, before_previous_)
                                    : previous_session_ + static_cast<uint64_t>(i),
                            70 + static_cast<uint64_t>(i));
    find_groups(contexts, 0);
    if (code_symbol_bit(value != kNoValue, kHasSession, contexts[0], kSessionSet)) line_.session = code_value(session_slot_, value);
    enter_session();
    return line_.session;
  }

  // The template of the coming line; template_count() stands for a new one, which the host then adds.
  uint32_t code_template(uint32_t id) {
    uint64_t t1 = previous_template_, t2 = before_previous_, t3 = before_before_, t4 = fourth_;
    uint64_t s1 = session_->last_templates[0], s2 = session_->last_templates[1];
    uint64_t two = combine(t1, t2), three = combine(two, t3);
    const uint64_t contexts[kTemplateSources] = {
        t1, two, three, combine(three, t4), combine(s1, s2), combine(combine(s1, s2), t1), combine(two, s1), combine(last_line_hash_, t1),
    };
    Memory* sources[kTemplateSources];
    for (int i = 0; i < kTemplateSources; ++i) sources[i] = &memories_.find(combine(contexts[i], 0x100 + static_cast<uint64_t>(i)));
    uint32_t count = static_cast<uint32_t>(templates_.size());
    const uint64_t flags[kFlagContexts] = {template_hits_ & 255, combine(t1, template_hits_ & 7), combine(s1, gap_)};
    Value value = id;
    denied_ = kNoValue;
    if (!code_candidate(value, sources, kTemplateSources, template_own_, template_trust_, flags, kOwnSets, kTemplateRanks, 1, count)) {
      uint64_t places[kSymbolContexts] = {1, t1, two, combine(s1, 3), gap_};
      for (int i = 0; i < kSymbolContexts; ++i) places[i] = combine(places[i], 0x300 + static_cast<uint64_t>(i));
      find_groups(places, 0);
      bool fresh = code_symbol_bit(value == count, kIsNew, places[0], kTemplateSet);
      if (fresh || count == 0) {
        value = count;
      } else {
        value = code_place(value, count, places, kTemplateSet);
      }
      template_hits_ <<= 1;
    } else {
      template_hits_ = template_hits_ << 1 | 1;
    }
    for (Memory* source : sources) {
      settle(*source, value);
      if (is_off(Technique::second_values)) source->value[1] = kNoValue;
    }
    id = static_cast<uint32_t>(value);
    push_template(id);
    return id;
  }

  void begin_line(uint32_t id) {
    begin_values(id);
    line_hash_ = id;
    left_length_[0] = left_length_[1] = 0;
  }

  Value code_slot(Value value) {
    MaxSlot& slot = state_[line_.slot];
    value = takes_session(slot) ? line_.session : code_value(slot, value);
    push_value(value);
    if (!columns_[slot.column].is_time) line_hash_ = combine(line_hash_, value);
    return value;
  }

 private:
  static constexpr int kTemplateSources = 8;
  static constexpr int kFlagContexts = 3;
  static constexpr int kSymbolContexts = 5;
  static constexpr int kCandidateInputs = 32;   // sources, two a flag context, one constant; padded
  static constexpr int kSymbolInputs = 16;
  static constexpr int kOwnSets = 2048;
  static constexpr int kValueRanks = 6, kTemplateRanks = 6;
  static constexpr int kCandidateSets = 2 * 4 * 8;   // values or templates, rank, how many agree
  enum SymbolSet { kSessionSet, kTemplateSet, kPlaceSet, kKindSet, kLengthSet, kMantissaSet, kSymbolSets = 8 };
  // Nodes of the group of salt 0: yes or no.
  enum YesNo : uint32_t { kHasSession = 1, kIsNew = 1, kIsKnown = 1, kIsForeign = 2, kIsOdd = 3 };
  static constexpr int kSureRun = 16;        // a source right so often in a row is asked alone
  static constexpr int kRate = 10;                           // of the mixers
  static constexpr int32_t kFirstWeight = (1 << 20) / 25;

  uint8_t code_choice(uint8_t value, int choices) {
    uint64_t got = code_plain(coder_, value, 5);
    check_choice(got, choices);
    return static_cast<uint8_t>(got);
  }

  bool is_off(Technique technique) const {
    if constexpr (Coder::kDecodes) return false;
    return off_.has(technique);
  }
  static Technique technique_of(uint8_t kind) {
    if (kind == kLeftTwo || kind == kTemplateLeft || kind == kThirdLeft) return Technique::left_sources;
    if (kind == kPreviousTwo || kind == kTemplatePair) return Technique::past_sources;
    return Technique::count;
  }

  // Is it one of the candidates? Asks for at most `ranks` of them.
  bool code_candidate(Value& value, Memory* const* sources, int count, SourceTrust& own, SourceTrust& general, const uint64_t* flags,
                      size_t own_set, int ranks, uint64_t space, Value limit) {
    ranking_.fill(sources, count, own, general);
    uint64_t hashes[kFlagContexts];
    for (int i = 0; i < kFlagContexts; ++i) hashes[i] = combine(combine(flags[i], static_cast<uint64_t>(i)), 0x500 + space);
    BitGroup* groups[kFlagContexts + 2];
    groups_.find(hashes, kFlagContexts, groups);
    int rank = 0;
    for (int place = 0; place < ranking_.count() && rank < ranks; ++place) {
      Value candidate = ranking_.value(place);
      if (candidate >= limit || candidate == denied_) continue;
      if (rank > 1 && ranking_.score(place) < kHopeless) break;
      if (code_flag(value == candidate, candidate, sources, count, own, general, groups, own_set, rank, space)) {
        value = candidate;
        return true;
      }
      ++rank;
    }
    return false;
  }
  static constexpr uint32_t kHopeless = (1u << 22) / 64;

  bool code_flag(bool hit, Value candidate, Memory* const* sources, int count, SourceTrust& own, SourceTrust& general, BitGroup** groups,
                 size_t own_set, int rank, uint64_t space) {
    Bit* own_bits[kMaxSources];
    Bit* general_bits[kMaxSources];
    int16_t* inputs = candidate_mixer_.inputs;
    uint32_t votes = 0;
    int agree = 0;
    for (int i = 0; i < count; ++i) {
      if (sources[i]->history == 0) {
        inputs[i] = 0;
        own_bits[i] = nullptr;
        continue;
      }
      int state = vote_state(*sources[i], candidate);
      if (state < 16) {
        votes |= 1u << i;
        ++agree;
      }
      own_bits[i] = &own.of(i, state);
      general_bits[i] = &general.of(i, state);
      inputs[i] = kLogits.stretch[blend(*own_bits[i], *general_bits[i]) >> 10];
    }
    // Those of the candidate itself and of who votes for it; the others were found for all ranks.
    const uint64_t hashes[2] = {combine(combine(candidate, own_set), 0x510 + space), combine(combine(votes, own_set), 0x520 + space)};
    groups_.find(hashes, 2, groups + kFlagContexts);
    uint32_t node = static_cast<uint32_t>(std::min(rank, 6)) + 1;
    int16_t* at = inputs + count;
    for (int i = 0; i < kFlagContexts + 2; ++i, at += 2) put_inputs(is_off(Technique::hashed_flags) ? Bit() : groups[i]->at(node), at);
    *at++ = 64;
    while (at < inputs + kCandidateInputs) *at++ = 0;
    int shown_rank = std::min(rank, 3), shown_agree = std::min(agree * 8 / (count + 1), 7);
    size_t shared = ((space & 1) * 4 + static_cast<size_t>(shown_rank)) * 8 + static_cast<size_t>(shown_agree);
    int logit = candidate_mixer_.mix(shared, own_set * 2 + (rank > 0));
    int refined = candidate_apm_.refine(logit, (own_set * 2 + (rank > 0)) & 1023);
    if (is_off(Technique::corrections)) refined = squash(logit);
    bool bit = coder_.code(hit, clamp_mixed((squash(logit) * 3 + refined) >> 2));
    if (!is_off(Technique::learned_weights)) candidate_mixer_.learn(bit, kRate);
    candidate_apm_.learn(bit, 6);
    for (int i = 0; i < count; ++i) {
      if (!own_bits[i]) continue;
      learn(*own_bits[i], bit, kBitLimit);
      learn(*general_bits[i], bit, kBitLimit);
    }
    for (int i = 0; i < kFlagContexts + 2; ++i) learn(groups[i]->at(node), bit, kBitLimit);
    return bit;
  }

  // The groups of the next decisions under contexts[0..kSymbolContexts), all of them joined with `salt`.
  void find_groups(const uint64_t* contexts, uint64_t salt) {
    uint64_t hashes[kSymbolContexts];
    for (int i = 0; i < kSymbolContexts; ++i) hashes[i] = combine(contexts[i], salt);
    groups_.find(hashes, kSymbolContexts, found_);
  }

  // One bit at a node of those groups. `context`: that of the own weights.
  bool code_symbol_bit(bool bit, uint32_t node, uint64_t context, SymbolSet set) {
    int16_t* at = symbol_mixer_.inputs;
    for (int i = 0; i < kSymbolContexts; ++i, at += 2) put_inputs(found_[i]->at(node), at);
    *at++ = 64;
    while (at < symbol_mixer_.inputs + kSymbolInputs) *at++ = 0;
    int logit = symbol_mixer_.mix(set, context % (2 * kOwnSets));
    int refined = symbol_apm_.refine(logit, (context + set) & 1023);
    if (is_off(Technique::corrections)) refined = squash(logit);
    bit = coder_.code(bit, clamp_mixed((squash(logit) * 3 + refined) >> 2));
    if (!is_off(Technique::learned_weights)) symbol_mixer_.learn(bit, kRate);
    symbol_apm_.learn(bit, 6);
    for (BitGroup* group : found_) learn(group->at(node), bit, kBitLimit);
    return bit;
  }

  // The lowest `bits` bits, at most 3, through the tree of one group.
  uint32_t code_tree(uint64_t value, int bits, const uint64_t* contexts, uint64_t salt, SymbolSet set) {
    find_groups(contexts, salt);
    uint32_t node = 1;
    for (int i = bits; i-- > 0;) node = node << 1 | static_cast<uint32_t>(code_symbol_bit(value >> i & 1, node, contexts[0], set));
    return node - (1u << bits);
  }

  // A number below `count`: its length, then its bits, the highest first.
  uint32_t code_place(uint64_t place, uint32_t count, const uint64_t* contexts, SymbolSet set) {
    if (count == 1) return 0;
    uint64_t number = place + 1;
    int length = code_length(bit_length(number), contexts, set, 100) - 1;
    if (length < 0 || length > 32) throw Error(ErrorKind::corrupt_data, "block: a dictionary place is past its end");
    uint64_t node = 1;
    for (int left = length; left > 0;) {
      int bits = std::min(left, 3);
      left -= bits;
      node = node << bits | code_tree(number >> left, bits, contexts, node + (static_cast<uint64_t>(length) << 34), set);
    }
    if (node > count) throw Error(ErrorKind::corrupt_data, "block: a dictionary place is past its end");
    return static_cast<uint32_t>(node - 1);
  }

  // 0 to 63: one of eight classes, then which of the class.
  int code_length(int length, const uint64_t* contexts, SymbolSet set, uint64_t salt) {
    static constexpr uint8_t kFirst[] = {0, 1, 2, 4, 6, 8, 12, 20}, kBits[] = {0, 0, 1, 1, 1, 2, 3, 6};
    uint32_t of = 0;
    while (of < 7 && length >= kFirst[of + 1]) ++of;
    of = code_tree(of, 3, contexts, salt * 256, set);
    uint64_t rest = static_cast<uint64_t>(length - kFirst[of]);
    uint32_t got = 0;
    salt = salt * 256 + 1 + of;
    for (int left = kBits[of]; left > 0; salt += 8 + got) {
      int bits = std::min(left, 3);
      left -= bits;
      got = got << bits | code_tree(rest >> left, bits, contexts, salt, set);
    }
    return kFirst[of] + static_cast<int>(got);
  }

  // Where the line is: its template and slot.
  uint64_t where() const { return static_cast<uint64_t>(line_.template_id) << 16 | line_.slot; }

  uint64_t source_hash(const MaxSlot& slot, const MaxColumn& column, int source) const {
    uint8_t kind = kHashedKinds[source];
    return combine(context_of(kind, line_, column.last, column.before_last), 0x200 + slot.column * uint64_t{32} + kind);
  }

  void find_sources(MaxSlot& slot, MaxColumn& column, Memory** sources) {
    uint64_t hashes[kHashedSources];
    for (int i = 0; i < kHashedSources; ++i) {
      hashes[i] = source_hash(slot, column, i);
      memories_.prefetch(hashes[i]);
    }
    for (int i = 0; i < kHashedSources; ++i) {
      sources[i] = &memories_.find(hashes[i]);
      if (is_off(technique_of(kHashedKinds[i]))) *sources[i] = Memory();
    }
    for (int i = kHashedSources; i < kValueSources; ++i) {
      Memory& memory = column.predictions[i - kHashedSources];
      memory.value[0] = prediction(i, slot, column, *sources[kSessionSource]);
      sources[i] = &memory;
    }
  }

  // What a source without a memory says; `in_session` is the memory of kSessionSource.
  Value prediction(int source, const MaxSlot& slot, const MaxColumn& column, const Memory& in_session) const {
    if (source == kFromRing ? is_off(Technique::ring_copies) : is_off(Technique::predicted_numbers)) return kNoValue;
    if (source == kFromRing) return line_.slot == kSessionSlot ? kNoValue : session_->back(slot.ring_distance);
    if (source == kFromSessionStride && !in_session.history) return kNoValue;
    uint64_t number = source == kFromStride       ? column.last + (column.last - column.before_last)
                      : source == kFromLeftOffset ? line_.left[0] + column.left_offset
                      : source == kFromSlotOffset ? line_.left[0] + slot.left_offset
                                                  : in_session.value[0] + slot.step;
    return column.numeric && !(number & ~kNumberMask) ? number : kNoValue;
  }

  // Asks the slot's sure source alone, and touches nothing else while it is right.
  bool code_sure(MaxSlot& slot, MaxColumn& column, Value& value) {
    denied_ = kNoValue;
    if (slot.sure_source == kNotSure || is_off(Technique::sure_source)) return false;
    int source = slot.sure_source;
    Memory* memory = nullptr;
    if (source < kHashedSources) memory = &memories_.find(source_hash(slot, column, source));
    if (source == kFromSessionStride) memory = &memories_.find(source_hash(slot, column, kSessionSource));
    static constexpr Memory kNothing;
    Value guess = source < kHashedSources ? memory->value[0] : prediction(source, slot, column, memory ? *memory : kNothing);
    if (guess == kNoValue) return false;
    int run = std::min(bit_length(slot.runs[source]), 7);
    Bit& own = slot.sure[(misses_ & 3) != 0];
    Bit& general = sure_[run * 4 + static_cast<int>(misses_ & 3)];
    bool hit = coder_.code(value == guess, clamp_mixed(static_cast<int>(blend(own, general) >> 6)));
    learn(own, hit, kBitLimit);
    learn(general, hit, kBitLimit);
    if (!hit) {
      slot.runs[source] = 0;
      slot.sure_source = kNotSure;
      denied_ = guess;
      return false;
    }
    value = guess;
    if (slot.runs[source] < 255) ++slot.runs[source];
    if (memory) settle(*memory, value);
    if (source >= kHashedSources) remember(slot.column, column, value);
    return true;
  }

  void note_runs(MaxSlot& slot, Memory* const* sources, Value value) {
    int best = 0;
    for (int i = 0; i < kValueSources; ++i) {
      slot.runs[i] = sources[i]->value[0] == value ? static_cast<uint8_t>(std::min(slot.runs[i] + 1, 255)) : uint8_t{0};
      if (slot.runs[i] > slot.runs[best]) best = i;
    }
    slot.sure_source = slot.runs[best] >= kSureRun ? static_cast<uint8_t>(best) : kNotSure;
  }

  void note_outcome(MaxSlot& slot, bool hit) {
    misses_ = misses_ << 1 | !hit;
    slot.hits = static_cast<uint8_t>(slot.hits << 1 | hit);
    if (hit) push_length(0);
  }

  void push_length(int length) {
    left_length_[1] = left_length_[0];
    left_length_[0] = static_cast<uint8_t>(length);
  }

  void note_value(MaxSlot& slot, MaxColumn& column, Value value) {
    if (column.is_time) {
      bool negative;
      gap_ = static_cast<uint64_t>(bit_length(signed_difference(value & kNumberMask, column.last & kNumberMask, negative)));
    }
    slot.left_offset = value - line_.left[0];
    column.push(value, line_.left[0]);
  }

  Value code_value(MaxSlot& slot, Value value) {
    MaxColumn& column = columns_[slot.column];
    if (code_sure(slot, column, value)) {
      note_outcome(slot, true);
      note_value(slot, column, value);
      return value;
    }
    Memory* sources[kValueSources];
    find_sources(slot, column, sources);
    Value in_session = sources[kSessionSource]->value[0];
    const uint64_t flags[kFlagContexts] = {combine(where(), slot.hits), combine(where(), misses_ & 15),
                                           combine(where(), combine(line_.previous_template, gap_))};
    size_t own_set = slot.column % kOwnSets;
    bool hit = code_candidate(value, sources, kValueSources, column.trust, value_trust_, flags, own_set, kValueRanks, 0, kNoValue);
    if (!hit) {
      value = code_miss(slot, column, value, sources);
    } else if (!has_value(sources, value)) {
      remember(slot.column, column, value);
    }
    note_outcome(slot, hit);
    note_runs(slot, sources, value);
    for (int i = 0; i < kHashedSources; ++i) settle(*sources[i], value);
    for (int i = kHashedSources; i < kValueSources; ++i)
      if (sources[i]->value[0] != kNoValue)
        sources[i]->history = static_cast<uint8_t>(push_outcome(sources[i]->history, sources[i]->value[0] == value));
    if (is_off(Technique::second_values))
      for (int i = 0; i < kHashedSources; ++i) sources[i]->value[1] = kNoValue;
    if (in_session != kNoValue) slot.step = value - in_session;
    if (line_.slot != kSessionSlot && sources[kFromRing]->value[0] != value) find_distance(slot, value);
    note_value(slot, column, value);
    return value;
  }

  // Whether a memory of the column has it: then the dictionary has it too.
  static bool has_value(Memory* const* sources, Value value) {
    for (int i = 0; i < kHashedSources; ++i)
      if (sources[i]->value[0] == value || sources[i]->value[1] == value) return true;
    return false;
  }

  void find_distance(MaxSlot& slot, Value value) {
    if (const uint32_t distance = distance_of(value)) slot.ring_distance = static_cast<uint16_t>(distance);
  }

  Value code_miss(MaxSlot& slot, MaxColumn& column, Value value, Memory* const* sources) {
    uint64_t contexts[kSymbolContexts] = {
        slot.column,
        combine(slot.column, column.last_length),
        combine(slot.column, line_.left[0]),
        combine(where(), line_.previous_template),
        combine(where(), combine(left_length_[0], left_length_[1])),
    };
    for (int i = 0; i < kSymbolContexts; ++i) contexts[i] = combine(contexts[i], 0x400 + static_cast<uint64_t>(i));
    if (!column.numeric) return code_string(slot.column, column, value, contexts);
    return code_number(slot, column, value, sources, contexts);
  }

  bool code_known(uint32_t column_id, MaxColumn& column, Value& value, const uint64_t* contexts) {
    uint32_t count = static_cast<uint32_t>(column.dictionary.size());
    if (count == 0) return false;
    uint32_t place = 0;
    if constexpr (!Coder::kDecodes) place = place_of(column_id, value);
    find_groups(contexts, 0);
    if (!code_symbol_bit(place != UINT32_MAX, kIsKnown, contexts[0], kKindSet)) return false;
    value = column.dictionary[code_place(place, count, contexts, kPlaceSet)];
    return true;
  }

  Value code_string(uint32_t column_id, MaxColumn& column, Value value, const uint64_t* contexts) {
    if (code_known(column_id, column, value, contexts)) return value;
    find_groups(contexts, 0);
    bool foreign = code_symbol_bit(value < (kStringBit | string_count_), kIsForeign, contexts[0], kKindSet);
    if (foreign) {
      value = kStringBit | code_plain(coder_, value & UINT32_MAX, bit_length(string_count_));
      if (value >= (kStringBit | string_count_)) throw Error(ErrorKind::corrupt_data, "block: a string is used before it is given");
    } else {
      value = kStringBit | string_count_++;
      note_new_string(column_id);
    }
    remember(column_id, column, value);
    return value;
  }

  Value code_number(MaxSlot& slot, MaxColumn& column, Value value, Memory* const* sources, const uint64_t* contexts) {
    find_groups(contexts, 0);
    if (code_symbol_bit(is_string(value), kIsOdd, contexts[0], kKindSet)) return code_string(slot.column, column, value, contexts);
    if (column.plan.dictionary && code_known(slot.column, column, value, contexts)) return value;
    auto guess = [&](uint8_t kind) {
      int source = kind == kStride ? kFromStride : kind == kLeftOffset ? kFromLeftOffset : source_of(kind);
      return source < 0 || sources[source]->history == 0 ? kNoValue : sources[source]->value[0];
    };
    uint64_t base = base_of(column.plan.base, line_, column, guess(column.plan.first), guess(column.plan.second));
    bool negative = false;
    uint64_t size = signed_difference(value & kNumberMask, base, negative);
    int length = code_length(bit_length(size), contexts, kLengthSet, 1);
    if (length > 60) throw Error(ErrorKind::corrupt_data, "block: a difference has more than 60 bits");
    column.last_length = static_cast<uint8_t>(length);
    push_length(length);
    if (length > 0) {
      uint64_t salt = static_cast<uint64_t>(length) << 48;
      negative = code_tree(negative, 1, contexts, salt, kKindSet) != 0;
      // The upper bits are learned under the contexts; of the lower ones only their places are.
      uint64_t got = 1;
      for (int left = length - 1; left > 0;) {
        if (got >> kLearnedBits) {
          --left;
          got = got << 1 | static_cast<uint64_t>(code_bit(coder_, size >> left & 1, column.low[left]));
        } else {
          int bits = std::min(left, 3);
          left -= bits;
          got = got << bits | code_tree(size >> left, bits, contexts, salt + got + (uint64_t{1} << 40), kMantissaSet);
        }
      }
      size = got;
    } else {
      size = 0;
    }
    uint64_t number = (negative ? base - size : base + size) & kNumberMask;
    uint64_t zeros = value >> kZerosShift & 7;
    uint64_t usual = usual_zeros(column.plan, number);
    bool kept = code_bit(coder_, zeros == usual, column.usual_width);
    zeros = kept ? usual : code_plain(coder_, zeros, 3);
    value = number | zeros << kZerosShift;
    remember(slot.column, column, value);
    return value;
  }
  static constexpr int kLearnedBits = 12;

  // The source of a kind of guesses.h, or -1.
  static int source_of(uint8_t kind) {
    for (int i = 0; i < kHashedSources; ++i)
      if (kHashedKinds[i] == kind) return i;
    return -1;
  }

  Coder& coder_;
  SwitchedOff off_;
  MemoryTable memories_;
  GroupTable groups_;
  BitGroup* found_[kSymbolContexts];   // the groups of the symbol being coded
  Value denied_ = kNoValue;   // no candidate: the sure source was wrong about it
  uint64_t line_hash_ = 0, last_line_hash_ = 0, gap_ = 0;
  uint8_t left_length_[2] = {0, 0};
  uint64_t template_hits_ = 0;

  Bit sure_[8 * 4];
  SourceTrust value_trust_, template_trust_;
  SourceTrust template_own_{kTemplateSources};
  Ranking ranking_;
  Mixer<kCandidateInputs> candidate_mixer_;
  Mixer<kSymbolInputs> symbol_mixer_;
  Apm candidate_apm_, symbol_apm_;
};

}  // namespace slipstick::logs
