// Rounding of one vector of float32 to a grid: every mode, and a quicker way to nearest even. In the namespace of the level; included by
// .simd.cpp files alone. Exact, hence the same bits on every level.
//
// Two regions. From 2^least_exponent on, the bits of a magnitude are an integer whose last dropped_bits go; a carry runs into the exponent as it
// should. Below, the value is a whole number of quanta, and float arithmetic finds it: adding 2^23 quanta and subtracting them again rounds to
// nearest even; comparing with x gives the lower neighbour, from which every other mode follows.
#pragma once
#include "lowbit/kernels.h"
#include "simd/vec.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F32;
using simd::I32;
using simd::Mask32;
using simd::U32;

constexpr uint32_t kSignBit = 0x80000000u, kInfinityBits = 0x7f800000u;

// A Grid in registers.
struct GridVectors {
  int dropped_bits;
  U32 dropped, half, below_half, last_bit, even_flip;  // masks and addends for the dropped bits
  I32 subnormal_limit, flush_limit;
  F32 quantum, shift;
  U32 max[2], overflow[2], infinity[2];  // for positive x; what to flip for negative x
  F32 zero;  // added at the end: -0 keeps the sign of zeros, +0 takes it away
  // Stochastic.
  int random_up, random_down, random_bits;
  U32 random_half, random_end;
  I32 fraction_exponent;

  GridVectors(const Grid& grid, int bits) {
    const int d = grid.dropped_bits;
    dropped_bits = d;
    dropped = U32::all((1u << d) - 1);
    half = U32::all(d > 0 ? 1u << (d - 1) : 0);
    below_half = U32::all(d > 0 ? (1u << (d - 1)) - 1 : 0);
    last_bit = U32::all(d > 0 ? 1 : 0);
    even_flip = U32::all(grid.even_flip);
    subnormal_limit = as_i32(U32::all(grid.subnormal_limit));
    flush_limit = as_i32(U32::all(grid.flush_limit));
    quantum = F32::all(grid.quantum);
    shift = F32::all(grid.shift);
    fill(max, grid.max);
    fill(overflow, grid.overflow);
    fill(infinity, grid.infinity);
    zero = F32::all(grid.negative_zero ? -0.0f : 0.0f);
    random_bits = bits;
    random_up = d > bits ? d - bits : 0;
    random_down = bits > d ? (bits - d < 31 ? bits - d : 31) : 0;
    random_half = U32::all(d > bits ? 1u << (d - bits - 1) : 0);
    random_end = U32::all(bits == 32 ? 0 : 1u << bits);
    fraction_exponent = as_i32(U32::all(static_cast<uint32_t>(150 + grid.least_exponent - grid.mantissa_bits - bits)));
  }
  static void fill(U32 (&vectors)[2], const uint32_t (&pair)[2]) {
    vectors[0] = U32::all(pair[0]);
    vectors[1] = U32::all(pair[0] ^ pair[1]);
  }
};

constexpr bool is_nearest(Rounding mode) {
  return mode == Rounding::nearest_even || mode == Rounding::nearest_away || mode == Rounding::stochastic;
}

template <bool symmetric> U32 of_sign(const U32 (&pair)[2], U32 negative) {
  if constexpr (symmetric) return pair[0];
  return pair[0] ^ (pair[1] & negative);
}

inline U32 as_lanes(Mask32 mask, U32 value) { return select(mask, value, U32::all(0)); }

// Magnitudes of at least 2^least_exponent. negative: all ones where x is.
template <Rounding mode> U32 round_normal(U32 a, U32 negative, U32 random, const GridVectors& g) {
  if constexpr (mode == Rounding::nearest_even) {
    const U32 odd = ((a >> g.dropped_bits) ^ g.even_flip) & g.last_bit;
    return and_not(a + g.below_half + odd, g.dropped);
  }
  if constexpr (mode == Rounding::nearest_away) return and_not(a + g.half, g.dropped);
  if constexpr (mode == Rounding::toward_zero) return and_not(a, g.dropped);
  if constexpr (mode == Rounding::up) return and_not(a + and_not(g.dropped, negative), g.dropped);
  if constexpr (mode == Rounding::down) return and_not(a + (g.dropped & negative), g.dropped);
  if constexpr (mode == Rounding::to_odd) {
    const U32 low = and_not(a, g.dropped);
    const U32 even = and_not(g.last_bit, (a >> g.dropped_bits) ^ g.even_flip);
    return select(low == a, a, low + (even << g.dropped_bits));
  }
  if constexpr (mode == Rounding::stochastic) {
    return and_not(a + ((((random << g.random_up) >> g.random_down) & g.dropped) + g.random_half), g.dropped);
  }
}

