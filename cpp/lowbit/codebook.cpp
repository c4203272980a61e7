// Cuts of a code book. The cut between two neighbours is the least float32 that a mode gives to the upper one; the exact midpoint of two float32
// may need more bits than any type here has, so it is kept as a sum of two doubles and only ever compared.
#include "lowbit/codebook.h"

#include <cmath>
#include <limits>

#include "lowbit/kernels.h"
#include "slipstick/error.h"

namespace slipstick::lowbit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kMostValues = 1 << 16;

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::invalid_argument, "Format: " + message); }

float next_above(float x) { return std::nextafter(x, kInfinity); }

void check(const CodebookSpec& spec) {
  const size_t count = spec.values.size();
  if (spec.bits < 1 || spec.bits > 16) refuse("bits is " + std::to_string(spec.bits) + "; expected 1 to 16 for a code book");
  if (count < 1 || count > kMostValues || count > size_t{1} << spec.bits)
    refuse("values has " + std::to_string(count) + " entries; expected 1 to 2^bits");
  if (spec.codes.size() != count) refuse("codes has " + std::to_string(spec.codes.size()) + " entries; expected " + std::to_string(count));
  if (!spec.thresholds.empty() && spec.thresholds.size() != count - 1)
    refuse("thresholds has " + std::to_string(spec.thresholds.size()) + " entries; expected " + std::to_string(count - 1));
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(spec.values[i])) refuse("values[" + std::to_string(i) + "] is not finite");
    if (i > 0 && !(spec.values[i - 1] < spec.values[i])) refuse("values[" + std::to_string(i) + "] is not above the one before it");
    if (spec.codes[i] >> spec.bits) refuse("codes[" + std::to_string(i) + "] has more than bits bits");
  }
  for (size_t i = 0; i < spec.thresholds.size(); ++i) {
    const double threshold = spec.thresholds[i];  // may be of values that were not float32 yet, hence one float32 beyond them
    if (!(std::nextafter(spec.values[i], -kInfinity) <= threshold && threshold <= next_above(spec.values[i + 1])) ||
        (i > 0 && threshold < spec.thresholds[i - 1]))
      refuse("thresholds[" + std::to_string(i) + "] is " + std::to_string(threshold) + "; expected a number between values[" +
             std::to_string(i) + "] and the next, not below the threshold before it");
  }
}

// A real number as the sum of two doubles, the second at most half a unit of the first.
struct Real {
  double high, low;
};
// The sum, exactly (Knuth's two-sum).
Real sum_of(double a, double b) {
  const double sum = a + b, b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}
// Sign of 2 x - twice.
int compare_double(float x, Real twice) {
  const double difference = 2.0 * static_cast<double>(x) - twice.high;
  if (difference != 0) return difference > 0 ? 1 : -1;
  return twice.low < 0 ? 1 : twice.low > 0 ? -1 : 0;
}

// Least float32 above half of `twice`, or at it where ties go up.
float cut_at_half(Real twice, bool ties_go_up) {
  float below = static_cast<float>(twice.high / 2);
  if (compare_double(below, twice) > 0) below = std::nextafter(below, -kInfinity);
  return compare_double(below, twice) == 0 && ties_go_up ? below : next_above(below);
}

float cut_between(const CodebookSpec& spec, size_t i, Rounding rounding) {
  const float low = spec.values[i], high = spec.values[i + 1];
  const float at_once = next_above(low);  // everything above low goes up
  const bool high_is_nearer_zero = std::fabs(high) < std::fabs(low);
  const bool nearest = rounding == Rounding::nearest_even || rounding == Rounding::nearest_away;
  if (nearest && spec.keep_nonzero && low == 0) return at_once;
  if (nearest && spec.keep_nonzero && high == 0) return high;
  const Real twice = spec.thresholds.empty() ? sum_of(low, high) : Real{2 * spec.thresholds[i], 0};
  const bool low_is_odd = spec.codes[i] & 1, high_is_odd = spec.codes[i + 1] & 1;
  switch (rounding) {
    case Rounding::nearest_even: return cut_at_half(twice, low_is_odd != high_is_odd ? low_is_odd : high_is_nearer_zero);
    case Rounding::nearest_away: return cut_at_half(twice, !high_is_nearer_zero);
    case Rounding::toward_zero: return high_is_nearer_zero ? at_once : high;
    case Rounding::up: return at_once;
    case Rounding::down:
    case Rounding::stochastic: return high;
    case Rounding::to_odd: return (low_is_odd != high_is_odd ? high_is_odd : high_is_nearer_zero) ? at_once : high;
  }
  return high;
}

