// What a compressor can do without, for the ablation of benchmarks/logs.py: a block that was packed without some
// technique cannot be read, only its size counts. Part of no archive.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace slipstick::logs {

enum class Technique : uint32_t {
  local_text,          // columns by local text, not by template and slot
  lexer_options,       // quoted strings and paths as values, where they pay
  plans,               // guesses and bases of a column by trial
  sessions,            // a session column
  text_model,          // templates and strings under a model, not zstd
  sure_source,         // from here on of `max` only: the source that was right so often is asked alone
  ring_copies,         // copies from a session's last values
  predicted_numbers,   // strides and offsets
  left_sources,        // candidates that followed the values to the left; other contexts keep these
  past_sources,        // candidates that followed earlier values and templates; other contexts keep these
  second_values,       // the second value or template that a context remembers
  learned_weights,     // mixers that learn
  corrections,         // apms
  hashed_flags,        // contexts of "is it this candidate" beside the sources' histories
  vocabulary,          // known text in front of the text
  expected_byte,       // the byte after a long repeat as one decision
  repeats,             // match models, and with them the expected byte
  count
};
constexpr int kTechniques = static_cast<int>(Technique::count);
constexpr int kTechniquesOfDefault = static_cast<int>(Technique::sure_source);

// The techniques that are switched off, a bit each. Models of readers have no such switch.
class SwitchedOff {
 public:
  constexpr SwitchedOff() = default;
  void add(Technique technique) { bits_ |= 1u << static_cast<int>(technique); }
  constexpr bool has(Technique technique) const { return bits_ >> static_cast<int>(technique) & 1; }
  constexpr bool any() const { return bits_ != 0; }

 private:
  uint32_t bits_ = 0;
};

}  // namespace slipstick::logs
