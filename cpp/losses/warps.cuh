// Warps of the losses room's kernels: how they share out the work, and how their lanes join.
#pragma once
#include <type_traits>

#include "base/launch.cuh"
#include "losses/tile_rows.h"

namespace slipstick::losses::cuda {

using slipstick::cuda::kBlockThreads;
using tile::kLanes;

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int64_t this_warp() { return (int64_t{blockIdx.x} * kBlockThreads + threadIdx.x) / kLanes; }
__device__ inline int64_t all_warps() { return int64_t{gridDim.x} * (kBlockThreads / kLanes); }
__device__ inline int this_lane() { return static_cast<int>(threadIdx.x) % kLanes; }

template <class T> __device__ T from_lane(const T& x, int lane) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(uint32_t) == 0, "shuffled word by word");
  uint32_t words[sizeof(T) / sizeof(uint32_t)];
  memcpy(words, &x, sizeof x);
  SLIPSTICK_UNROLL
  for (uint32_t& word : words) word = __shfl_xor_sync(kAllLanes, word, lane);
  T out;
  memcpy(&out, words, sizeof out);
  return out;
}
// Of all lanes of a warp: a sum of two is the same whichever comes first, so all get the same bits.
template <class T> __device__ T of_warp(T x) {
  for (int lane = kLanes / 2; lane > 0; lane /= 2) x = join(x, from_lane(x, lane));
  return x;
}

}  // namespace slipstick::losses::cuda
