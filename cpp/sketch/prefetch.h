// Prefetches of rows in the order of memory. A strip of columns is too narrow for the hardware to foresee and asks for few lines at once; whole rows
// come from memory more than twice as fast, and strips of them then from the last cache.
#pragma once
#include "sketch/kernels.h"

namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE {
namespace {

constexpr int64_t kLine = 64;  // bytes

// The rows that are due while the work goes from `before` to `after`, of `all`.
inline void prefetch_share(const Ahead& later, int64_t before, int64_t after, int64_t all) {
  const int64_t end = later.rows * after / all;
  for (int64_t r = later.rows * before / all; r < end; ++r) {
    for (int64_t at = 0; at < later.bytes; at += kLine) __builtin_prefetch(later.data + r * later.stride + at, 0, 2);
  }
}

}  // namespace
}  // namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE
