// A block as templates and typed columns, under the row model (`default`), the fast model (`fast`) or the mixing model (`max`).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "logs/account.h"
#include "logs/line_filter.h"
#include "logs/plan.h"
#include "logs/structure.h"

namespace slipstick::logs {

// The two parts of a block: coded decisions, and the text they refer to (templates, then every column's new strings).
struct ModelStreams {
  std::string symbols;
  std::string text;
};

// Effort::fast: for decode_fast, whose symbols zstd is to compress; Effort::mixed: for decode_max. Otherwise for decode_model.
// `off`: the streams can then not be decoded.
ModelStreams encode_model(const Structure& structure, Effort effort, SwitchedOff off = {});

// The raw bytes again; `account`, if given, learns what each column cost. Throws Error{corrupt_data} if the streams do not make exactly `raw_size` bytes.
std::string decode_model(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account = nullptr);
std::string decode_fast(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account = nullptr);
std::string decode_max(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account = nullptr);

// Only the lines that `filter` cannot rule out; the others are decoded, because the model learns from them, but not written. All lines, if
// the filter rules out too few for that to pay.
enum class ModelKind { fast, standard, max };
LineSelection select_model_lines(ModelKind kind, std::string_view symbols, std::string_view text, size_t lines, size_t raw_size,
                                 const LineFilter& filter);

// Whether the streams give back `raw`, without holding the result.
bool decodes_to(const ModelStreams& streams, Effort effort, size_t lines, std::string_view raw);

}  // namespace slipstick::logs
