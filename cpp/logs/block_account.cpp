// Accounts of blocks: see block_account.h.

#include "logs/block_account.h"

#include "logs/template_text.h"

namespace slipstick::logs {
namespace {

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

}  // namespace

bool BlockAccount::wants_values(std::string_view template_text) const {
  return account_->values && shown_template(template_text) == account_->values->text;
}

void BlockAccount::note_value(uint32_t column, size_t raw_bytes, double bits) {
  if (shares_.size() <= column) shares_.resize(column + 1);
  shares_[column].bits += bits;
  shares_[column].raw_bytes += raw_bytes;
  ++shares_[column].values;
}

void BlockAccount::keep_value(size_t slot, int kind, Value value, std::string_view text) {
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

void BlockAccount::note_line(std::string_view template_text, size_t number, std::string_view line, bool keeps) {
  TemplateUse& use = account_->templates[std::string(template_text)];
  if (use.count++ == 0) use.example = std::string(line);
  if (keeps) account_->values->columns.lines.push_back(account_->values->first_line + number);
}

void BlockAccount::finish(const std::vector<std::string>& keys) {
  account_->shares["templates of lines"].bits += template_bits_;
  for (size_t column = 0; column < shares_.size(); ++column) {
    Share& share = account_->shares[column_name(keys[column])];
    share.bits += shares_[column].bits;
    share.raw_bytes += shares_[column].raw_bytes;
    share.values += shares_[column].values;
  }
}

}  // namespace slipstick::logs
