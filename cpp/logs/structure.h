// Finds the templates of a block of lines, without being given any format.
//
// 1. Lines with the same shape (static text and slot kinds) fall together by one hash lookup, checked byte by byte.
// 2. Shapes that differ in a word only become one template with that word as a slot: iterative clustering in the
//    sense of Logzip (Liu et al., ASE 2019), but over shapes, of which there are few, not over lines.
// 3. Rare shapes that stay alone keep a common beginning as template and carry the rest of the line as one string.
// What cannot be parsed (very long lines, NUL bytes) is a single string under template 0.
//
// 4. A slot that has the same value in all of a template's lines is a constant of the template.
// What a template is written as: template_text.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "logs/lexer.h"

namespace slipstick::logs {

struct Structure {
  std::vector<std::string> templates;     // [0] is the raw line
  std::vector<uint32_t> line_templates;   // of each line
  std::vector<Value> values;              // of all lines in order, slots from left to right
  Interner strings;                       // what string values refer to
};

// `data` must outlive the result, whose strings point into it.
Structure find_structure(std::string_view data, const LexerOptions& options);

}  // namespace slipstick::logs
