// Reads a block under a model: all of its lines, or those that a filter cannot rule out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "logs/block_account.h"
#include "logs/block_sizes.h"
#include "logs/limits.h"
#include "logs/line_filter.h"
#include "logs/line_output.h"
#include "logs/plan.h"
#include "logs/range_coder.h"
#include "logs/template_text.h"

namespace slipstick::logs {

constexpr size_t kTrialLines = 4096;   // after which a search knows whether leaving lines out pays

// A decoder that knows what each bit cost.
class MeteredDecoder : public Decoder {
 public:
  using Decoder::Decoder;
  bool code(bool value, uint32_t one) {
    value = Decoder::code(value, one);
    bits_ += 16 - std::log2(static_cast<double>(value ? one : 65536 - one));
    return value;
  }
  // The bits since the last call.
  double take_bits() { return std::exchange(bits_, 0); }

 private:
  double bits_ = 0;
};

template <class Model, class Coder, class Output>
class BlockReader {
 public:
  BlockReader(std::string_view symbols, std::string_view text, Account* account, Output output)
      : coder_(symbols.data(), symbols.size()), text_(text), account_(account), out_(std::move(output)) {}

  // Reads all lines. Returns what the output makes of them.
  auto run(size_t lines) {
    begin(lines);
    for (size_t line = 0; line < lines; ++line) {
      const char* begin = out_.at();
      uint32_t id = add_line();
      if (account_) account_.note_line(template_texts_[id], line, {begin, static_cast<size_t>(out_.at() - begin)}, programs_[id].wanted);
      out_.end_line();
    }
    if (account_) account_.finish(columns_.keys());
    return out_.finish();
  }

  // Gives up, with `whole` set and nothing else, when most lines are wanted: to write all of them is faster then.
  LineSelection select(size_t lines, const LineFilter& filter) {
    begin(lines);
    const std::vector<LineFilter::Verdict> verdicts = verdicts_of(filter);
    LineSelection out;
    if (std::all_of(verdicts.begin(), verdicts.end(), [](auto verdict) { return verdict == LineFilter::kNever; })) return out;
    filter_ = &filter;
    std::vector<Value> values;
    for (size_t line = 0; line < lines; ++line) {
      if (line == kTrialLines && out.numbers.size() > kTrialLines / 2) {
        out.whole = true;
        return out;
      }
      uint32_t id = begin_line();
      const LineFilter::Verdict verdict = verdicts[id];
      const size_t count = programs_[id].steps.size();
      if (values.size() < count) values.resize(count);
      bool wanted = verdict == LineFilter::kAlways;
      for (size_t i = 0; i < count; ++i) {
        values[i] = model_->code_slot(0);
        take_new_string();
        wanted = wanted || (verdict != LineFilter::kNever && is_telling(values[i]));
      }
      if (wanted) {
        out.numbers.push_back(static_cast<uint32_t>(line));
        write_line(programs_[id], [&values](size_t i) { return values[i]; });
        out_.end_line();
      } else {
        out_.pass(count + 1);
      }
    }
    out.text = out_.finish();
    return out;
  }

 private:
  // A template as the writer of lines wants it: all static text in one piece, and its slots.
  struct Step {
    uint32_t column;
    uint8_t kind;
    uint32_t text_size;   // static bytes after the slot
  };
  struct Program {
    std::string text;
    size_t first_size = 0;   // static bytes before the first slot
    bool wanted = false;     // its values are asked for
    std::vector<Step> steps;
  };

  void begin(size_t lines) {
    int table_bits = static_cast<int>(code_size(coder_, 0));
    if (table_bits < kMinTableBits || table_bits > kMaxTableBits) corrupt_block("the table size is illegal");
    uint32_t session = code_size(coder_, 0) - 1;   // 0 is none: kNoColumn
    const uint32_t templates = code_size(coder_, 0);
    if (templates > lines || templates > kMaxTemplates) corrupt_block("there are too many templates");
    read_sections(templates);
    model_ = std::make_unique<Model>(coder_, table_bits, session);
  }

  std::string_view next_text_line() {
    size_t end = text_.find('\n', text_at_);
    if (end == std::string_view::npos) corrupt_block("the text ends early");
    std::string_view line = text_.substr(text_at_, end - text_at_);
    text_at_ = end + 1;
    return line;
  }

  // Where each column's strings begin. An empty line ends a section.
  void read_sections(uint32_t templates) {
    for (uint32_t i = 0; i < templates; ++i) template_texts_.push_back(next_text_line());
    strings_at_ = text_at_;
    while (text_at_ < text_.size()) {
      if (section_at_.size() == kMaxColumns) corrupt_block("there are too many columns");
      section_at_.push_back(text_at_);
      while (!next_text_line().empty()) {
      }
    }
  }