// floor(rest / quantum * 2^bits + 1/2), for 0 <= rest < quantum.
inline U32 rounded_fraction(F32 rest, const GridVectors& g) {
  const U32 word = as_u32(rest), exponent = word >> 23;
  const U32 significand = (word & U32::all(0x7fffffu)) | as_lanes(exponent != U32::all(0), U32::all(0x800000u));
  const I32 right = g.fraction_exponent - as_i32(max(exponent, U32::all(1)));
  const U32 by = as_u32(min(max(right, as_i32(U32::all(1))), as_i32(U32::all(31))));
  const U32 shifted_right = ((significand >> (by - U32::all(1))) + U32::all(1)) >> 1;
  const U32 shifted_left = significand << as_u32(max(as_i32(U32::all(0)) - right, as_i32(U32::all(0))));
  return select(right > as_i32(U32::all(0)), shifted_right, shifted_left);
}

// Magnitudes below 2^least_exponent; anything elsewhere.
template <Rounding mode> U32 round_subnormal(F32 a, U32 negative, U32 random, const GridVectors& g) {
  const F32 nearest = (a + g.shift) - g.shift;
  if constexpr (mode == Rounding::nearest_even) return as_u32(nearest);
  const U32 one = as_u32(g.quantum);
  const F32 low = nearest - as_f32(as_lanes(nearest > a, one));
  U32 step;
  if constexpr (mode == Rounding::toward_zero) return as_u32(low);
  if constexpr (mode == Rounding::nearest_away) {
    const F32 rest = a - low;
    step = as_lanes(rest + rest >= g.quantum, one);
  }
  if constexpr (mode == Rounding::up) step = and_not(as_lanes(low != a, one), negative);
  if constexpr (mode == Rounding::down) step = as_lanes(low != a, one) & negative;
  if constexpr (mode == Rounding::to_odd) {
    const U32 even = ~as_u32(low + g.shift) & U32::all(1);
    step = as_lanes(low != a, as_lanes(even != U32::all(0), one));
  }
  if constexpr (mode == Rounding::stochastic) {
    const U32 fraction = rounded_fraction(a - low, g);
    step = as_lanes(fraction != U32::all(0), as_lanes(random >= g.random_end - fraction, one));
  }
  return as_u32(low + as_f32(step));
}

template <Rounding mode, bool symmetric> F32 round_vector(F32 x, U32 random, const GridVectors& g) {
  const U32 word = as_u32(x), sign = word & U32::all(kSignBit), a = word ^ sign;
  const U32 negative = as_u32(as_i32(word) >> 31);
  U32 r = round_normal<mode>(a, negative, random, g);
  const Mask32 subnormal = as_i32(a) < g.subnormal_limit;
  if (any_of(subnormal)) r = select(subnormal, round_subnormal<mode>(as_f32(a), negative, random, g), r);
  r = select(as_i32(r) < g.flush_limit, U32::all(0), r);
  const U32 greatest = of_sign<symmetric>(g.max, negative);
  U32 beyond = of_sign<symmetric>(g.overflow, negative);
  if constexpr (!is_nearest(mode)) {
    // Only a mode that rounds away from zero takes a finite x beyond the greatest value.
    if constexpr (mode == Rounding::up) beyond = select(negative != U32::all(0), greatest, beyond);
    if constexpr (mode == Rounding::down) beyond = select(negative != U32::all(0), beyond, greatest);
    if constexpr (mode == Rounding::toward_zero || mode == Rounding::to_odd) beyond = greatest;
    beyond = select(a == U32::all(kInfinityBits), of_sign<symmetric>(g.infinity, negative), beyond);
  }
  r = select(as_i32(r) > as_i32(greatest), beyond, r);
  r = select(as_i32(a) > as_i32(U32::all(kInfinityBits)), a, r);
  return as_f32(r | sign) + g.zero;
}

// Nearest even where float32 leaves room above the format: adding and subtracting 2^23 units of the last place serves both regions at once.
struct Quick {
  U32 exponent, least, lift;
  F32 clamp, max, beyond, zero;

