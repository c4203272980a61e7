// The arithmetic of one element in plain C++, for the host and for CUDA: rounding, codes, code books, scales, random numbers, conversions.
// Bit for bit what the vector kernels give, NaN payloads included; tests/cpp/lowbit_element_test.cpp holds the two together. NaN are moved as
// integers, because a GPU's arithmetic drops their payload; one that arithmetic makes has the bits of x86, 0xffc00000.
#pragma once
#include "base/host_device.h"
#include "lowbit/grid.h"

namespace slipstick::lowbit::element {

constexpr uint32_t kSign = 0x80000000u, kInfinity = 0x7f800000u, kNan = 0x7fc00000u, kQuiet = 0x00400000u;

SLIPSTICK_HOST_DEVICE inline bool is_nan(float x) { return (bits_of(x) & ~kSign) > kInfinity; }

// ---- rounding to a grid; see round_vector.h ---------------------------------------------------------------------------------------------------

template <Rounding mode>
SLIPSTICK_HOST_DEVICE inline uint32_t round_normal(const Grid& grid, uint32_t a, bool negative, uint32_t random, int random_bits) {
  const int d = grid.dropped_bits;
  const uint32_t dropped = (1u << d) - 1, half = d > 0 ? 1u << (d - 1) : 0, last_bit = d > 0 ? 1 : 0;
  if (mode == Rounding::nearest_even) {
    const uint32_t odd = ((a >> d) ^ grid.even_flip) & last_bit;
    return (a + (half - last_bit) + odd) & ~dropped;
  }
  if (mode == Rounding::nearest_away) return (a + half) & ~dropped;
  if (mode == Rounding::up) return (a + (negative ? 0 : dropped)) & ~dropped;
  if (mode == Rounding::down) return (a + (negative ? dropped : 0)) & ~dropped;
  if (mode == Rounding::to_odd) {
    const uint32_t low = a & ~dropped, even = ~((a >> d) ^ grid.even_flip) & last_bit;
    return low == a ? a : low + (even << d);
  }
  if (mode == Rounding::stochastic) {
    const int up = d > random_bits ? d - random_bits : 0, down = random_bits > d ? (random_bits - d < 31 ? random_bits - d : 31) : 0;
    const uint32_t half_step = d > random_bits ? 1u << (d - random_bits - 1) : 0;
    return (a + ((((random << up) >> down) & dropped) + half_step)) & ~dropped;
  }
  return a & ~dropped;  // toward_zero
}

// floor(rest / quantum * 2^random_bits + 1/2), for 0 <= rest < quantum.
SLIPSTICK_HOST_DEVICE inline uint32_t rounded_fraction(const Grid& grid, float rest, int random_bits) {
  const uint32_t word = bits_of(rest), exponent = word >> 23;
  const uint32_t significand = (word & 0x7fffffu) | (exponent ? 0x800000u : 0);
  const int right = 150 + grid.least_exponent - grid.mantissa_bits - random_bits - static_cast<int>(exponent ? exponent : 1);
  if (right <= 0) return significand << -right;  // by at most 8 bits
  return ((significand >> ((right < 31 ? right : 31) - 1)) + 1) >> 1;
}

template <Rounding mode>
SLIPSTICK_HOST_DEVICE inline uint32_t round_subnormal(const Grid& grid, float a, bool negative, uint32_t random, int random_bits) {
  const float nearest = minus(plus(a, grid.shift), grid.shift);
  if (mode == Rounding::nearest_even) return bits_of(nearest);
  const float low = nearest > a ? minus(nearest, grid.quantum) : nearest;
  bool step = false;
  if (mode == Rounding::nearest_away) {
    const float rest = minus(a, low);
    step = plus(rest, rest) >= grid.quantum;
  }
  if (mode == Rounding::up) step = low != a && !negative;
  if (mode == Rounding::down) step = low != a && negative;
  if (mode == Rounding::to_odd) step = low != a && (bits_of(plus(low, grid.shift)) & 1) == 0;
  if (mode == Rounding::stochastic) {
    const uint32_t fraction = rounded_fraction(grid, minus(a, low), random_bits);
    step = fraction != 0 && random >= (random_bits == 32 ? 0 : 1u << random_bits) - fraction;
  }
  return bits_of(step ? plus(low, grid.quantum) : low);
}

template <Rounding mode> SLIPSTICK_HOST_DEVICE inline float round_to_grid(const Grid& grid, float x, uint32_t random, int random_bits) {
  const uint32_t word = bits_of(x), sign = word & kSign, a = word ^ sign;
  if (a > kInfinity) return float_of(word | kQuiet);
  const bool negative = sign != 0;
  uint32_t r = a < grid.subnormal_limit ? round_subnormal<mode>(grid, float_of(a), negative, random, random_bits)
                                        : round_normal<mode>(grid, a, negative, random, random_bits);
  if (r < grid.flush_limit) r = 0;
  const uint32_t greatest = negative ? grid.max[1] : grid.max[0];
  if (static_cast<int32_t>(r) > static_cast<int32_t>(greatest)) {  // of unsigned integers the greatest below 0 is -0
    constexpr bool towards = mode == Rounding::toward_zero || mode == Rounding::to_odd;
    const bool holds = towards || (mode == Rounding::up && negative) || (mode == Rounding::down && !negative);
    r = negative ? grid.overflow[1] : grid.overflow[0];
    if (holds) r = greatest;
    constexpr bool is_nearest = mode == Rounding::nearest_even || mode == Rounding::nearest_away || mode == Rounding::stochastic;
    if (!is_nearest && a == kInfinity) r = negative ? grid.infinity[1] : grid.infinity[0];
  }
  return float_of((r & ~kSign) == 0 && !grid.negative_zero ? 0 : r | sign);
}

// ---- codes of a grid; see codes.simd.cpp ------------------------------------------------------------------------------------------------------

SLIPSTICK_HOST_DEVICE inline uint32_t code_mask(const Grid& grid) { return grid.bits == 32 ? 0xffffffffu : (1u << grid.bits) - 1; }

// Of a number that is in the format already.
SLIPSTICK_HOST_DEVICE inline uint32_t code_on_grid(const Grid& grid, float value) {
  const uint32_t word = bits_of(value), a = word & ~kSign;
  uint32_t code = a < grid.subnormal_limit ? bits_of(plus(float_of(a), grid.shift)) - bits_of(grid.shift)
                                           : (a >> grid.dropped_bits) - grid.exponent_offset;
  if (grid.twos_complement) return (word & kSign ? 0u - code : code) & code_mask(grid);
  if (a >= kInfinity) code = a == kInfinity ? grid.infinity_code : grid.nan_code;
  const uint32_t sign_mask = grid.is_signed ? 1u << (grid.bits - 1) : 0;
  return (code & code_mask(grid)) | ((word >> (32 - grid.bits)) & sign_mask);
}

SLIPSTICK_HOST_DEVICE inline float value_on_grid(const Grid& grid, uint32_t code) {
  const int sign_shift = 32 - grid.bits;
  if (grid.twos_complement) {
    const int32_t number =
        grid.is_signed ? static_cast<int32_t>(code << sign_shift) >> sign_shift : static_cast<int32_t>(code & code_mask(grid));
    return times(static_cast<float>(number), grid.quantum);
  }
  code &= code_mask(grid);
  const uint32_t sign_mask = grid.is_signed ? 1u << (grid.bits - 1) : 0, sign = (code & sign_mask) << sign_shift;
  const uint32_t magnitude = code & ~sign_mask;
  uint32_t value = (magnitude + grid.exponent_offset) << grid.dropped_bits;
  if (static_cast<int32_t>(value) < static_cast<int32_t>(grid.subnormal_limit))
    value = bits_of(times(static_cast<float>(static_cast<int32_t>(magnitude)), grid.quantum));
  if (static_cast<int32_t>(value) < static_cast<int32_t>(grid.flush_limit)) value = 0;
  if (static_cast<int32_t>(magnitude) > static_cast<int32_t>(grid.max_code)) value = magnitude == grid.infinity_code ? kInfinity : kNan;
  return float_of((code == grid.nan_code ? kNan : value) | sign);
}

// ---- any format -------------------------------------------------------------------------------------------------------------------------------

// A format by value, as kernels take it.
struct KernelFormat {
  Grid grid;  // of floats and integers
  bool is_codebook = false, has_nan = false;
  int bits = 0, code_bytes = 1;
  float max = 0, min = 0;  // the greatest and the least number
  float smallest_normal = 0;  // 0 where there is none
  uint32_t nan_code = 0;  // 0 where there is none
  int64_t values = 0, steps = 0;  // of a code book; see Codebook
};

// The tables of a code book one behind the other, in the memory of the device.
struct Tables {
  const float* values;
  const uint32_t* codes;
  const float* by_code;
  const float* cuts;  // of each mode, `steps` numbers

