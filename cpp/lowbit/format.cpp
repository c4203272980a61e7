// From the description of a format to the numbers of its grid, with every check that a description needs.
#include <cmath>
#include <cstring>
#include <limits>

#include "lowbit/codebook.h"
#include "lowbit/grid.h"
#include "slipstick/error.h"

namespace slipstick::lowbit {
namespace {

constexpr uint32_t kNanBits = 0x7fc00000, kInfinityBits = 0x7f800000;
constexpr uint32_t kNoCode = 0xffffffff;
constexpr int kMostShift = 127;  // exponent of the shift, 2^23 quanta, must be one of float32

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::invalid_argument, "Format: " + message); }

uint32_t bits_of(float x) {
  uint32_t word;
  std::memcpy(&word, &x, 4);
  return word;
}

float power_of_two(int exponent) { return std::ldexp(1.0f, exponent); }

// What remains of a magnitude that is beyond the greatest value.
uint32_t overflow_bits(Overflow overflow, uint32_t greatest) {
  return overflow == Overflow::saturate ? greatest : overflow == Overflow::infinity ? kInfinityBits : kNanBits;
}

void set_regions(Grid& grid, int mantissa_bits, int least_exponent) {
  grid.mantissa_bits = mantissa_bits;
  grid.dropped_bits = 23 - mantissa_bits;
  grid.least_exponent = least_exponent;
  if (least_exponent - mantissa_bits + 23 > kMostShift)
    refuse("the quantum is 2^" + std::to_string(least_exponent - mantissa_bits) + "; expected at most 2^" +
           std::to_string(kMostShift - 23));
  grid.quantum = power_of_two(least_exponent - mantissa_bits);
  grid.shift = power_of_two(least_exponent - mantissa_bits + 23);
  grid.subnormal_limit = least_exponent > -126 ? bits_of(power_of_two(least_exponent)) : 0;
  grid.exponent_offset = static_cast<uint32_t>(126 + least_exponent) << mantissa_bits;
}

}  // namespace

int64_t bytes_of(Dtype dtype) { return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2; }

Format::Format(const FloatSpec& spec) {
  const int exponent_bits = spec.exponent_bits, mantissa_bits = spec.mantissa_bits;
  const auto number = [](int64_t value) { return std::to_string(value); };
  if (exponent_bits < 0 || exponent_bits > 8) refuse("exponent_bits is " + number(exponent_bits) + "; expected 0 to 8");
  if (mantissa_bits < 0 || mantissa_bits > 23) refuse("mantissa_bits is " + number(mantissa_bits) + "; expected 0 to 23");
  if (exponent_bits + mantissa_bits == 0) refuse("exponent_bits and mantissa_bits are 0; expected at least one bit besides the sign");
  const bool no_negative_zero = spec.specials == Specials::fnuz || spec.specials == Specials::p3109;
  if (no_negative_zero && !spec.is_signed) refuse("specials take the code of -0, but signed is false");
  if (spec.specials == Specials::ieee && exponent_bits == 0) refuse("specials is 'ieee' without exponent_bits; expected at least 1");

  // Magnitude codes: the greatest that is a number, and the meaning of those above.
  const int64_t all_ones = (int64_t{1} << (exponent_bits + mantissa_bits)) - 1;
  const int64_t top_field = all_ones & -(int64_t{1} << mantissa_bits);
  const bool ieee_nan = spec.specials == Specials::ieee && mantissa_bits > 0;
  int64_t max_code = all_ones;
  if (spec.specials == Specials::ieee) max_code = top_field - 1;
  if (spec.specials == Specials::finite_nan || spec.specials == Specials::p3109) max_code = all_ones - 1;
  if (max_code < 1) refuse("no code is left for a number besides 0; expected more bits or other specials");
  bits_ = exponent_bits + mantissa_bits + (spec.is_signed ? 1 : 0);
  mantissa_bits_ = mantissa_bits;
  const bool has_infinity = spec.specials == Specials::ieee || spec.specials == Specials::p3109;
  if (ieee_nan) nan_code_ = top_field | (int64_t{1} << (mantissa_bits - 1));
  if (spec.specials == Specials::finite_nan) nan_code_ = all_ones;
  if (no_negative_zero) nan_code_ = all_ones + 1;
  if (spec.overflow == Overflow::infinity && !has_infinity) refuse("overflow is 'infinity', which the format has no code for");
  if (spec.overflow == Overflow::nan && nan_code_ < 0) refuse("overflow is 'nan', which the format has no code for");

  // Values. The field of an exponent is biased; field 0 has no hidden bit and the exponent of field 1.
  const int least_exponent = 1 - spec.bias;
  const int64_t max_field = max_code >> mantissa_bits, fraction_mask = (int64_t{1} << mantissa_bits) - 1;
  const int max_exponent = static_cast<int>(max_field > 0 ? max_field : 1) - spec.bias;
  if (least_exponent < -126)
    refuse("the smallest normal exponent is " + number(least_exponent) + " (bias " + number(spec.bias) +
           "); expected at least -126, the one of float32");
  if (max_exponent > 127)
    refuse("the greatest exponent is " + number(max_exponent) + " (bias " + number(spec.bias) +
           "); expected at most 127, the one of float32");
  const double unit = std::ldexp(1.0, max_exponent - mantissa_bits);
  const int64_t hidden = max_field > 0 ? int64_t{1} << mantissa_bits : 0;
  max_ = static_cast<float>(unit * static_cast<double>(hidden + (max_code & fraction_mask)));
  min_ = spec.is_signed ? -max_ : 0.0f;
  smallest_normal_ = max_field > 0 ? power_of_two(least_exponent) : 0.0f;
  const float smallest_subnormal = power_of_two(least_exponent - mantissa_bits);
  smallest_positive_ = spec.flush_subnormals || mantissa_bits == 0 ? power_of_two(least_exponent) : smallest_subnormal;
  if (spec.flush_subnormals && max_field == 0) refuse("all values are subnormal and subnormals are flushed; expected one or the other");

  auto grid = std::make_shared<Grid>();
  set_regions(*grid, mantissa_bits, least_exponent);
  grid->is_signed = spec.is_signed;
  grid->symmetric = spec.is_signed;
  grid->negative_zero = spec.is_signed && !no_negative_zero;
  grid->even_flip = mantissa_bits == 0 ? static_cast<uint32_t>(127 - spec.bias) & 1 : 0;
  grid->flush_limit = spec.flush_subnormals ? bits_of(power_of_two(least_exponent)) : 0;
  grid->max[0] = bits_of(max_);
  grid->overflow[0] = grid->infinity[0] = overflow_bits(spec.overflow, grid->max[0]);
  grid->max[1] = spec.is_signed ? grid->max[0] : 0;
  // Below 0 an unsigned format has nothing but 0 to saturate to.
  const Overflow below = spec.overflow != Overflow::saturate && nan_code_ >= 0 ? Overflow::nan : Overflow::saturate;
  grid->overflow[1] = grid->infinity[1] = spec.is_signed ? grid->overflow[0] : overflow_bits(below, 0);
  const int clamp_exponent = std::ilogb(max_) + 1;
  grid->quick = spec.is_signed && !spec.flush_subnormals && mantissa_bits > 0 && clamp_exponent + 23 - mantissa_bits <= 127;
  grid->clamp = grid->quick ? bits_of(power_of_two(clamp_exponent)) : 0;
  grid->bits = bits_;
  grid->max_code = static_cast<uint32_t>(max_code);
  grid->infinity_code = has_infinity ? static_cast<uint32_t>(max_code + 1) : kNoCode;
  grid->nan_code = nan_code_ >= 0 ? static_cast<uint32_t>(nan_code_) : kNoCode;
  grid_ = grid;
}

