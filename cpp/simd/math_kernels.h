// The functions of math.h over arrays, one table a level: what the tests reach them by. Results do not depend on the length or the alignment.
#pragma once
#include <cstdint>

#include "base/kernel_table.h"
#include "simd/math_bounds.h"

namespace slipstick::simd {

// y[i] = function(x[i]) for i < count; y may be x.
using F32Kernel = void (*)(const float* x, float* y, int64_t count);
using F64Kernel = void (*)(const double* x, double* y, int64_t count);

struct MathKernels {
  const char* isa;
  F32Kernel exp, exp2, expm1, log, log2, log1p, tanh;
  F64Kernel exp_f64, log_f64;
};
SLIPSTICK_DECLARE_KERNELS(MathKernels, math_kernels)

template <typename Kernel> struct MathFunction {
  const char* name;
  Kernel MathKernels::* kernel;
  double max_ulp;
};
constexpr MathFunction<F32Kernel> kF32Functions[] = {
    {"exp", &MathKernels::exp, kExpMaxUlp},    {"exp2", &MathKernels::exp2, kExp2MaxUlp}, {"expm1", &MathKernels::expm1, kExpm1MaxUlp},
    {"log", &MathKernels::log, kLogMaxUlp},    {"log2", &MathKernels::log2, kLog2MaxUlp}, {"log1p", &MathKernels::log1p, kLog1pMaxUlp},
    {"tanh", &MathKernels::tanh, kTanhMaxUlp},
};
constexpr MathFunction<F64Kernel> kF64Functions[] = {
    {"exp", &MathKernels::exp_f64, kExpF64MaxUlp},
    {"log", &MathKernels::log_f64, kLogF64MaxUlp},
};

}  // namespace slipstick::simd
