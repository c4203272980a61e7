// Block coding under the row model: see model_block.h.

#include "logs/model_block.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/large_pages.h"
#include "logs/bytes.h"
#include "logs/fast_model.h"
#include "logs/max_model.h"
#include "logs/plan.h"
#include "logs/row_model.h"
#include "logs/template_text.h"

namespace slipstick::logs {
namespace {

constexpr int kMinTableBits = 10, kMaxTableBits = 17;
constexpr size_t kTrialLines = 4096;   // after which a search knows whether leaving lines out pays

int choose_table_bits(size_t values) {
  int bits = kMinTableBits;
  while (bits < kMaxTableBits && (size_t{1} << bits) < values) ++bits;
  return bits;
}

// A number of the block's header, below 2^32. Under the range coder: its length, then its bits.
template <class Coder>
uint32_t code_size(Coder& coder, uint32_t value) {
  int bits = static_cast<int>(code_plain(coder, static_cast<uint64_t>(bit_length(value)), 6));
  if (bits > 32) throw Error(ErrorKind::corrupt_data, "block: a size has more than 32 bits");
  return static_cast<uint32_t>(code_plain(coder, value, bits));
}
uint32_t code_size(StreamWriter& coder, uint32_t value) { return static_cast<uint32_t>(coder.plain(value)); }
uint32_t code_size(StreamReader& coder, uint32_t) {
  uint64_t value = coder.plain(0);
  if (value > UINT32_MAX) throw Error(ErrorKind::corrupt_data, "block: a size has more than 32 bits");
  return static_cast<uint32_t>(value);
}

template <class Model, class Coder>
class Writer {
 public:
  Writer(const Structure& structure, Effort effort, SwitchedOff off)
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
    if (model_->new_strings().empty()) return;
    string_numbers_[own & UINT32_MAX] = static_cast<uint32_t>(coded & UINT32_MAX);
    std::string& section = column_text_[model_->new_strings().back().column];
    section += in_.strings.text(static_cast<uint32_t>(own & UINT32_MAX));
    section += '\n';
    model_->new_strings().clear();
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

[[noreturn]] void corrupt(const char* what) { throw Error(ErrorKind::corrupt_data, std::string("block: ") + what); }

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

// Column names for people: the slot's kind and the text before it.
std::string column_name(const std::string& key) {
  static constexpr const char* kNames[] = {"", "number", "hex", "hex", "string", "address", "", "", "decimal", "time"};
  int kind = static_cast<unsigned char>(key[0]);
  std::string name = kNames[kind >= kTime ? 9 : kind >= kDecimal ? 8 : kind];
  name += ' ';
  size_t end = key.rfind('\n');
  for (size_t i = 1; i < end; ++i) {
    if (key[i] != kSlotMark) {
      name += key[i];
    } else {
      name += "<*>";
      ++i;
    }
  }
  name += "<*>";
  if (end + 1 < key.size()) name += key[end + 1] == kSlotMark ? ' ' : key[end + 1];
  return name;
}

// Where a reader's lines go: into a string of the block's size ...
class Store {
 public:
  explicit Store(size_t raw_size) {
    const size_t size = raw_size + 1 + kSlack;   // the last line may lack its line feed
    out_.reserve(size);
    prefer_large_pages(out_.data(), size);   // first touches of small ones take a tenth of the time
    out_.resize(size);
    begin_ = at_ = out_.data();
    end_ = at_ + raw_size + 1;
  }
  const char* at() const { return at_; }
  // `text` has kSlack bytes behind it: most texts are short, 16 bytes are copied blindly.
  void put_padded(const char* text, size_t size) {
    check(size);
    if (size <= 16) {
      std::memcpy(at_, text, 16);
    } else {
      std::memcpy(at_, text, size);
    }
    at_ += size;
  }
  void put(std::string_view text) {
    check(text.size());
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }
  void put_number(int kind, Value value) {
    at_ = render_number(kind, value, at_);
    check(0);
  }
  void end_line() {
    check(1);
    *at_++ = '\n';
  }
  std::string finish() {
    if (at_ == end_) --at_;
    if (at_ != end_ - 1) corrupt("the lines are shorter than the block");
    out_.resize(static_cast<size_t>(at_ - begin_));
    return std::move(out_);
  }
  static constexpr size_t kSlack = std::max<size_t>(kMaxRendered, 16);