  explicit Quick(const Grid& grid)
      : exponent(U32::all(kInfinityBits)),
        least(U32::all(static_cast<uint32_t>(grid.least_exponent + 127) << 23)),
        lift(U32::all(static_cast<uint32_t>(grid.dropped_bits) << 23)),
        clamp(as_f32(U32::all(grid.clamp))),
        max(as_f32(U32::all(grid.max[0]))),
        beyond(as_f32(U32::all(grid.overflow[0]))),
        zero(F32::all(grid.negative_zero ? -0.0f : 0.0f)) {}

  F32 operator()(F32 x) const {
    const U32 sign = as_u32(x) & U32::all(kSignBit);
    const F32 a = min_or_second(clamp, as_f32(as_u32(x) ^ sign));  // a NaN stays
    const F32 unit = as_f32(simd::max(as_u32(a) & exponent, least) + lift);
    const F32 r = (a + unit) - unit;
    return as_f32(as_u32(select(r > max, beyond, r)) | sign) + zero;
  }
};

// x to whole units in a mode, where `unit` is 1.5 * 2^23 of them and |x| < 2^22 of them, so that a sum x + unit has its units in its last bits
// whatever the sign of x. A NaN stays. Results of 0 are +0.
template <Rounding mode> F32 round_to_units(F32 x, F32 unit) {
  const F32 sum = x + unit, nearest = sum - unit;
  if constexpr (mode == Rounding::nearest_even) return nearest;
  const U32 zero = U32::all(0), one = U32::all(1), outward = as_u32(as_i32(as_u32(x)) >> 31) | one;  // 1 or -1, away from zero
  U32 step;
  if constexpr (mode == Rounding::up) step = select(nearest < x, one, zero);
  if constexpr (mode == Rounding::down) step = zero - select(nearest > x, one, zero);
  if constexpr (mode == Rounding::toward_zero) step = zero - select(abs(nearest) > abs(x), outward, zero);
  if constexpr (mode == Rounding::nearest_away) {  // a tie that went to an even number of units may have gone towards zero
    const F32 lost = abs(x) - abs(nearest), last = as_f32(as_u32(unit) + one) - unit;
    step = select(lost + lost == last, outward, zero);
  }
  if constexpr (mode == Rounding::to_odd) {
    const U32 other = select(nearest < x, one, select(nearest > x, U32::all(~0u), zero));
    step = select((as_u32(sum) & one) == zero, other, zero);
  }
  return as_f32(as_u32(sum) + step) - unit;
}

// The modes other than nearest even where Quick serves that one.
template <Rounding mode> struct QuickOther {
  U32 exponent, least, lift;
  F32 clamp, max, least_number, beyond, infinity, zero;

  explicit QuickOther(const Grid& grid)
      : exponent(U32::all(kInfinityBits)),
        least(U32::all(static_cast<uint32_t>(grid.least_exponent + 127) << 23)),
        lift(U32::all((static_cast<uint32_t>(grid.dropped_bits) << 23) + (1u << 22))),
        clamp(as_f32(U32::all(grid.clamp))),
        max(as_f32(U32::all(grid.max[0]))),
        least_number(as_f32(U32::all(grid.max[0] | kSignBit))),
        beyond(as_f32(U32::all(grid.overflow[0]))),
        infinity(as_f32(U32::all(kInfinityBits))),
        zero(F32::all(grid.negative_zero ? -0.0f : 0.0f)) {}

  F32 operator()(F32 x) const {
    const U32 sign = as_u32(x) & U32::all(kSignBit);
    const F32 magnitude = as_f32(as_u32(x) ^ sign), a = min_or_second(clamp, magnitude);
    const F32 unit = as_f32(simd::max(as_u32(a) & exponent, least) + lift);
    F32 r = round_to_units<mode>(as_f32(as_u32(a) | sign), unit);
    const F32 signed_beyond = as_f32(as_u32(beyond) | sign);
    // Only a mode that rounds away from zero takes a finite x beyond the greatest number.
    if constexpr (mode == Rounding::nearest_away) r = select(abs(r) > max, signed_beyond, r);
    if constexpr (mode == Rounding::up) r = max_or_second(least_number, select(r > max, beyond, r));
    if constexpr (mode == Rounding::down) r = min_or_second(max, select(r < least_number, signed_beyond, r));
    if constexpr (mode == Rounding::toward_zero || mode == Rounding::to_odd) r = min_or_second(max, max_or_second(least_number, r));
    if constexpr (mode != Rounding::nearest_away) r = select(magnitude == infinity, signed_beyond, r);
    return as_f32(as_u32(r) | sign) + zero;
  }
  static bool fits(const Grid& grid) { return grid.quick && grid.mantissa_bits <= 20; }
};

