// The block transform of hadamard.simd.cpp, for the table that random.simd.cpp closes. Meanings are in kernels.h.
#pragma once
#include "sketch/kernels.h"

namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE {

int64_t hadamard_panel();
void hadamard(const HadamardStrip* strips, int64_t blocks, const HadamardStrip* next, const Ahead& later, int64_t samples,
              const int32_t* sampled, double* work, double* sums);

}  // namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE
