// Counts and sums of statistics.simd.cpp as the threads of one CUDA block make them: 256 threads round and look at 1024 elements of a task at a time, and
// 32 of them add what all have left in shared memory. Sums go by position modulo 16 through the task, as the host's do, so they are the same bits.
// Plain functions of the thread's number, so that the host runs them too.
#pragma once
#include "lowbit/thread_loops.h"

namespace slipstick::lowbit::element {

constexpr int64_t kTask = 1 << 16;  // kTaskElements of elements.h
constexpr int kLookers = 256, kWarps = kLookers / 32, kWords = 4, kLooked = kLookers * kWords;
constexpr int kSums = 32;  // of a task: 16 of x^2, then 16 of (result - x)^2
constexpr int kCounts = 6;

// What a launch adds to; the sums of the tasks follow it.
struct Totals {
  uint64_t counts[kCounts];  // NaN, infinite, zero, saturated, zeroed, subnormal
  uint64_t exponents[256];
  uint32_t error, ulp_error;  // bits of the greatest
};

struct Looked {
  const void* x;
  void* y;  // or null
  int64_t count;
  Totals* totals;
  double* sums;  // [tasks][kSums]
};

// What the threads of a block share.
struct Looking {
  float held[2][kLooked], results[2][kLooked];  // of pairs that are finite, 0 else; of this time and the time before
  uint32_t exponents[kWarps][256], counts[kCounts];
  uint32_t error, ulp_error;
};

// What a thread has found.
struct Finds {
  uint32_t counts[kCounts];
  float error, ulp_error;
};

SLIPSTICK_HOST_DEVICE inline void add_to(uint64_t* counter, uint32_t number) {
#ifdef __CUDA_ARCH__
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(number));
#else
  *counter += number;
#endif
}

SLIPSTICK_HOST_DEVICE inline void clear(int thread, Looking& shared) {
  for (int warp = 0; warp < kWarps; ++warp) shared.exponents[warp][thread] = 0;
  if (thread < kCounts) shared.counts[thread] = 0;
  if (thread == 0) shared.error = shared.ulp_error = 0;
}

SLIPSTICK_HOST_DEVICE inline float magnitude_of(float x) { return float_of(bits_of(x) & ~kSign); }

SLIPSTICK_HOST_DEVICE inline void look_at(const KernelFormat& format, float x, float result, Finds& finds, float* held,
                                          float* held_result) {
  const float infinity = float_of(kInfinity), a = magnitude_of(x), r = magnitude_of(result);
  const bool beyond = x > format.max || x < format.min, finite = a < infinity && r < infinity;
  finds.counts[0] += is_nan(x);
  finds.counts[1] += a == infinity;
  finds.counts[2] += a == 0;
  finds.counts[3] += beyond;
  finds.counts[4] += a > 0 && r == 0;
  *held = finite ? x : 0.0f;
  *held_result = finite ? result : 0.0f;
  const float error = magnitude_of(minus(*held_result, *held));
  if (error > finds.error) finds.error = error;
  if (format.is_codebook) return;
  finds.counts[5] += r > 0 && r < format.smallest_normal;
  // The field of a unit of the last place, and its reciprocal, which is exact but for one of 2^127.
  const int field_of_x = static_cast<int>((bits_of(*held) & kInfinity) >> 23), least = format.grid.least_exponent + 127;
  const int field = (field_of_x > least ? field_of_x : least) - format.grid.mantissa_bits;
  if (!finite || beyond || field <= 0) return;
  const float ulp_error = times(error, float_of(static_cast<uint32_t>(254 - field) << 23));
  if (ulp_error > finds.ulp_error) finds.ulp_error = ulp_error;
}

