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

// Columns by number, in order of first appearance; writer and reader derive them from the template texts alone.
class ColumnTable {
 public:
  // The slots of a template; columns not seen before get the next numbers, their kinds go to kinds().
  TemplateSlots add_template(std::string_view text);
  // The same, but no column is shared with another slot: for an ablation.
  TemplateSlots add_template_alone(std::string_view text);
  const std::vector<uint8_t>& kinds() const { return kinds_; }
  const std::vector<std::string>& keys() const { return keys_; }

 private:
  TemplateSlots add_keys(const std::vector<std::string>& keys);
  std::unordered_map<std::string, uint32_t> ids_;
  std::vector<uint8_t> kinds_;
  std::vector<std::string> keys_;
};

struct BlockPlan {
  std::vector<Plan> columns;                 // by the numbers of `slots`
  std::vector<TemplateSlots> slots;          // of Structure::templates
  uint32_t session_column = kNoColumn;
};

// How hard to look: fast tries a few guesses on a few values (for the fast model), sketch takes the usual ones, thorough
// tries all; mixed does too, for the level `max`.
enum class Effort { fast, sketch, thorough, mixed };

BlockPlan make_plan(const Structure& structure, Effort effort, SwitchedOff off = {});

}  // namespace slipstick::logs
