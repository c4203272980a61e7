// Templates as text: see template_text.h.

#include "logs/template_text.h"

#include <algorithm>

#include "logs/lexer.h"
#include "slipstick/error.h"

namespace slipstick::logs {

const std::string kRawTemplateText = {kSlotMark, static_cast<char>(kString)};

namespace {

constexpr size_t kKeyContext = 10;  // bytes of template text in front of a slot that name its column

}  // namespace

TemplatePieces split_template(std::string_view text) {
  TemplatePieces pieces;
  pieces.texts.emplace_back();
  auto illegal = [] { throw Error(ErrorKind::corrupt_data, "template: a slot is illegal; expected one of FORMAT.md"); };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != kSlotMark) {
      pieces.texts.back() += text[i];
      continue;
    }
    if (++i == text.size()) illegal();
    int kind = static_cast<unsigned char>(text[i]);
    if (!is_legal_kind(kind & ~kConstantBit)) illegal();
    if (kind & kConstantBit) {
      size_t end = text.find(kSlotMark, ++i);
      if (end == std::string_view::npos) illegal();
      pieces.texts.back() += text.substr(i, end - i);
      i = end;
    } else {
      pieces.kinds.push_back(static_cast<uint8_t>(kind));
      pieces.texts.emplace_back();
    }
  }
  return pieces;
}

std::vector<std::string> column_keys(std::string_view text) {
  std::vector<std::string> keys;
  std::string before;   // the template so far, constants as slots
  bool pending = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (pending) keys.back() += text[i];
    pending = false;
    if (text[i] != kSlotMark) {
      before += text[i];
      continue;
    }
    if (++i == text.size()) break;
    int kind = static_cast<unsigned char>(text[i]);
    if (kind & kConstantBit) {
      i = std::min(text.find(kSlotMark, i), text.size());
    } else {
      std::string key(1, text[i]);
      key += before.substr(before.size() - std::min(before.size(), kKeyContext));
      key += '\n';
      keys.push_back(std::move(key));
      pending = true;
    }
    before += kSlotMark;
    before += static_cast<char>(kind & ~kConstantBit);
  }
  return keys;
}

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

}  // namespace slipstick::logs