// Integers and fixed point, whose units are alike everywhere: what is held to the range before rounding is within it afterwards.
template <Rounding mode> struct Counting {
  F32 least_number, max, unit;

  explicit Counting(const Grid& grid)
      : least_number(as_f32(U32::all(grid.max[1] | kSignBit))),
        max(as_f32(U32::all(grid.max[0]))),
        unit(as_f32(as_u32(F32::all(grid.shift)) | U32::all(1u << 22))) {}

  F32 operator()(F32 x) const { return round_to_units<mode>(min_or_second(max, max_or_second(least_number, x)), unit); }
};

// Stochastic rounding of formats that drop more bits than are random. With 2^least_exponent added, rounded towards zero, a magnitude below that
// has its quanta where a normal one has its units, and enough bits behind them for a probability rounded half up; so one addition serves both.
struct QuickStochastic {
  U32 window, half, dropped, least, infinity;
  I32 subnormal_limit, max;
  U32 beyond;
  F32 zero;
  int random_bits, right;  // from the uppermost bits of a word to the uppermost dropped ones

  QuickStochastic(const Grid& grid, int bits)
      : window(U32::all(((1u << bits) - 1) << (grid.dropped_bits - bits))),
        half(U32::all(1u << (grid.dropped_bits - bits - 1))),
        dropped(U32::all((1u << grid.dropped_bits) - 1)),
        least(U32::all(grid.subnormal_limit)),
        infinity(U32::all(kInfinityBits)),
        subnormal_limit(as_i32(least)),
        max(as_i32(U32::all(grid.max[0]))),
        beyond(U32::all(grid.overflow[0])),
        zero(F32::all(grid.negative_zero ? -0.0f : 0.0f)),
        random_bits(bits),
        right(32 - grid.dropped_bits) {}

  // With the random numbers at `part` of a word; see for_each_random_word.
  F32 operator()(F32 x, U32 random_word, int part) const {
    const U32 addend = (((random_word << (32 - random_bits * (part + 1))) >> right) & window) | half;
    const U32 word = as_u32(x), sign = word & U32::all(kSignBit), a = word ^ sign;
    const Mask32 subnormal = as_i32(a) < subnormal_limit;
    const U32 raised = select(subnormal, as_u32(add_toward_zero(as_f32(least), as_f32(a))), a);
    U32 r = and_not(raised + addend, dropped);
    r = select(subnormal, as_u32(as_f32(r) - as_f32(least)), r);
    r = select(as_i32(r) > max, beyond, r);
    r = select(as_i32(a) > as_i32(infinity), a, r);
    return as_f32(r | sign) + zero;
  }
  static bool fits(const Grid& grid, int bits) { return grid.symmetric && grid.flush_limit == 0 && grid.dropped_bits > bits; }
};

// Nearest even where the format's exponents are float32's: its own subnormals are the format's, and one addition serves all.
struct QuickWide {
  int dropped_bits;
  U32 dropped, below_half, one;
  I32 max;
  U32 beyond;
  F32 zero;

  explicit QuickWide(const Grid& grid)
      : dropped_bits(grid.dropped_bits),
        dropped(U32::all((1u << grid.dropped_bits) - 1)),
        below_half(U32::all((1u << (grid.dropped_bits - 1)) - 1)),
        one(U32::all(1)),
        max(as_i32(U32::all(grid.max[0]))),
        beyond(U32::all(grid.overflow[0])),
        zero(F32::all(grid.negative_zero ? -0.0f : 0.0f)) {}

  F32 operator()(F32 x) const {
    const U32 word = as_u32(x), sign = word & U32::all(kSignBit), a = word ^ sign;
    U32 r = and_not(a + below_half + ((a >> dropped_bits) & one), dropped);
    r = select(as_i32(r) > max, beyond, r);
    r = select(as_i32(a) > as_i32(U32::all(kInfinityBits)), a, r);
    return as_f32(r | sign) + zero;
  }
  static bool fits(const Grid& grid) {
    return grid.subnormal_limit == 0 && grid.symmetric && grid.flush_limit == 0 && grid.mantissa_bits > 0 && grid.dropped_bits > 0;
  }
};

}  // namespace
}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