Format::Format(const IntegerSpec& spec) {
  const int most = spec.is_signed ? 24 : 23, least = spec.is_signed ? 2 : 1;  // magnitudes fit the mantissa of float32
  if (spec.bits < least || spec.bits > most)
    refuse("bits is " + std::to_string(spec.bits) + "; expected " + std::to_string(least) + " to " + std::to_string(most));
  if (spec.fraction_bits < -100 || spec.fraction_bits > 120)
    refuse("fraction_bits is " + std::to_string(spec.fraction_bits) + "; expected -100 to 120");
  if (spec.symmetric && !spec.is_signed) refuse("symmetric is true, but signed is false");
  bits_ = spec.bits;
  mantissa_bits_ = spec.bits - (spec.is_signed ? 1 : 0);
  const auto scaled = [&](int64_t count) { return std::ldexp(static_cast<float>(count), -spec.fraction_bits); };
  const int64_t greatest = (int64_t{1} << mantissa_bits_) - 1;
  max_ = scaled(greatest);
  min_ = spec.is_signed ? -scaled(spec.symmetric ? greatest : greatest + 1) : 0.0f;
  smallest_positive_ = scaled(1);

  auto grid = std::make_shared<Grid>();
  set_regions(*grid, mantissa_bits_, mantissa_bits_ - spec.fraction_bits);
  grid->is_signed = spec.is_signed;
  grid->twos_complement = true;
  grid->negative_zero = false;
  grid->symmetric = spec.symmetric;
  grid->max[0] = bits_of(max_);
  grid->max[1] = bits_of(-min_);
  for (int side = 0; side < 2; ++side) grid->overflow[side] = grid->infinity[side] = grid->max[side];
  grid->quick = spec.symmetric;
  grid->counting = spec.bits <= 22;
  grid->clamp = bits_of(scaled(greatest + 1));
  grid->bits = bits_;
  grid->infinity_code = grid->nan_code = kNoCode;
  grid_ = grid;
}

Format::Format(const CodebookSpec& spec) {
  codebook_ = make_codebook(spec);
  bits_ = spec.bits;
  nan_code_ = spec.nan_code;
  mantissa_bits_ = 23;
  max_ = spec.values.back();
  min_ = spec.values.front();
  for (float value : spec.values) {
    if (value > 0) {
      smallest_positive_ = value;
      break;
    }
  }
}

}  // namespace slipstick::lowbit