 private:
  void check(size_t size) const {
    if (at_ > end_ || size > static_cast<size_t>(end_ - at_)) corrupt("the lines are longer than the block");
  }
  std::string out_;
  char* begin_;
  char* at_;
  char* end_;   // one byte past what the block may hold
};

// ... or nowhere: they are compared with the block that was packed.
class Compare {
 public:
  explicit Compare(std::string_view raw) : at_(raw.data()), end_(at_ + raw.size()) {}
  const char* at() const { return at_; }
  void put_padded(const char* text, size_t size) { put({text, size}); }
  void put(std::string_view text) {
    if (text.size() > static_cast<size_t>(end_ - at_) || !same_bytes(at_, text.data(), text.size()))
      corrupt("it does not come back as it was");
    at_ += text.size();
  }
  void put_number(int kind, Value value) {
    char rendered[kMaxRendered];
    put({rendered, static_cast<size_t>(render_number(kind, value, rendered) - rendered)});
  }
  void end_line() {
    if (at_ < end_ || open_) put("\n");
    if (at_ == end_) open_ = true;   // one line feed may be missing, at the very end
  }
  bool finish() const { return at_ == end_; }

 private:
  const char* at_;
  const char* end_;
  bool open_ = false;
};

// ... or, of the lines that a search wants, into a string that grows.
class Gather {
 public:
  explicit Gather(size_t raw_size) : left_(raw_size + 1) {}
  const char* at() const { return out_.data() + size_; }
  void put_padded(const char* text, size_t size) {
    char* to = room(size);
    if (size <= 16) {
      std::memcpy(to, text, 16);
    } else {
      std::memcpy(to, text, size);
    }
    take(size);
  }
  void put(std::string_view text) {
    std::memcpy(room(text.size()), text.data(), text.size());
    take(text.size());
  }
  void put_number(int kind, Value value) {
    char* to = room(0);
    take(static_cast<size_t>(render_number(kind, value, to) - to));
  }
  void end_line() { put("\n"); }
  // Bytes that a line has at least and that are not written: a block has no more than it says.
  void pass(size_t size) {
    if (size > left_) corrupt("the lines are longer than the block");
    left_ -= size;
  }
  std::string finish() {
    out_.resize(size_);
    return std::move(out_);
  }

 private:
  char* room(size_t size) {
    if (out_.size() - size_ < size + Store::kSlack) out_.resize(out_.size() * 2 + size + kFirst);
    return out_.data() + size_;
  }
  void take(size_t size) {
    pass(size);
    size_ += size;
  }
  static constexpr size_t kFirst = size_t{1} << 14;
  std::string out_;
  size_t size_ = 0, left_;
};

template <class Model, class Coder, class Output>
class Reader {
 public:
  Reader(std::string_view symbols, std::string_view text, Account* account, Output output)
      : coder_(symbols.data(), symbols.size()), text_(text), account_(account), out_(std::move(output)) {}

  // Reads all lines. Returns what the output makes of them.
  auto run(size_t lines) {
    begin(lines);
    for (size_t line = 0; line < lines; ++line) {
      const char* begin = out_.at();
      uint32_t id = add_line();
      if (account_) note_line(id, line, std::string_view(begin, static_cast<size_t>(out_.at() - begin)));
      out_.end_line();
    }
    if (account_) note_columns();
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
    if (table_bits < kMinTableBits || table_bits > kMaxTableBits) corrupt("the table size is illegal");
    uint32_t session = code_size(coder_, 0) - 1;   // 0 is none: kNoColumn
    const uint32_t templates = code_size(coder_, 0);
    if (templates > lines || templates > kMaxTemplates) corrupt("there are too many templates");
    read_sections(templates);
    model_ = std::make_unique<Model>(coder_, table_bits, session);
  }

  std::string_view next_text_line() {
    size_t end = text_.find('\n', text_at_);
    if (end == std::string_view::npos) corrupt("the text ends early");
    std::string_view line = text_.substr(text_at_, end - text_at_);
    text_at_ = end + 1;
    return line;
  }

  // Where each column's strings begin. An empty line ends a section.
  void read_sections(uint32_t templates) {
    for (uint32_t i = 0; i < templates; ++i) template_texts_.push_back(next_text_line());
    strings_at_ = text_at_;
    while (text_at_ < text_.size()) {
      if (section_at_.size() == kMaxColumns) corrupt("there are too many columns");
      section_at_.push_back(text_at_);
      while (!next_text_line().empty()) {
      }
    }
  }

