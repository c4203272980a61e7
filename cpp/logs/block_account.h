// What a reader of a block tells an Account: what each column and the templates cost, which lines have which template, and, if they are asked
// for, the values of one template's lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "logs/account.h"
#include "logs/lexer.h"

namespace slipstick::logs {

class BlockAccount {
 public:
  // Nothing is told where there is no account; nothing but the question whether there is one may be called then.
  explicit BlockAccount(Account* account) : account_(account) {}
  explicit operator bool() const { return account_ != nullptr; }

  // Whether the values of this template are asked for.
  bool wants_values(std::string_view template_text) const;
  void note_template(double bits) { template_bits_ += bits; }
  void note_value(uint32_t column, size_t raw_bytes, double bits);
  // A value that is asked for.
  void keep_value(size_t slot, int kind, Value value, std::string_view text);
  // The line `number` of the block; keeps: its values were asked for.
  void note_line(std::string_view template_text, size_t number, std::string_view line, bool keeps);
  // At the end. keys: of the columns.
  void finish(const std::vector<std::string>& keys);

 private:
  Account* account_;
  std::vector<Share> shares_;  // of the columns
  double template_bits_ = 0;
};

}  // namespace slipstick::logs
