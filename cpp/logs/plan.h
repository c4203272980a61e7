// How the writer chooses each column's Plan, and the session column: by trying them on the block's own values.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "logs/guesses.h"
#include "logs/structure.h"
#include "logs/techniques.h"

namespace slipstick::logs {

struct TemplateSlots {
  std::vector<uint32_t> columns;
  std::vector<uint8_t> kinds;
};

// Whether slots with the same text around them are one column, or every slot is a column of its own: better where a line has many slots and
// few templates, as in statistics as JSON.
enum class Columns : uint8_t { by_local_text, by_slot };

// Columns by number, in order of first appearance; writer and reader derive them from the template texts alone.
class ColumnTable {
 public:
  explicit ColumnTable(Columns by) : by_(by) {}
  // The slots of a template; columns not seen before get the next numbers, their kinds go to kinds().
  TemplateSlots add_template(std::string_view text);
  const std::vector<uint8_t>& kinds() const { return kinds_; }
  const std::vector<std::string>& keys() const { return keys_; }

 private:
  Columns by_;
  std::unordered_map<std::string, uint32_t> ids_;
  std::vector<uint8_t> kinds_;
  std::vector<std::string> keys_;
};

struct BlockPlan {
  std::vector<Plan> columns;                 // by the numbers of `slots`
  std::vector<TemplateSlots> slots;          // of Structure::templates
  uint32_t session_column = kNoColumn;
  Columns by = Columns::by_local_text;
};

// How hard to look: fast tries a few guesses on a few values (for the fast model), sketch takes the usual ones, thorough
// tries all; mixed does too, for the level `max`.
enum class Effort { fast, sketch, thorough, mixed };

BlockPlan make_plan(const Structure& structure, Columns by, Effort effort, SwitchedOff off = {});

}  // namespace slipstick::logs
