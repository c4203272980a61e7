// Counts and sums over a block of elements and their results. Sums go by position modulo 16 in float64, so all levels add in the same order.
#include "lowbit/kernels.h"
#include "simd/vec.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F32;
using simd::F64;
using simd::I32;
using simd::kPartsOf16;
using simd::Mask32;
using simd::U32;

constexpr uint32_t kInfinityBits = 0x7f800000u;

// Eight tables side by side, because an increment waits for the one before it in its place.
void count_exponents(const float* x, int64_t count, int64_t* exponents) {
  constexpr int64_t kTables = 8;
  uint8_t fields[1024];
  uint16_t tables[kTables][256] = {};
  int64_t i = 0;
  for (; i + U32::lanes <= count; i += U32::lanes) store_low8(((as_u32(F32::load(x + i)) << 1) >> 24), fields + i);
  if (i < count) store_first_low8((as_u32(F32::load_first(x + i, count - i, 0.0f)) << 1) >> 24, fields + i, count - i);
  for (i = 0; i + kTables <= count; i += kTables) {
    uint64_t word;
    __builtin_memcpy(&word, fields + i, 8);
    for (int64_t k = 0; k < kTables; ++k) ++tables[k][word >> (8 * k) & 255];
  }
  for (; i < count; ++i) ++tables[0][fields[i]];
  for (int64_t k = 0; k < 256; ++k) {
    uint32_t sum = 0;
    for (int64_t table = 0; table < kTables; ++table) sum += tables[table][k];
    exponents[k] += sum;
  }
}

void add(const Grid* grid, float max_value, float min_value, float smallest_normal, const float* x, const float* y, int64_t count,
         double* sums, Statistics* statistics) {
  const F32 zero = F32::all(0.0f), greatest = F32::all(max_value), least = F32::all(min_value), normal = F32::all(smallest_normal);
  const F32 infinity = F32::all(simd::kInfinity);
  // The exponent of a unit of the last place is that of x, at least least_exponent, less mantissa_bits; where that is below the normal range of
  // float32, no error is measured.
  const I32 least_field = as_i32(U32::all(static_cast<uint32_t>(grid ? grid->least_exponent + 127 : 127)));
  const I32 mantissa = as_i32(U32::all(static_cast<uint32_t>(grid ? grid->mantissa_bits : 0)));
  int64_t nan = 0, infinite = 0, zeros = 0, saturated = 0, zeroed = 0, subnormal = 0;
  F32 most_error = zero, most_ulp = zero;
  F64 signal[2 * kPartsOf16], noise[2 * kPartsOf16];
  for (int k = 0; k < 2 * kPartsOf16; ++k) {
    signal[k] = F64::load(sums + k * F64::lanes);
    noise[k] = F64::load(sums + 16 + k * F64::lanes);
  }
  const auto take = [&](F32 v, F32 r, int k) {
    const F32 a = abs(v), result = abs(r);
    const Mask32 beyond = (v > greatest) | (v < least);
    nan += simd::count(is_nan(v));
    infinite += simd::count(a == infinity);
    zeros += simd::count(a == zero);
    saturated += simd::count(beyond);
    zeroed += simd::count((a > zero) & (result == zero));
    subnormal += simd::count((result > zero) & (result < normal));
    const Mask32 finite = (a < infinity) & (result < infinity);
    const F32 held = select(finite, v, zero), held_result = select(finite, r, zero), error = held_result - held;
    most_error = max_or_second(most_error, abs(error));
    // The reciprocal of a unit, which is exact but for one of 2^127, where nothing is lost.
    const I32 field = max(as_i32(as_u32(held) & U32::all(kInfinityBits)) >> 23, least_field) - mantissa;
    const F32 reciprocal = as_f32(as_u32(as_i32(U32::all(254)) - field) << 23);
    const Mask32 measured = finite & ~beyond & (field > as_i32(U32::all(0)));
    most_ulp = max_or_second(most_ulp, select(measured, abs(error) * reciprocal, zero));
    const F64 low = widen_low(held), high = widen_high(held);
    const F64 low_error = widen_low(held_result) - low, high_error = widen_high(held_result) - high;
    signal[2 * k] += low * low;
    signal[2 * k + 1] += high * high;
    noise[2 * k] += low_error * low_error;
    noise[2 * k + 1] += high_error * high_error;
  };
  int64_t start = 0;
  for (; start + 16 <= count; start += 16) {
    for (int k = 0; k < kPartsOf16; ++k) take(F32::load(x + start + k * F32::lanes), F32::load(y + start + k * F32::lanes), k);
  }
  for (int k = 0; start < count && k < kPartsOf16; ++k) {
    // Lanes past the end read as NaN and are taken from that count at the end.
    const int64_t i = start + k * F32::lanes;
    take(F32::load_first(x + i, count - i, simd::kNaN), F32::load_first(y + i, count - i, simd::kNaN), k);
  }
  for (int k = 0; k < 2 * kPartsOf16; ++k) {
    signal[k].store(sums + k * F64::lanes);
    noise[k].store(sums + 16 + k * F64::lanes);
  }
  const int64_t past = (count + 15) / 16 * 16 - count;
  statistics->count += count;
  statistics->nan += nan - past;
  statistics->infinite += infinite;
  statistics->zero += zeros;
  statistics->saturated += saturated;
  statistics->zeroed += zeroed;
  if (grid) statistics->subnormal += subnormal;
  const double error = static_cast<double>(reduce_max_keep_nan(most_error)), ulp = static_cast<double>(reduce_max_keep_nan(most_ulp));
  if (error > statistics->max_error) statistics->max_error = error;
  if (grid && ulp > statistics->max_ulp_error) statistics->max_ulp_error = ulp;
  count_exponents(x, count, statistics->exponents);
}

}  // namespace

const StatisticsKernels statistics_kernels{SLIPSTICK_ISA_NAME, add};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
