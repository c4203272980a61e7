// The mixer's loops (mixing.h), one table an instruction set.
#pragma once

#include <cstdint>

#include "base/kernel_table.h"

namespace slipstick::logs {

// The mixer's loops over `count` inputs, a multiple of 8. Exact, hence equal on every level.
struct MixerKernels {
  const char* isa;
  int32_t (*dot)(const int32_t* a, const int32_t* b, const int16_t* inputs, int count);
  void (*train)(int32_t* a, int32_t* b, const int16_t* inputs, int32_t step, int count);
};
SLIPSTICK_DECLARE_KERNELS(MixerKernels, mixer_kernels)

}  // namespace slipstick::logs
