// Where an archive's bytes went: filled while a block is decoded, for `info`, `templates` and `columns`.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "slipstick/logs.h"

namespace slipstick::logs {

struct Share {
  double bits = 0;           // in the archive
  uint64_t raw_bytes = 0;    // of the log
  uint64_t values = 0;
};

struct TemplateUse {
  uint64_t count = 0;
  std::string example;
};

// The values of the lines that have one template, as people see it; see Archive::columns.
struct ValueAccount {
  std::string text;          // the template, with <*> for each slot
  uint64_t first_line = 0;   // of the block that is being decoded
  TemplateColumns columns;
};

struct Account {
  ValueAccount* values = nullptr;                  // if asked for
  std::map<std::string, Share> shares;             // by "kind name"
  std::map<std::string, TemplateUse> templates;    // by template text
};

}  // namespace slipstick::logs
