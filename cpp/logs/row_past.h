// What RowModel and MaxModel both keep of the rows so far: sessions, templates, columns and their dictionaries, and the line being coded.
// All of it is part of the format.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "logs/guesses.h"
#include "logs/plan.h"
#include "slipstick/error.h"

namespace slipstick::logs {

constexpr int kRing = 32;             // recent values of a session
constexpr uint32_t kSessions = 2048;  // sessions remembered at a time

// The recent past of a session (or of the whole log, where there is none).
struct Session {
  Value key = kNoValue;
  uint32_t last_templates[2] = {0, 0};
  uint32_t ring_at = 0;
  Value ring[kRing];
  Session() { std::fill(std::begin(ring), std::end(ring), kNoValue); }
  Value back(uint32_t distance) const { return ring[(ring_at - distance) % kRing]; }
};

// Slot: derived from SlotPast. Column: derived from ColumnPast, with a dictionary.
template <class Slot, class Column>
class RowPast : public NewString {
 public:
  void add_template(const TemplateSlots& slots) {
    templates_.emplace_back();
    templates_.back().slots.resize(slots.columns.size());
    for (size_t i = 0; i < slots.columns.size(); ++i) {
      templates_.back().slots[i].column = slots.columns[i];
      templates_.back().has_session |= slots.columns[i] == session_column_;
    }
  }
  size_t template_count() const { return templates_.size(); }
  size_t column_count() const { return columns_.size(); }

 protected:
  explicit RowPast(uint32_t session_column) : session_column_(session_column), sessions_(session_column == kNoColumn ? 1 : kSessions) {
    session_slot_.column = session_column;
  }

  // In front of a line. False if it can have no session value: there is no such column, or no template has had it yet.
  bool begin_session() {
    line_.session = kNoValue;
    if (session_column_ >= columns_.size()) {
      session_ = &sessions_[0];
      return false;
    }
    line_.begin(previous_template_);
    line_.left[0] = previous_session_;
    line_.slot = kSessionSlot;
    misses_ = 0;
    return true;
  }
  void enter_session() {
    previous_session_ = line_.session;
    session_ = &sessions_[(mix(line_.session) >> 20) % kSessions];
    if (session_->key == line_.session) return;
    *session_ = Session();
    session_->key = line_.session;
  }

  void push_template(uint32_t id) {
    fourth_ = before_before_;
    before_before_ = before_previous_;
    before_previous_ = line_.previous_template = previous_template_;
    previous_template_ = id;
    session_->last_templates[1] = session_->last_templates[0];
    session_->last_templates[0] = id;
  }

  void begin_values(uint32_t id) {
    line_.begin(id);
    misses_ = 0;
    state_ = templates_[id].slots.data();
    session_pending_ = line_.session != kNoValue;
    if (session_pending_ && !templates_[id].has_session)
      throw Error(ErrorKind::corrupt_data, "block: a line has a session value but its template has no place for it");
  }
  // Whether the session's value, coded in front of the line, stands in this slot.
  bool takes_session(const Slot& slot) {
    const bool takes = session_pending_ && slot.column == session_column_;
    if (takes) session_pending_ = false;
    return takes;
  }
  void push_value(Value value) {
    session_->ring[session_->ring_at++ % kRing] = value;
    line_.push(value);
  }
  // The least distance at which the session's ring has it; 0 if it has not.
  uint32_t distance_of(Value value) const {
    for (uint32_t distance = 1; distance <= kRing; ++distance)
      if (session_->back(distance) == value) return distance;
    return 0;
  }

  // Keeps the column's dictionary complete.
  void remember(uint32_t column_id, Column& column, Value value) {
    if (column.numeric && !column.plan.dictionary) return;
    if (places_.try_emplace(combine(value, column_id), static_cast<uint32_t>(column.dictionary.size())).second)
      column.dictionary.push_back(value);
  }
  // UINT32_MAX if the column's dictionary has it not.
  uint32_t place_of(uint32_t column_id, Value value) const {
    auto it = places_.find(combine(value, column_id));
    return it == places_.end() ? UINT32_MAX : it->second;
  }

  static void check_choice(uint64_t got, int choices) {
    if (got >= static_cast<uint64_t>(choices)) throw Error(ErrorKind::corrupt_data, "block: a column's plan is illegal");
  }

  static constexpr uint32_t kSessionSlot = 0xFFFF;

  struct Template {
    std::vector<Slot> slots;
    bool has_session = false;
  };

  const uint32_t session_column_;
  std::vector<Session> sessions_;
  Session* session_ = nullptr;
  std::vector<Template> templates_;
  std::vector<Column> columns_;
  Slot session_slot_;   // of the session value, which comes before its template
  std::unordered_map<uint64_t, uint32_t> places_;
  uint32_t string_count_ = 0;

  // The line being coded.
  LinePast line_;
  Slot* state_ = nullptr;
  Value previous_session_ = 0;
  bool session_pending_ = false;
  uint32_t misses_ = 0;
  uint32_t previous_template_ = 0, before_previous_ = 0, before_before_ = 0, fourth_ = 0;
};

}  // namespace slipstick::logs
