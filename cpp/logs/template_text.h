// A template as text: its static bytes with every slot as two bytes, 0 and the slot's kind; a constant is 0, kind + 128, its bytes, 0.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slipstick::logs {

constexpr char kSlotMark = '\0';
constexpr uint32_t kRawTemplate = 0;
extern const std::string kRawTemplateText;  // a whole line as one string

constexpr int kConstantBit = 128;

// The static text of a template, constants included, and its slots.
struct TemplatePieces {
  std::vector<std::string> texts;   // slots + 1
  std::vector<uint8_t> kinds;
};
// Throws Error{corrupt_data} when `text` is not a template.
TemplatePieces split_template(std::string_view text);

// What the columns of a template's slots are known by: the slot's kind, up to 10 bytes of template text before the slot
// and the byte after it. Constants count as slots there, so that a column does not depend on what was constant.
std::vector<std::string> column_keys(std::string_view template_text);

// A template's text for people, with <*> for each slot.
std::string shown_template(std::string_view text);

}  // namespace slipstick::logs
