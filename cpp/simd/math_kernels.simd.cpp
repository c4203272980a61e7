// The functions of math.h over arrays. Exactness: math.h; equal on every level.
#include "simd/math_kernels.h"

#include "simd/math.h"

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {
namespace {

// The last vector is filled up with 1, a harmless argument to all of them.
template <typename T, Vec<T> (*function)(Vec<T>)> void map(const T* x, T* y, int64_t count) {
  int64_t i = 0;
  for (; i + Vec<T>::lanes <= count; i += Vec<T>::lanes) function(Vec<T>::load(x + i)).store(y + i);
  if (i < count) function(Vec<T>::load_first(x + i, count - i, T{1})).store_first(y + i, count - i);
}

}  // namespace

const MathKernels math_kernels{
    SLIPSTICK_ISA_NAME, map<float, exp>,   map<float, exp2>, map<float, expm1>, map<float, log>,
    map<float, log2>,   map<float, log1p>, map<float, tanh>, map<double, exp>,  map<double, log>,
};

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