  std::string_view next_string(uint32_t column) {
    if (column >= section_at_.size()) corrupt_block("a column has no strings");
    text_at_ = section_at_[column];
    std::string_view line = next_text_line();
    if (line.empty()) corrupt_block("a column has too few strings");
    section_at_[column] = text_at_;
    return line;
  }

  // The template in pieces; `slots` is the sum so far.
  static TemplatePieces split_within_limits(std::string_view text, size_t& slots) {
    if (text.size() > kMaxTemplateText) corrupt_block("a template is too long");
    TemplatePieces pieces = split_template(text);
    slots += pieces.kinds.size();
    if (pieces.kinds.size() > kMaxTemplateSlots) corrupt_block("a template has too many slots");
    if (slots > kMaxSlots) corrupt_block("there are too many slots");
    return pieces;
  }

  std::vector<LineFilter::Verdict> verdicts_of(const LineFilter& filter) const {
    const LineFilter own = filter.of_block(text_.substr(strings_at_));
    std::vector<LineFilter::Verdict> verdicts;
    size_t slots = 0;
    for (std::string_view text : template_texts_) verdicts.push_back(own.verdict(split_within_limits(text, slots)));
    return verdicts;
  }

  void add_template() {
    size_t id = programs_.size();
    if (id >= template_texts_.size()) corrupt_block("a template is missing");
    TemplatePieces pieces = split_within_limits(template_texts_[id], slots_);
    TemplateSlots slots = columns_.add_template(template_texts_[id]);
    Program program;
    if (columns_.kinds().size() > kMaxColumns) corrupt_block("there are too many columns");
    program.first_size = pieces.texts[0].size();
    program.wanted = account_ && account_.wants_values(template_texts_[id]);
    for (const std::string& text : pieces.texts) program.text += text;
    program.text.append(Store::kSlack, '\0');
    for (size_t i = 0; i < slots.columns.size(); ++i)
      program.steps.push_back({slots.columns[i], pieces.kinds[i], static_cast<uint32_t>(pieces.texts[i + 1].size())});
    programs_.push_back(std::move(program));
    while (model_->column_count() < columns_.kinds().size()) model_->add_column(Plan(), columns_.kinds()[model_->column_count()]);
    model_->add_template(slots);
  }

  void take_new_string() {
    const uint32_t column = model_->take_new_string();
    if (column == kNoColumn) return;
    strings_.push_back(next_string(column));
    if (filter_) telling_.push_back(filter_->is_telling(strings_.back()));
  }

  uint32_t add_line() {
    uint32_t id = begin_line();
    write_line(programs_[id], [this](size_t) {
      Value value = model_->code_slot(0);
      take_new_string();
      return value;
    });
    return id;
  }

  uint32_t begin_line() {
    model_->code_session(0);
    take_new_string();
    uint32_t id = model_->code_template(0);
    if (id == model_->template_count()) add_template();
    model_->begin_line(id);
    if (account_) account_.note_template(take_bits());
    return id;
  }

  // Writes a line whose i-th value is value_at(i), asked for from left to right.
  template <class ValueAt>
  void write_line(const Program& program, ValueAt value_at) {
    const char* text = program.text.data();
    out_.put_padded(text, program.first_size);
    text += program.first_size;
    for (size_t i = 0; i < program.steps.size(); ++i) {
      const Step& step = program.steps[i];
      Value value = value_at(i);
      const char* begin = out_.at();
      if (is_string(value)) {
        size_t string = value & UINT32_MAX;
        if (value == kNoValue || string >= strings_.size()) corrupt_block("a value is not a string of the block");
        out_.put(strings_[string]);
      } else {
        if (!is_numeric_kind(step.kind)) corrupt_block("a column of strings has a number");
        out_.put_number(step.kind, value);
      }
      if (account_) {
        size_t size = static_cast<size_t>(out_.at() - begin);
        account_.note_value(step.column, size, take_bits());
        if (program.wanted) account_.keep_value(i, step.kind, value, {begin, size});
      }
      out_.put_padded(text, step.text_size);
      text += step.text_size;
    }
  }

  bool is_telling(Value value) const { return is_string(value) && (value & UINT32_MAX) < telling_.size() && telling_[value & UINT32_MAX]; }

  double take_bits() {
    if constexpr (std::is_same_v<Coder, MeteredDecoder>) return coder_.take_bits();
    return 0;
  }

  Coder coder_;
  std::string_view text_;
  BlockAccount account_;
  size_t text_at_ = 0, strings_at_ = 0;
  std::unique_ptr<Model> model_;
  ColumnTable columns_;
  size_t slots_ = 0;
  std::vector<Program> programs_;
  std::vector<std::string_view> template_texts_;
  std::vector<size_t> section_at_;
  std::vector<std::string_view> strings_;
  const LineFilter* filter_ = nullptr;
  std::vector<uint8_t> telling_;   // of strings_, where there is a filter
  Output out_;
};

}  // namespace slipstick::logs