  std::string_view next_string(uint32_t column) {
    if (column >= section_at_.size()) corrupt("a column has no strings");
    text_at_ = section_at_[column];
    std::string_view line = next_text_line();
    if (line.empty()) corrupt("a column has too few strings");
    section_at_[column] = text_at_;
    return line;
  }

  // The template in pieces; `slots` is the sum so far.
  static TemplatePieces split_within_limits(std::string_view text, size_t& slots) {
    if (text.size() > kMaxTemplateText) corrupt("a template is too long");
    TemplatePieces pieces = split_template(text);
    slots += pieces.kinds.size();
    if (pieces.kinds.size() > kMaxTemplateSlots) corrupt("a template has too many slots");
    if (slots > kMaxSlots) corrupt("there are too many slots");
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
    if (id >= template_texts_.size()) corrupt("a template is missing");
    TemplatePieces pieces = split_within_limits(template_texts_[id], slots_);
    TemplateSlots slots = columns_.add_template(template_texts_[id]);
    Program program;
    if (columns_.kinds().size() > kMaxColumns) corrupt("there are too many columns");
    program.first_size = pieces.texts[0].size();
    program.wanted = account_ && account_->values && shown_template(template_texts_[id]) == account_->values->text;
    for (const std::string& text : pieces.texts) program.text += text;
    program.text.append(Store::kSlack, '\0');
    for (size_t i = 0; i < slots.columns.size(); ++i)
      program.steps.push_back({slots.columns[i], pieces.kinds[i], static_cast<uint32_t>(pieces.texts[i + 1].size())});
    programs_.push_back(std::move(program));
    while (model_->column_count() < columns_.kinds().size()) model_->add_column(Plan(), columns_.kinds()[model_->column_count()]);
    model_->add_template(slots);
  }

  void take_new_string() {
    if (model_->new_strings().empty()) return;
    strings_.push_back(next_string(model_->new_strings().back().column));
    if (filter_) telling_.push_back(filter_->is_telling(strings_.back()));
    model_->new_strings().clear();
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
    if (account_) template_bits_ += take_bits();
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
        if (value == kNoValue || string >= strings_.size()) corrupt("a value is not a string of the block");
        out_.put(strings_[string]);
      } else {
        if (!is_numeric_kind(step.kind)) corrupt("a column of strings has a number");
        out_.put_number(step.kind, value);
      }
      if (account_) {
        size_t size = static_cast<size_t>(out_.at() - begin);
        note_value(step.column, size);
        if (program.wanted) keep_value(i, step.kind, value, {begin, size});
      }
      out_.put_padded(text, step.text_size);
      text += step.text_size;
    }
  }

  bool is_telling(Value value) const { return is_string(value) && (value & UINT32_MAX) < telling_.size() && telling_[value & UINT32_MAX]; }

  // Bookkeeping for `info`, where an account is asked for.
  double take_bits() {
    if constexpr (std::is_same_v<Coder, MeteredDecoder>) return coder_.take_bits();
    return 0;
  }
  void note_value(uint32_t column, size_t raw_bytes) {
    if (shares_.size() <= column) shares_.resize(column + 1);
    shares_[column].bits += take_bits();
    shares_[column].raw_bytes += raw_bytes;
    ++shares_[column].values;
  }
  void note_line(uint32_t id, size_t number, std::string_view line) {
    TemplateUse& use = account_->templates[std::string(template_texts_[id])];
    if (use.count++ == 0) use.example = std::string(line);
    if (programs_[id].wanted) account_->values->columns.lines.push_back(account_->values->first_line + number);
  }
  // A value for TemplateColumns.
  void keep_value(size_t slot, int kind, Value value, std::string_view text) {
    using Column = TemplateColumns::Column;
    Column::Kind is = is_string(value) ? Column::text : kind >= kTime ? Column::time : kind >= kDecimal ? Column::decimal : Column::number;
    if (kind == kHexLower || kind == kHexUpper) is = Column::text;   // names rather than numbers
    int digits = is == Column::time ? (kind - kTime) % 16 : is == Column::decimal ? kind - kDecimal : 0;
    std::vector<Column>& columns = account_->values->columns.columns;
    if (columns.size() <= slot) columns.resize(slot + 1);
    Column& column = columns[slot];
    if (column.ends.empty()) {
      column.kind = is;
      column.digits = digits;
    }
    if (is != column.kind || digits != column.digits) column.kind = Column::text;
    if (column.kind == Column::text) {
      column.numbers.clear();
    } else {
      column.numbers.push_back(static_cast<int64_t>(value & kNumberMask));
    }
    column.bytes += text;
    column.ends.push_back(column.bytes.size());
  }
  void note_columns() {
    Share& lines = account_->shares["templates of lines"];
    lines.bits += template_bits_;
    for (size_t column = 0; column < shares_.size(); ++column) {
      Share& share = account_->shares[column_name(columns_.keys()[column])];
      share.bits += shares_[column].bits;
      share.raw_bytes += shares_[column].raw_bytes;
      share.values += shares_[column].values;
    }
  }

