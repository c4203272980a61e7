// Contract: the core of lowbit without Python. Every float32 with a zero lower half, and its neighbours, against an oracle that searches the list
// of a format's numbers in float64, where they and their midpoints are exact; random bits against the reference generator; errors by kind.
#include "slipstick/lowbit.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "slipstick/random.h"

using namespace slipstick::lowbit;

namespace {

float float_of(uint32_t word) {
  float x;
  std::memcpy(&x, &word, 4);
  return x;
}
bool same(float a, float b) { return std::memcmp(&a, &b, 4) == 0 || (std::isnan(a) && std::isnan(b)); }

FloatSpec float_spec(int exponent_bits, int mantissa_bits, Specials specials, Overflow overflow) {
  FloatSpec spec;
  spec.exponent_bits = exponent_bits;
  spec.mantissa_bits = mantissa_bits;
  spec.bias = (1 << (exponent_bits - 1)) - 1;
  spec.specials = specials;
  spec.overflow = overflow;
  return spec;
}

// Magnitudes by code, one beyond the greatest: the meaning of sign, exponent and mantissa, without the product's shortcuts.
std::vector<double> magnitudes(const FloatSpec& spec) {
  const int scale = 1 << spec.mantissa_bits, fields = 1 << spec.exponent_bits;
  const int most =
      spec.specials == Specials::ieee ? (fields - 1) * scale - 1 : fields * scale - 1 - (spec.specials == Specials::finite_nan);
  std::vector<double> list;
  for (int code = 0; code <= most + 1; ++code) {
    const int field = code / scale, fraction = code % scale;
    list.push_back(std::ldexp(field ? scale + fraction : fraction, (field ? field : 1) - spec.bias - spec.mantissa_bits));
  }
  return list;
}

float wanted(const FloatSpec& spec, const std::vector<double>& list, Rounding mode, float x) {
  if (std::isnan(x)) return x;
  const bool negative = std::signbit(x);
  const double a = std::fabs(static_cast<double>(x)), greatest = list[list.size() - 2];
  const double beyond = spec.overflow == Overflow::saturate   ? greatest
                        : spec.overflow == Overflow::infinity ? std::numeric_limits<double>::infinity()
                                                              : std::numeric_limits<double>::quiet_NaN();
  const bool away = (mode == Rounding::up && !negative) || (mode == Rounding::down && negative);
  const bool towards = mode == Rounding::toward_zero || ((mode == Rounding::up || mode == Rounding::down) && !away);
  const size_t i = static_cast<size_t>(std::upper_bound(list.begin(), list.end(), a) - list.begin()) - 1;
  double r = list[i];
  if (i + 1 < list.size() && a != list[i]) {
    const double low = list[i], high = list[i + 1], middle = (low + high) / 2;
    if (mode == Rounding::nearest_even) r = a > middle || (a == middle && i % 2 == 1) ? high : low;
    if (mode == Rounding::nearest_away) r = a >= middle ? high : low;
    if (mode == Rounding::to_odd) r = i % 2 == 1 ? low : high;
    if (away) r = high;
  }
  if (r > greatest) r = (towards || mode == Rounding::to_odd) && !std::isinf(x) ? greatest : beyond;
  return std::copysign(static_cast<float>(r), x);
}

}  // namespace

TEST(floats_round_as_a_search_in_the_list_of_their_numbers) {
  const FloatSpec specs[] = {
      float_spec(4, 3, Specials::finite_nan, Overflow::nan), float_spec(4, 3, Specials::finite_nan, Overflow::saturate),
      float_spec(5, 2, Specials::ieee, Overflow::infinity),  float_spec(2, 1, Specials::none, Overflow::saturate),
      float_spec(3, 2, Specials::none, Overflow::saturate),  float_spec(8, 2, Specials::ieee, Overflow::infinity),
      float_spec(8, 7, Specials::ieee, Overflow::infinity),  float_spec(8, 10, Specials::ieee, Overflow::infinity),
      float_spec(5, 10, Specials::ieee, Overflow::infinity),
  };
  std::vector<float> x;
  for (uint32_t high = 0; high < 65536; ++high)
    for (uint32_t low : {0u, 1u, 0x8000u, 0xffffu}) x.push_back(float_of(high << 16 | low));
  std::vector<float> y(x.size());
  for (const FloatSpec& spec : specs) {
    const Format format(spec);
    const std::vector<double> list = magnitudes(spec);
    for (int mode = 0; mode < static_cast<int>(Rounding::stochastic); ++mode) {
      quantize(format, static_cast<Rounding>(mode), Random{}, Dtype::float32, x.data(), y.data(), static_cast<int64_t>(x.size()), 2);
      int64_t wrong = 0;
      for (size_t i = 0; i < x.size(); ++i) wrong += !same(y[i], wanted(spec, list, static_cast<Rounding>(mode), x[i]));
      CHECK_EQUAL(wrong, 0);
    }
  }
}

TEST(random_numbers_are_words_of_the_reference_generator) {
  // int16 with 0 < x < 1: the result is 1 where number + share reaches 2^bits, so shares bound every number from both sides.
  const Format format(IntegerSpec{16, 0, true, false});
  constexpr int64_t kCount = 1000;
  const slipstick::RandomStream reference(99, 0x6c6f7762);
  for (int64_t share : {1, 1000, 32768, 65535}) {
    std::vector<float> x(kCount, static_cast<float>(share) / 65536), y(kCount);
    quantize(format, Rounding::stochastic, Random{99, 0, 16}, Dtype::float32, x.data(), y.data(), kCount, 1);
    for (int64_t i = 0; i < kCount; ++i) {
      const int64_t tile = i / 128, e = i % 128;
      const uint32_t word = reference.words(static_cast<uint64_t>(16 * tile + e % 16))[static_cast<size_t>(e / 16 % 4)];
      const int64_t number = word >> (16 * (e / 64)) & 0xffff;
      CHECK_EQUAL(y[static_cast<size_t>(i)], number + share >= 65536 ? 1.0f : 0.0f);
    }
  }
}

TEST(no_number_of_threads_changes_a_bit) {
  const Format format(float_spec(4, 3, Specials::finite_nan, Overflow::saturate));
  std::vector<double> x(300000), one(x.size()), many(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i)) * 100;
  quantize(format, Rounding::stochastic, Random{1, 2, 8}, Dtype::float64, x.data(), one.data(), static_cast<int64_t>(x.size()), 1);
  quantize(format, Rounding::stochastic, Random{1, 2, 8}, Dtype::float64, x.data(), many.data(), static_cast<int64_t>(x.size()), 5);
  CHECK(one == many);
}

TEST(bad_requests_are_refused) {
  const Format format(float_spec(4, 3, Specials::ieee, Overflow::infinity));
  float x = 1;
  CHECK_THROWS(quantize(format, Rounding::up, Random{}, Dtype::float32, &x, &x, -1, 1), invalid_argument, "quantize: count is -1");
  CHECK_THROWS(quantize(format, Rounding::up, Random{0, 0, 7}, Dtype::float32, &x, &x, 1, 1), invalid_argument, "random_bits is 7");
  CHECK_THROWS(Format(float_spec(9, 3, Specials::ieee, Overflow::infinity)), invalid_argument, "exponent_bits is 9");
  CHECK_THROWS(packed_bytes(3, 9), invalid_argument, "bits is 9");
}