// Which of x[i]'s two neighbours: values[index] or the next, by the random number.
bool goes_up(const Codebook& book, uint32_t index, float x, uint32_t random, double span) {
  if (index + 1 >= book.values.size() || !(x > book.values[index])) return false;
  const double low = book.values[index], high = book.values[index + 1];
  const double share = std::floor((static_cast<double>(x) - low) / (high - low) * span + 0.5);
  return share + random >= span;
}

}  // namespace

std::shared_ptr<const Codebook> make_codebook(const CodebookSpec& spec) {
  check(spec);
  auto book = std::make_shared<Codebook>();
  book->values = spec.values;
  book->codes = spec.codes;
  book->keep_nonzero = spec.keep_nonzero;
  book->nan_code = spec.nan_code >= 0 ? static_cast<uint32_t>(spec.nan_code) : 0;
  book->steps = 1;
  while (book->steps < static_cast<int>(spec.values.size())) book->steps *= 2;
  for (int mode = 0; mode < kRoundings; ++mode) {
    std::vector<float>& cuts = book->cuts[mode];
    cuts.assign(static_cast<size_t>(book->steps), std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 0; i + 1 < spec.values.size(); ++i) cuts[i] = cut_between(spec, i, static_cast<Rounding>(mode));
  }
  book->by_code.assign(size_t{1} << spec.bits, std::numeric_limits<float>::quiet_NaN());
  for (size_t i = 0; i < spec.values.size(); ++i) {
    if (!std::isnan(book->by_code[spec.codes[i]])) refuse("codes holds " + std::to_string(spec.codes[i]) + " twice");
    book->by_code[spec.codes[i]] = spec.values[i];
  }
  if (spec.nan_code >= 0 && (spec.nan_code >> spec.bits || !std::isnan(book->by_code[static_cast<size_t>(spec.nan_code)])))
    refuse("nan_code is " + std::to_string(spec.nan_code) + "; expected a code of bits bits that no value has");
  return book;
}

int64_t codebook_round(const Codebook& book, Rounding rounding, const uint32_t* random, int random_bits, const float* x, float* y,
                       uint32_t* codes, int64_t count) {
  constexpr int64_t kBlock = 256;
  uint32_t index[kBlock];
  int64_t nan = 0;
  const double span = std::ldexp(1.0, random_bits);
  const std::vector<float>& cuts = book.cuts[static_cast<int>(rounding)];
  const Kernels& kernels = active_kernels();
  for (int64_t start = 0; start < count; start += kBlock) {
    const int64_t length = count - start < kBlock ? count - start : kBlock;
    kernels.search(cuts.data(), book.steps, x + start, index, length);
    if (rounding == Rounding::stochastic) {
      for (int64_t i = 0; i < length; ++i) index[i] += goes_up(book, index[i], x[start + i], random[start + i], span);
    }
    for (int64_t i = 0; i < length; ++i) {
      const bool is_nan = std::isnan(x[start + i]);
      nan += is_nan;
      if (codes) codes[start + i] = is_nan ? book.nan_code : book.codes[index[i]];
      if (y) y[start + i] = is_nan ? x[start + i] : book.values[index[i]];
    }
  }
  return nan;
}

}  // namespace slipstick::lowbit