  SLIPSTICK_HOST_DEVICE Tables(const KernelFormat& format, const void* memory)
      : values(static_cast<const float*>(memory)),
        codes(reinterpret_cast<const uint32_t*>(values + format.values)),
        by_code(reinterpret_cast<const float*>(codes + format.values)),
        cuts(by_code + (format.is_codebook ? int64_t{1} << format.bits : 0)) {}
};

// Index of the number that the mode gives to x; see codebook.cpp. x is no NaN.
SLIPSTICK_HOST_DEVICE inline uint32_t find_in_codebook(const KernelFormat& format, const Tables& tables, Rounding mode, float x,
                                                       uint32_t random, int random_bits) {
  const float* cuts = tables.cuts + static_cast<int64_t>(mode) * format.steps;
  uint32_t index = 0;
  for (uint32_t step = static_cast<uint32_t>(format.steps) / 2; step > 0; step /= 2)
    if (x >= cuts[index + step - 1]) index += step;
  if (mode != Rounding::stochastic || index + 1 >= format.values || !(x > tables.values[index])) return index;
  const double low = tables.values[index], high = tables.values[index + 1];
  const double span = random_bits == 32 ? 0x1p32 : random_bits == 16 ? 0x1p16 : 0x1p8;
  const double share = times(over(minus(static_cast<double>(x), low), minus(high, low)), span);
  const double whole = static_cast<double>(static_cast<int64_t>(plus(share, 0.5)));  // floor: it is not negative
  return index + (plus(whole, static_cast<double>(random)) >= span);
}

// x rounded, as a number and a way to its code.
struct Found {
  float value;
  uint32_t index;  // in a code book; for NaN nothing
};

template <Rounding mode>
SLIPSTICK_HOST_DEVICE inline Found round_by(const KernelFormat& format, const Tables& tables, float x, uint32_t random, int random_bits) {
  if (!format.is_codebook) return {round_to_grid<mode>(format.grid, x, random, random_bits), 0};
  if (is_nan(x)) return {x, 0};
  const uint32_t index = find_in_codebook(format, tables, mode, x, random, random_bits);
  return {tables.values[index], index};
}

SLIPSTICK_HOST_DEVICE inline Found round_by(Rounding mode, const KernelFormat& format, const Tables& tables, float x, uint32_t random,
                                            int random_bits) {
  switch (mode) {
    case Rounding::nearest_even: return round_by<Rounding::nearest_even>(format, tables, x, random, random_bits);
    case Rounding::nearest_away: return round_by<Rounding::nearest_away>(format, tables, x, random, random_bits);
    case Rounding::toward_zero: return round_by<Rounding::toward_zero>(format, tables, x, random, random_bits);
    case Rounding::up: return round_by<Rounding::up>(format, tables, x, random, random_bits);
    case Rounding::down: return round_by<Rounding::down>(format, tables, x, random, random_bits);
    case Rounding::to_odd: return round_by<Rounding::to_odd>(format, tables, x, random, random_bits);
    case Rounding::stochastic: break;
  }
  return round_by<Rounding::stochastic>(format, tables, x, random, random_bits);
}

SLIPSTICK_HOST_DEVICE inline uint32_t code_of(const KernelFormat& format, const Tables& tables, const Found& found) {
  if (!format.is_codebook) return code_on_grid(format.grid, found.value);
  return is_nan(found.value) ? format.nan_code : tables.codes[found.index];
}

SLIPSTICK_HOST_DEVICE inline float value_of(const KernelFormat& format, const Tables& tables, uint32_t code) {
  if (!format.is_codebook) return value_on_grid(format.grid, code);
  return tables.by_code[code & ((1u << format.bits) - 1)];
}

// ---- random numbers; see philox.h -------------------------------------------------------------------------------------------------------------

constexpr uint32_t kRandomPurpose = 0x6c6f7762;  // "lowb"

// The four words of block `place` (0 to 15) of a tile.
SLIPSTICK_HOST_DEVICE inline void random_words(const Random& random, uint64_t tile, uint32_t place, uint32_t (&words)[4]) {
  const uint64_t block = 16 * tile + place;
  words[0] = static_cast<uint32_t>(block);
  words[1] = static_cast<uint32_t>(block >> 32);
  words[2] = kRandomPurpose;
  words[3] = random.stream;
  philox4x32_in_place(words, random.seed);
}

SLIPSTICK_HOST_DEVICE inline uint32_t random_part(const Random& random, uint32_t word, int part) {
  return random.bits == 32 ? word : (word >> (part * random.bits)) & ((1u << random.bits) - 1);
}

SLIPSTICK_HOST_DEVICE inline uint32_t random_number(const Random& random, uint64_t position) {
  const uint32_t tile_bits = random.bits == 32 ? 6 : random.bits == 16 ? 7 : 8;
  const uint32_t e = static_cast<uint32_t>(position) & ((1u << tile_bits) - 1);
  uint32_t words[4];
  random_words(random, position >> tile_bits, e % 16, words);
  const uint32_t which = e / 16 % 4;
  const uint32_t word = which < 2 ? (which == 0 ? words[0] : words[1]) : (which == 2 ? words[2] : words[3]);
  return random_part(random, word, static_cast<int>(e / 64));
}

// ---- scales; see scaled.cpp -------------------------------------------------------------------------------------------------------------------

// How a block gets its scale from its greatest magnitude.
struct KernelScaling {
  bool power_of_two = true;
  float greatest = 1;  // element
  int exponent = 0;  // of it
  uint32_t limit = 0;  // what the rule adds to the word of a magnitude
};

SLIPSTICK_HOST_DEVICE inline float power_of_two(int exponent) {  // from -149 to 127
  return float_of(exponent < -126 ? 1u << (exponent + 149) : static_cast<uint32_t>(exponent + 127) << 23);
}

struct BlockScale {
  float factor;
  uint32_t code;
};

// magnitude: the word of the greatest |x|.
SLIPSTICK_HOST_DEVICE inline BlockScale block_scale(const KernelScaling& scaling, const KernelFormat& format, const Tables& tables,
                                                    float tensor_scale, uint32_t magnitude) {
  const bool nan = magnitude > kInfinity;
  if (!scaling.power_of_two) {
    const uint32_t nan_code = format.has_nan ? format.nan_code : 0;
    if (nan) return {float_of(magnitude | kQuiet), nan_code};
    float wanted = over(over(float_of(magnitude), scaling.greatest), tensor_scale);
    if (format.max < wanted) wanted = format.max;
    const Found found = round_by<Rounding::nearest_even>(format, tables, wanted, 0, 32);
    return {times(found.value, tensor_scale), code_of(format, tables, found)};
  }
  if (nan) return {float_of(kNan), 255};
  int down = 0;  // subnormal magnitudes are made normal first
  if (magnitude < 0x800000u) {
    if (magnitude == 0) return {power_of_two(-127), 0};
    magnitude = bits_of(times(float_of(magnitude), 0x1p32f));
    down = 32;
  }
  const int field = static_cast<int>(((magnitude < kInfinity ? magnitude : kInfinity) + scaling.limit) >> 23);
  int power = field - 127 - down - scaling.exponent;
  power = power < -127 ? -127 : power > 127 ? 127 : power;
  return {power_of_two(power), static_cast<uint32_t>(power + 127)};
}

SLIPSTICK_HOST_DEVICE inline float factor_of_code(const KernelScaling& scaling, const KernelFormat& format, const Tables& tables,
                                                  float tensor_scale, uint32_t code) {
  if (scaling.power_of_two) return code == 255 ? float_of(kNan) : power_of_two(static_cast<int>(code) - 127);
  return times(value_of(format, tables, code), tensor_scale);
}

// The result of an operation on a and b as x86 has it where it is a NaN.
SLIPSTICK_HOST_DEVICE inline float with_nan_of(float a, float b, float result) {
  if (!is_nan(result)) return result;
  if (is_nan(a)) return float_of(bits_of(a) | kQuiet);
  return float_of(is_nan(b) ? bits_of(b) | kQuiet : 0xffc00000u);
}

// x in units of its scale: what is not 0 does not become 0, and a factor of 0 gives 0.
SLIPSTICK_HOST_DEVICE inline float scaled_down(float x, float factor, bool factor_is_power) {
  const uint32_t word = bits_of(x), sign = word & kSign, exponent = bits_of(factor) >> 23;
  if (factor == 0) return float_of(sign);
  float r;
  if (factor_is_power && exponent < 255) {  // the reciprocal is exact, and so is a product with it where the quotient is
    const int power = exponent ? static_cast<int>(exponent) - 127 : -127;
    r = times(x, power_of_two(-power));
  } else {
    r = over(x, factor);
  }
  if (r == 0 && x != 0) return float_of(1u | sign);
  return with_nan_of(x, factor, r);
}

SLIPSTICK_HOST_DEVICE inline float scaled_up(float t, float factor) { return with_nan_of(t, factor, times(t, factor)); }

// ---- other types ------------------------------------------------------------------------------------------------------------------------------

SLIPSTICK_HOST_DEVICE inline float of_bfloat16(uint16_t code) { return float_of(uint32_t{code} << 16); }

SLIPSTICK_HOST_DEVICE inline uint16_t to_bfloat16(float x) {
  const uint32_t word = bits_of(x);
  if (is_nan(x)) return static_cast<uint16_t>((word | kQuiet) >> 16);
  return static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1)) >> 16);
}