  Coder coder_;
  std::string_view text_;
  Account* account_;
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
  std::vector<Share> shares_;
  double template_bits_ = 0;
};

}  // namespace

namespace {

// A literal "<*>", with any number of backslashes behind its "<", gets one more, so that different templates are shown differently.
std::string with_marks_escaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (text[i] != '<') continue;
    size_t star = text.find_first_not_of('\\', i + 1);
    if (star != std::string::npos && text.compare(star, 2, "*>") == 0) out += '\\';
  }
  return out;
}

}  // namespace

std::string shown_template(std::string_view text) {
  TemplatePieces pieces = split_template(text);
  std::string shown = with_marks_escaped(pieces.texts[0]);
  for (size_t i = 1; i < pieces.texts.size(); ++i) shown += "<*>" + with_marks_escaped(pieces.texts[i]);
  return shown;
}

ModelStreams encode_model(const Structure& structure, Effort effort, SwitchedOff off) {
  if (effort == Effort::fast) return Writer<FastModel<StreamWriter>, StreamWriter>(structure, effort, off).run();
  if (effort == Effort::mixed) return Writer<MaxModel<Encoder>, Encoder>(structure, effort, off).run();
  return Writer<RowModel<Encoder>, Encoder>(structure, effort, off).run();
}

namespace {

template <template <class> class Model>
std::string decode_coded(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  Store store(raw_size);
  if (account) return Reader<Model<MeteredDecoder>, MeteredDecoder, Store>(symbols, text, account, std::move(store)).run(lines);
  return Reader<Model<Decoder>, Decoder, Store>(symbols, text, nullptr, std::move(store)).run(lines);
}

}  // namespace

std::string decode_model(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  return decode_coded<RowModel>(symbols, text, lines, raw_size, account);
}

std::string decode_max(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  return decode_coded<MaxModel>(symbols, text, lines, raw_size, account);
}

std::string decode_fast(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  return Reader<FastModel<StreamReader>, StreamReader, Store>(symbols, text, account, Store(raw_size)).run(lines);
}

namespace {

template <class Model, class Coder>
LineSelection select_or_decode(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, const LineFilter& filter) {
  LineSelection out = Reader<Model, Coder, Gather>(symbols, text, nullptr, Gather(raw_size)).select(lines, filter);
  if (out.whole) out = {true, Reader<Model, Coder, Store>(symbols, text, nullptr, Store(raw_size)).run(lines), {}};
  return out;
}

}  // namespace

LineSelection select_model_lines(ModelKind kind, std::string_view symbols, std::string_view text, size_t lines, size_t raw_size,
                                 const LineFilter& filter) {
  switch (kind) {
    case ModelKind::fast: return select_or_decode<FastModel<StreamReader>, StreamReader>(symbols, text, lines, raw_size, filter);
    case ModelKind::standard: return select_or_decode<RowModel<Decoder>, Decoder>(symbols, text, lines, raw_size, filter);
    case ModelKind::max: break;
  }
  return select_or_decode<MaxModel<Decoder>, Decoder>(symbols, text, lines, raw_size, filter);
}

bool decodes_to(const ModelStreams& streams, Effort effort, size_t lines, std::string_view raw) {
  try {
    if (effort == Effort::fast)
      return Reader<FastModel<StreamReader>, StreamReader, Compare>(streams.symbols, streams.text, nullptr, Compare(raw)).run(lines);
    if (effort == Effort::mixed)
      return Reader<MaxModel<Decoder>, Decoder, Compare>(streams.symbols, streams.text, nullptr, Compare(raw)).run(lines);
    return Reader<RowModel<Decoder>, Decoder, Compare>(streams.symbols, streams.text, nullptr, Compare(raw)).run(lines);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace slipstick::logs
