// Writes a block under a model: its lines' templates and values as symbols, their texts beside them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "logs/block_sizes.h"
#include "logs/max_model.h"
#include "logs/model_block.h"
#include "logs/plan.h"
#include "logs/structure.h"

namespace slipstick::logs {

template <class Model, class Coder>
class BlockWriter {
 public:
  BlockWriter(const Structure& structure, Effort effort, SwitchedOff off)
      : in_(structure), plan_(make_plan(structure, effort, off)), off_(off) {}

  ModelStreams run() {
    number_columns();
    int table_bits = choose_table_bits(in_.values.size());
    code_size(coder_, static_cast<uint32_t>(table_bits));
    uint32_t session = plan_.session_column == kNoColumn ? kNoColumn : column_numbers_[plan_.session_column];
    code_size(coder_, session == kNoColumn ? 0 : session + 1);
    code_size(coder_, used_templates_);
    model_ = std::make_unique<Model>(coder_, table_bits, session);
    if constexpr (std::is_same_v<Model, MaxModel<Coder>>) model_->switch_off(off_);
    template_numbers_.assign(in_.templates.size(), UINT32_MAX);
    string_numbers_.assign(in_.strings.size(), UINT32_MAX);
    const Value* values = in_.values.data();
    for (uint32_t id : in_.line_templates) {
      code_line(id, values);
      values += plan_.slots[id].columns.size();
    }
    ModelStreams out;
    out.symbols = coder_.finish();
    out.text = std::move(template_text_);
    for (const std::string& section : column_text_) {
      out.text += section;
      out.text += '\n';
    }
    return out;
  }

 private:
  // Columns get their numbers as the reader will see them: in order of the templates' first use.
  void number_columns() {
    column_numbers_.assign(plan_.columns.size(), kNoColumn);
    std::vector<bool> seen(in_.templates.size(), false);
    uint32_t next = 0;
    for (uint32_t id : in_.line_templates) {
      if (seen[id]) continue;
      seen[id] = true;
      ++used_templates_;
      for (uint32_t column : plan_.slots[id].columns)
        if (column_numbers_[column] == kNoColumn) column_numbers_[column] = next++;
    }
    column_text_.resize(next);
  }

  void add_template(uint32_t id) {
    template_numbers_[id] = static_cast<uint32_t>(model_->template_count());
    template_text_ += in_.templates[id];
    template_text_ += '\n';
    TemplateSlots slots = plan_.slots[id];
    for (uint32_t& column : slots.columns) {
      uint32_t number = column_numbers_[column];
      if (number == model_->column_count())
        model_->add_column(plan_.columns[column], slots.kinds[static_cast<size_t>(&column - slots.columns.data())]);
      column = number;
    }
    model_->add_template(slots);
  }

  // Strings not coded yet stand as the largest id; coding one gives it its number.
  Value outgoing(Value value) const {
    if (!is_string(value)) return value;
    return kStringBit | string_numbers_[value & UINT32_MAX];
  }

  void code_line(uint32_t id, const Value* values) {
    const std::vector<uint32_t>& columns = plan_.slots[id].columns;
    Value session = kNoValue;
    if (plan_.session_column != kNoColumn) {
      for (size_t i = 0; i < columns.size(); ++i) {
        if (columns[i] == plan_.session_column) {
          session = values[i];
          break;
        }
      }
    }
    if (session != kNoValue) {
      note(session, model_->code_session(outgoing(session)));
    } else {
      model_->code_session(kNoValue);
    }
    uint32_t number = template_numbers_[id];
    if (number == UINT32_MAX) number = static_cast<uint32_t>(model_->template_count());
    model_->code_template(number);
    if (number == model_->template_count()) add_template(id);
    model_->begin_line(number);
    for (size_t i = 0; i < columns.size(); ++i) note(values[i], model_->code_slot(outgoing(values[i])));
  }

  // Records the number that a new string was given, and its text under the column that brought it.
  void note(Value own, Value coded) {
    const uint32_t column = model_->take_new_string();
    if (column == kNoColumn) return;
    string_numbers_[own & UINT32_MAX] = static_cast<uint32_t>(coded & UINT32_MAX);
    std::string& section = column_text_[column];
    section += in_.strings.text(static_cast<uint32_t>(own & UINT32_MAX));
    section += '\n';
  }

  const Structure& in_;
  BlockPlan plan_;
  SwitchedOff off_;
  Coder coder_;
  std::unique_ptr<Model> model_;
  uint32_t used_templates_ = 0;
  std::vector<uint32_t> template_numbers_, string_numbers_, column_numbers_;
  std::string template_text_;
  std::vector<std::string> column_text_;
};

}  // namespace slipstick::logs