SLIPSTICK_HOST_DEVICE inline float of_float16(uint16_t code) {
  const uint32_t sign = (code & 0x8000u) << 16, magnitude = code & 0x7fffu;
  if (magnitude > 0x7c00u) return float_of(sign | kNan | magnitude << 13);
  if (magnitude == 0x7c00u) return float_of(sign | kInfinity);
  return float_of(sign | bits_of(times(float_of(magnitude << 13), 0x1p112f)));
}

SLIPSTICK_HOST_DEVICE inline uint16_t to_float16(float x) {
  const uint32_t word = bits_of(x), sign = (word >> 16) & 0x8000u, a = word & ~kSign;
  if (a > kInfinity) return static_cast<uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
  if (a < 113u << 23) return static_cast<uint16_t>(sign | (bits_of(plus(float_of(a), 0.5f)) - 0x3f000000u));  // adding 0.5 rounds to 2^-24
  const uint32_t rounded = a + 0xfffu + ((a >> 13) & 1) - (112u << 23);
  return static_cast<uint16_t>(sign | ((rounded < 0x7c00u << 13 ? rounded : 0x7c00u << 13) >> 13));
}

// To odd: towards zero, and the last bit set if anything was lost; beyond float32 its greatest number.
SLIPSTICK_HOST_DEVICE inline float of_float64(double x) {
  const uint64_t wide = bits_of(x), magnitude = wide & ~(uint64_t{1} << 63);
  const uint32_t sign = static_cast<uint32_t>(wide >> 32) & kSign;
  if (magnitude > uint64_t{0x7ff} << 52) return float_of(sign | kNan | static_cast<uint32_t>(magnitude >> 29 & 0x3fffffu));
#ifdef __CUDA_ARCH__
  const float nearest = __double2float_rn(x);
#else
  const float nearest = static_cast<float>(x);
#endif
  const double back = static_cast<double>(nearest);
  if (back == x) return nearest;
  uint32_t word = bits_of(nearest);
  if ((bits_of(back) & ~(uint64_t{1} << 63)) > magnitude) --word;  // rounded away from zero: the magnitude below
  return float_of(word | 1);
}

SLIPSTICK_HOST_DEVICE inline double to_float64(float x) {
  if (!is_nan(x)) return static_cast<double>(x);
  const uint64_t word = bits_of(x);
  return double_of((word & kSign) << 32 | uint64_t{0x7ff8} << 48 | (word & 0x7fffffu) << 29);
}

}  // namespace slipstick::lowbit::element
