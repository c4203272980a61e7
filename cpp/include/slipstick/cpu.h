// Instruction-set levels: which of those that this build has kernels for run on this machine, and which one is in use.
// Levels are x86-64-v2, v3 (AVX2, FMA), v4 (AVX-512 F/BW/CD/DQ/VL), v4_bf16 (v4 and AVX512-BF16), and neon on arm64. Each runs everything the
// earlier ones run.
#pragma once
#include <string>
#include <vector>

namespace slipstick {

enum class Isa : int { v2, v3, v4, v4_bf16, neon };

const char* isa_name(Isa level);

// Levels that run here (processor and operating system), lowest first. Empty on an x86-64 processor older than v2, where slipstick cannot work.
const std::vector<Isa>& isa_levels();

// The level in use: the one given to set_isa, else SLIPSTICK_ISA, else the highest of isa_levels().
// Throws Error{invalid_argument} if SLIPSTICK_ISA is no level of this machine, Error{unsupported} if there is none.
Isa isa();

// Forces a level for all later calls in this process. Meant for tests and measurements; calls that run meanwhile may use either level.
// An empty name returns to the default. Throws Error{invalid_argument} if the name is no level of this machine.
void set_isa(const std::string& name);

// What the kernels of isa() say about themselves: the proof that a forced level is the one running.
struct IsaProof {
  const char* table;  // the level that their table was built as
  const char* compiled;  // the level that the compiler's own feature macros showed in them
};
IsaProof isa_proof();

}  // namespace slipstick