// Elements of the 64 that 16 threads share a block of random numbers for: 16 apart, one for each of its words.
template <Dtype dtype>
SLIPSTICK_HOST_DEVICE inline void look(const KernelFormat& format, const Tables& tables, const Looked& all, Rounding mode,
                                       const Random& random, int64_t first, int buffer, int thread, Looking& shared, Finds& finds) {
  using T = typename Stored<dtype>::Type;
  const int within = thread / 16 * 64 + thread % 16;
  uint32_t words[kWords] = {};
  int part = 0;
  if (mode == Rounding::stochastic) {
    const int parts = 32 / random.bits;
    const int64_t sixty_four = (first + within) / 64;
    part = static_cast<int>(sixty_four % parts);
    random_words(random, static_cast<uint64_t>(sixty_four / parts), static_cast<uint32_t>(thread % 16), words);
  }
  float x[kWords];
  SLIPSTICK_UNROLL
  for (int i = 0; i < kWords; ++i) {
    const int64_t at = first + within + 16 * i;
    x[i] = at < all.count ? Stored<dtype>::load(static_cast<const T*>(all.x)[at]) : 0.0f;
  }
  SLIPSTICK_UNROLL
  for (int i = 0; i < kWords; ++i) {
    const int64_t at = first + within + 16 * i;
    float held = 0, held_result = 0;
    if (at < all.count) {
      const float result = round_by(mode, format, tables, x[i], random_part(random, words[i], part), random.bits).value;
      if (all.y) static_cast<T*>(all.y)[at] = Stored<dtype>::store(result);
      look_at(format, x[i], result, finds, &held, &held_result);
      add_to(&shared.exponents[thread / 32][bits_of(x[i]) << 1 >> 24], 1);
    }
    shared.held[buffer][within + 16 * i] = held;
    shared.results[buffer][within + 16 * i] = held_result;
  }
}

// One of the kSums sums goes on.
SLIPSTICK_HOST_DEVICE inline void add_looked(int buffer, int thread, const Looking& shared, double* sum) {
  for (int at = thread % 16; at < kLooked; at += 16) {
    const auto x = static_cast<double>(shared.held[buffer][at]);
    const double addend = thread < 16 ? x : minus(static_cast<double>(shared.results[buffer][at]), x);
    *sum = plus(*sum, times(addend, addend));
  }
}

SLIPSTICK_HOST_DEVICE inline void gather_finds(const Finds& finds, Looking& shared) {
  for (int i = 0; i < kCounts; ++i)
    if (finds.counts[i]) add_to(&shared.counts[i], finds.counts[i]);
  raise_to(&shared.error, bits_of(finds.error));
  raise_to(&shared.ulp_error, bits_of(finds.ulp_error));
}

SLIPSTICK_HOST_DEVICE inline void add_to_totals(const Looked& all, int thread, const Looking& shared) {
  uint32_t count = 0;
  for (int warp = 0; warp < kWarps; ++warp) count += shared.exponents[warp][thread];
  if (count) add_to(&all.totals->exponents[thread], count);
  if (thread < kCounts && shared.counts[thread]) add_to(&all.totals->counts[thread], shared.counts[thread]);
  if (thread == 0) raise_to(&all.totals->error, shared.error);
  if (thread == 0) raise_to(&all.totals->ulp_error, shared.ulp_error);
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

inline int64_t tasks_of(int64_t count) { return count / kTask + (count % kTask != 0); }
inline int64_t statistics_bytes(int64_t count) {
  return static_cast<int64_t>(sizeof(Totals)) + tasks_of(count) * kSums * static_cast<int64_t>(sizeof(double));
}

// From a copy of what a launch made.
inline Statistics statistics_of(const void* bytes, int64_t count) {
  const auto& totals = *static_cast<const Totals*>(bytes);
  const double* sums = reinterpret_cast<const double*>(&totals + 1);
  Statistics all;
  all.count = count;
  all.nan = static_cast<int64_t>(totals.counts[0]);
  all.infinite = static_cast<int64_t>(totals.counts[1]);
  all.zero = static_cast<int64_t>(totals.counts[2]);
  all.saturated = static_cast<int64_t>(totals.counts[3]);
  all.zeroed = static_cast<int64_t>(totals.counts[4]);
  all.subnormal = static_cast<int64_t>(totals.counts[5]);
  for (int64_t task = 0; task < tasks_of(count); ++task, sums += kSums) {
    for (int i = 0; i < 16; ++i) {
      all.signal += sums[i];
      all.noise += sums[16 + i];
    }
  }
  all.max_error = static_cast<double>(float_of(totals.error));
  all.max_ulp_error = static_cast<double>(float_of(totals.ulp_error));
  for (int i = 0; i < 256; ++i) all.exponents[i] = static_cast<int64_t>(totals.exponents[i]);
  return all;
}

}  // namespace slipstick::lowbit::element
