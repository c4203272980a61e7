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

constexpr uint32_t kSignBit = 0x80000000u, kInfinityBits = 0x7f800000u;

inline U32 one_where(Mask32 mask) { return select(mask, U32::all(1), U32::all(0)); }

void add(const Grid* grid, float max_value, float min_value, float smallest_normal, const float* x, const float* y, int64_t count,
         double* sums, Statistics* statistics) {
  const F32 zero = F32::all(0.0f), greatest = F32::all(max_value), least = F32::all(min_value), normal = F32::all(smallest_normal);
  const F32 infinity = F32::all(simd::kInfinity);
  // The exponent of a unit of the last place is that of x, at least least_exponent, less mantissa_bits; units are made by integer arithmetic
  // on fields and are powers of two within float32, or 0 below its normal range, where the division is left out.
  const I32 least_field = as_i32(U32::all(static_cast<uint32_t>(grid ? grid->least_exponent + 127 : 127)));
  const I32 mantissa = as_i32(U32::all(static_cast<uint32_t>(grid ? grid->mantissa_bits : 0)));
  U32 nan = U32::all(0), infinite = nan, zeros = nan, saturated = nan, zeroed = nan, subnormal = nan;
  F32 most_error = zero, most_ulp = zero;
  F64 signal[2 * kPartsOf16], noise[2 * kPartsOf16];
  for (int k = 0; k < 2 * kPartsOf16; ++k) {
    signal[k] = F64::load(sums + k * F64::lanes);
    noise[k] = F64::load(sums + 16 + k * F64::lanes);
  }
  for (int64_t start = 0; start < count; start += 16) {
    for (int k = 0; k < kPartsOf16; ++k) {
      const int64_t i = start + k * F32::lanes;
      // Lanes past the end read as NaN and are taken from that count at the end.
      const F32 v = F32::load_first(x + i, count - i, simd::kNaN), r = F32::load_first(y + i, count - i, simd::kNaN);
      const F32 a = abs(v), result = abs(r);
      const Mask32 beyond = (v > greatest) | (v < least);
      nan += one_where(is_nan(v));
      infinite += one_where(a == infinity);
      zeros += one_where(a == zero);
      saturated += one_where(beyond);
      zeroed += one_where((a > zero) & (result == zero));
      subnormal += one_where((result > zero) & (result < normal));
      const Mask32 finite = (a < infinity) & (result < infinity);
      const F32 held = select(finite, v, zero), held_result = select(finite, r, zero), error = held_result - held;
      most_error = max_or_second(most_error, abs(error));
      const U32 field = as_u32(max(as_i32(as_u32(held) & U32::all(kInfinityBits)) >> 23, least_field) - mantissa);
      const F32 unit = as_f32(select(as_i32(field) > as_i32(U32::all(0)), field << 23, U32::all(0)));
      const Mask32 measured = finite & ~beyond & (unit > zero);
      most_ulp = max_or_second(most_ulp, select(measured, abs(error) / select(measured, unit, F32::all(1.0f)), zero));
      const F64 low = widen_low(held), high = widen_high(held);
      const F64 low_error = widen_low(held_result) - low, high_error = widen_high(held_result) - high;
      signal[2 * k] += low * low;
      signal[2 * k + 1] += high * high;
      noise[2 * k] += low_error * low_error;
      noise[2 * k + 1] += high_error * high_error;
    }
  }
  for (int k = 0; k < 2 * kPartsOf16; ++k) {
    signal[k].store(sums + k * F64::lanes);
    noise[k].store(sums + 16 + k * F64::lanes);
  }
  const int64_t past = (count + 15) / 16 * 16 - count;
  statistics->count += count;
  statistics->nan += static_cast<int64_t>(reduce_add(nan)) - past;
  statistics->infinite += reduce_add(infinite);
  statistics->zero += reduce_add(zeros);
  statistics->saturated += reduce_add(saturated);
  statistics->zeroed += reduce_add(zeroed);
  if (grid) statistics->subnormal += reduce_add(subnormal);
  const double error = static_cast<double>(reduce_max_keep_nan(most_error)), ulp = static_cast<double>(reduce_max_keep_nan(most_ulp));
  if (error > statistics->max_error) statistics->max_error = error;
  if (grid && ulp > statistics->max_ulp_error) statistics->max_ulp_error = ulp;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t word;
    __builtin_memcpy(&word, x + i, 4);
    ++statistics->exponents[(word & ~kSignBit) >> 23];
  }
}

}  // namespace

const StatisticsKernels statistics_kernels{SLIPSTICK_ISA_NAME, add};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
