// The tests of the vector facade for one level. Oracles are scalar loops over the definitions; floats are compared as bits, where any NaN
// equals any other. Plain C only: nothing of std:: may be emitted here.
#include "vec_test.h"

#include "simd/bytes.h"

namespace slipstick::vec_test::SLIPSTICK_ISA_NAMESPACE {
namespace {

using namespace slipstick::simd;

#define EXPECT(condition, detail)                                  \
  do {                                                             \
    if (!(condition)) {                                            \
      report(#condition, __LINE__, static_cast<uint64_t>(detail)); \
      return;                                                      \
    }                                                              \
  } while (false)

// ---- inputs -------------------------------------------------------------------------------------------------------------------------------

// xorshift64* (Vigna 2014, arXiv:1402.6246), seed fixed.
struct Random {
  uint64_t state = 0x9e3779b97f4a7c15u;
  uint64_t next() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1du;
  }
};

float float_of(uint32_t word) {
  float x;
  __builtin_memcpy(&x, &word, 4);
  return x;
}
uint32_t word_of(float x) {
  uint32_t word;
  __builtin_memcpy(&word, &x, 4);
  return word;
}
double double_of(uint64_t word) {
  double x;
  __builtin_memcpy(&x, &word, 8);
  return x;
}
uint64_t word_of(double x) {
  uint64_t word;
  __builtin_memcpy(&word, &x, 8);
  return word;
}
template <typename T> bool same(T a, T b) { return (a != a && b != b) || word_of(a) == word_of(b); }

constexpr uint32_t kSpecialWords[] = {
    0x00000000u, 0x80000000u, 0x00000001u, 0x80000001u, 0x007fffffu, 0x00800000u, 0x80800000u, 0x3f000000u, 0x3effffffu, 0x3f000001u,
    0x3f800000u, 0xbf800000u, 0x3f800001u, 0x3f7fffffu, 0x3fc00000u, 0xc0200000u, 0x40200000u, 0x4b000001u, 0xcb7fffffu, 0x4b800000u,
    0x4effffffu, 0x7f7fffffu, 0xff7fffffu, 0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc12345u, 0x7f800001u, 0x38800000u, 0x477fefffu};
constexpr int kSpecials = static_cast<int>(sizeof kSpecialWords / sizeof *kSpecialWords);

// Specials at first, in all pairs as the index runs on; then any bits.
float float_case(int64_t index, int which, Random& random) {
  const int64_t pairs = kSpecials * kSpecials;
  if (index < pairs) return float_of(kSpecialWords[which ? index / kSpecials : index % kSpecials]);
  return float_of(static_cast<uint32_t>(random.next() >> 32));
}
double double_case(int64_t index, int which, Random& random) {
  if (index < kSpecials * kSpecials) return static_cast<double>(float_case(index, which, random));
  return double_of(random.next());
}
constexpr int64_t kCases = 40000;  // a multiple of every number of lanes

#define LANES(Type) for (int64_t lane = 0; lane < Type::lanes; ++lane)

// ---- memory -------------------------------------------------------------------------------------------------------------------------------

template <typename T> void ends_of_arrays_of(Report report) {
  using V = Vec<T>;
  constexpr int64_t kMost = 3 * V::lanes + 1, kSize = kMost + V::lanes + 8;
  const T outside = static_cast<T>(77), fill = static_cast<T>(5);
  for (int64_t offset = 0; offset < 4; ++offset) {
    for (int64_t n = -2; n <= kMost; ++n) {
      T from[kSize], to[kSize];
      for (int64_t i = 0; i < kSize; ++i) {
        from[i] = static_cast<T>(i + 9);
        to[i] = outside;
      }
      const V loaded = V::load_first(from + offset, n, fill);
      LANES (V) EXPECT(loaded.v[lane] == (lane < n ? from[offset + lane] : fill), n);
      V::load(from + offset).store_first(to + offset, n);
      for (int64_t i = 0; i < kSize; ++i) {
        const int64_t lane = i - offset;
        EXPECT(to[i] == (lane >= 0 && lane < n && lane < V::lanes ? from[i] : outside), n);
      }
      // A whole array of n elements, as kernels walk it.
      for (int64_t i = 0; i < kSize; ++i) to[i] = outside;
      for (int64_t i = 0; i < n; i += V::lanes) V::load_first(from + offset + i, n - i, fill).store_first(to + offset + i, n - i);
      for (int64_t i = 0; i < kSize; ++i) EXPECT(to[i] == (i >= offset && i < offset + n ? from[i] : outside), n);
    }
    T from[kSize], to[kSize];
    for (int64_t i = 0; i < kSize; ++i) from[i] = static_cast<T>(i + 1), to[i] = outside;
    V::load(from + offset).store(to + offset);
    for (int64_t i = 0; i < kSize; ++i) EXPECT(to[i] == (i >= offset && i < offset + V::lanes ? from[i] : outside), i);
  }
  alignas(kVectorBytes) T streamed[2 * V::lanes];
  V::count_up().stream(streamed + V::lanes);
  stream_fence();
  LANES (V) EXPECT(streamed[V::lanes + lane] == static_cast<T>(lane), lane);
  LANES (V) EXPECT(V::all(static_cast<T>(41)).v[lane] == static_cast<T>(41), lane);
}

void ends_of_arrays(Report report) {
  ends_of_arrays_of<float>(report);
  ends_of_arrays_of<double>(report);
  ends_of_arrays_of<int32_t>(report);
  ends_of_arrays_of<uint32_t>(report);
  ends_of_arrays_of<int64_t>(report);
  ends_of_arrays_of<uint64_t>(report);
  ends_of_arrays_of<uint8_t>(report);
  // Every bit of a float survives, signalling NaN included.
  for (int i = 0; i < kSpecials; ++i) {
    const float x = float_of(kSpecialWords[i]);
    float first[F32::lanes];
    F32::load_first(&x, 1, 0.0f).store(first);
    EXPECT(word_of(first[0]) == kSpecialWords[i], i);
  }
}

// ---- masks --------------------------------------------------------------------------------------------------------------------------------

template <typename T> void masks_of(Report report, T (*value)(int64_t, int, Random&)) {
  using V = Vec<T>;
  Random random;
  for (int64_t start = 0; start < kCases; start += V::lanes) {
    T a[V::lanes], b[V::lanes];
    LANES (V) a[lane] = value(start + lane, 0, random), b[lane] = value(start + lane, 1, random);
    const V x = V::load(a), y = V::load(b);
    const uint64_t maps[] = {bits(x == y), bits(x != y), bits(x < y), bits(x <= y), bits(x > y), bits(x >= y)};
    LANES (V) {
      const bool want[] = {a[lane] == b[lane], a[lane] != b[lane], a[lane]<b[lane], a[lane] <= b[lane], a[lane]> b[lane],
                           a[lane] >= b[lane]};
      for (int i = 0; i < 6; ++i) EXPECT(((maps[i] >> lane) & 1) == want[i], start + lane);
    }
    constexpr uint64_t kAll = V::lanes == 64 ? ~uint64_t{0} : (uint64_t{1} << (V::lanes % 64)) - 1;
    const uint64_t less = bits(x < y), equal = bits(x == y);
    EXPECT(bits((x < y) | (x == y)) == (less | equal), start);
    EXPECT(bits((x <= y) & (x >= y)) == (bits(x <= y) & bits(x >= y)), start);
    EXPECT(bits((x < y) ^ (x != y)) == (less ^ bits(x != y)), start);
    EXPECT(bits(~(x < y)) == (~less & kAll), start);
    EXPECT(any_of(x < y) == (less != 0) && none_of(x < y) == (less == 0) && all_of(x < y) == (less == kAll), start);
    EXPECT(count(x < y) == __builtin_popcountll(less), start);
    const V chosen = select(x < y, x, y);
    T got[V::lanes];
    chosen.store(got);
    LANES (V) EXPECT(!__builtin_memcmp(&got[lane], a[lane] < b[lane] ? &a[lane] : &b[lane], sizeof(T)), start + lane);
  }
  for (int64_t n = -1; n <= V::lanes + 1; ++n) {
    const uint64_t map = bits(first_lanes<T>(n));
    LANES (V) EXPECT(((map >> lane) & 1) == (lane < n), n);
    EXPECT(count(first_lanes<T>(n)) == (n < 0 ? 0 : n > V::lanes ? V::lanes : n), n);
  }
}

// Few different values, so that equal ones meet; the ends of each type are among them.
template <typename T> T integer_case(int64_t, int, Random& random) {
  const uint64_t word = random.next();
  const uint64_t ends[] = {0, 1, ~uint64_t{0}, uint64_t{1} << (8 * sizeof(T) - 1), (uint64_t{1} << (8 * sizeof(T) - 1)) - 1, word >> 8};
  return static_cast<T>(ends[(word & 0xff) % 6]);
}

void masks(Report report) {
  masks_of<float>(report, float_case);
  masks_of<double>(report, double_case);
  masks_of<int32_t>(report, integer_case<int32_t>);
  masks_of<uint32_t>(report, integer_case<uint32_t>);
  masks_of<int64_t>(report, integer_case<int64_t>);
  masks_of<uint64_t>(report, integer_case<uint64_t>);
  masks_of<uint8_t>(report, integer_case<uint8_t>);
}

// ---- float arithmetic -----------------------------------------------------------------------------------------------------------------------

float scalar_sqrt(float x) { return __builtin_sqrtf(x); }
double scalar_sqrt(double x) { return __builtin_sqrt(x); }
float scalar_round(float x) { return __builtin_rintf(x); }
double scalar_round(double x) { return __builtin_rint(x); }
float scalar_floor(float x) { return __builtin_floorf(x); }
double scalar_floor(double x) { return __builtin_floor(x); }
float scalar_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
double scalar_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
float scalar_copy_sign(float x, float sign) { return __builtin_copysignf(x, sign); }
double scalar_copy_sign(double x, double sign) { return __builtin_copysign(x, sign); }

template <typename T> void float_arithmetic_of(Report report, T (*value)(int64_t, int, Random&)) {
  using V = Vec<T>;
  Random random;
  for (int64_t start = 0; start < kCases; start += V::lanes) {
    T a[V::lanes], b[V::lanes];
    LANES (V) a[lane] = value(start + lane, 0, random), b[lane] = value(start + lane, 1, random);
    const V x = V::load(a), y = V::load(b);
    V sum = x, difference = x, product = x;
    sum += y, difference -= y, product *= y;
    const V quotient = x / y, root = sqrt(x), rounded = round_to_integral(x), lower = floor(x);
    const V magnitude = abs(x), negative = -x, signed_ = copy_sign(x, y), quick = multiply_add(x, y, x);
    LANES (V) {
      const T s = a[lane], t = b[lane];
      EXPECT(same<T>(sum.v[lane], s + t), start + lane);
      EXPECT(same<T>(difference.v[lane], s - t), start + lane);
      EXPECT(same<T>(product.v[lane], s * t), start + lane);
      EXPECT(same<T>(quotient.v[lane], s / t), start + lane);
      EXPECT(same<T>(root.v[lane], scalar_sqrt(s)), start + lane);
      EXPECT(same<T>(rounded.v[lane], scalar_round(s)), start + lane);
      EXPECT(same<T>(lower.v[lane], scalar_floor(s)), start + lane);
      EXPECT(same<T>(magnitude.v[lane], s < 0 || word_of(s) >> (8 * sizeof(T) - 1) ? -s : s), start + lane);
      EXPECT(same<T>(negative.v[lane], -s), start + lane);
      EXPECT(same<T>(signed_.v[lane], scalar_copy_sign(s, t)), start + lane);
      EXPECT(same<T>(quick.v[lane], kFusedMultiplyAdd ? scalar_fma(s, t, s) : s * t + s), start + lane);
    }
  }
}

void float_arithmetic(Report report) {
  float_arithmetic_of<float>(report, float_case);
  float_arithmetic_of<double>(report, double_case);
}

// Against the exact sum, which float64 holds or, where it does not, rounds to a neighbour of no float32: the greatest float32 that is no more.
void additions_toward_zero(Report report) {
  Random random;
  for (int64_t start = 0; start < kCases; start += F32::lanes) {
    float a[F32::lanes], b[F32::lanes], signed_[F32::lanes];
    LANES (F32) {
      const uint32_t word = static_cast<uint32_t>(random.next() >> 32), other = static_cast<uint32_t>(random.next() >> 32);
      const uint32_t field = 1 + word % 200;
      a[lane] = float_of(field << 23 | (start % 2 ? 0 : other & 0x7fffffu));
      b[lane] = start % 7 ? float_of((field > 28 ? field - (other >> 24) % 28 : 1) << 23 | (word >> 9)) : 0.0f;
      if (b[lane] > a[lane]) b[lane] = a[lane];
      signed_[lane] = float_of((word & 0x80000000u) | word_of(b[lane]));
    }
    const F32 sum = add_toward_zero(F32::load(a), F32::load(b)), raised = raise_magnitude(F32::load(signed_), F32::load(a));
    const F32 kept = raise_magnitude(F32::load(signed_), F32::all(0x1p-149f));
    LANES (F32) {
      const double exact = static_cast<double>(a[lane]) + static_cast<double>(b[lane]);
      float want = static_cast<float>(exact);
      if (static_cast<double>(want) > exact) want = float_of(word_of(want) - 1);
      EXPECT(same<float>(sum.v[lane], want), word_of(a[lane]));
      EXPECT(same<float>(raised.v[lane], scalar_copy_sign(a[lane], signed_[lane])), word_of(a[lane]));
      const float least = b[lane] > 0 ? b[lane] : 0x1p-149f;
      EXPECT(same<float>(kept.v[lane], scalar_copy_sign(least, signed_[lane])), word_of(b[lane]));
    }
  }
}

// Sums near the middle between two floats are where a second rounding would show: products of 13-bit numbers end there, and a third number
// far below decides. Others cancel, overflow or end among the subnormals.
void fused_multiply_add(Report report) {
  Random random;
  for (int64_t start = 0; start < 40 * kCases; start += F32::lanes) {
    float a[F32::lanes], b[F32::lanes], c[F32::lanes];
    LANES (F32) {
      const int64_t index = start + lane;
      a[lane] = float_case(index, 0, random), b[lane] = float_case(index, 1, random), c[lane] = float_case(index % 977, 1, random);
      const uint32_t word = static_cast<uint32_t>(random.next() >> 32);
      if (index % 4 == 1) {
        a[lane] = 1.0f + static_cast<float>(word & 0xfff) * 0x1p-12f, b[lane] = 1.0f + static_cast<float>((word >> 12) & 0xfff) * 0x1p-12f;
        c[lane] = float_of((word & 0x80000000u) | ((word >> 24) % 127u) << 23);
      } else if (index % 4 == 2) {
        const float product = a[lane] * b[lane];
        c[lane] = float_of((word_of(product) ^ 0x80000000u) + (word % 5u) - 2u);
      } else if (index % 4 == 3) {
        a[lane] = float_of((word_of(a[lane]) & 0x807fffffu) | ((1u + word % 40u) << 23));
        b[lane] = float_of((word_of(b[lane]) & 0x807fffffu) | ((90u + (word >> 8) % 40u) << 23));
        c[lane] = float_of(word & 0x80ffffffu);
      }
    }
    const F32 got = fma(F32::load(a), F32::load(b), F32::load(c));
    LANES (F32) EXPECT(same<float>(got.v[lane], scalar_fma(a[lane], b[lane], c[lane])), word_of(a[lane]));
  }
  for (int64_t start = 0; start < kCases; start += F64::lanes) {
    double a[F64::lanes], b[F64::lanes], c[F64::lanes];
    LANES (F64) {
      a[lane] = double_case(start + lane, 0, random), b[lane] = double_case(start + lane, 1, random);
      c[lane] = start % 3 ? double_case(start + lane, 1, random) : -(a[lane] * b[lane]);
    }
    const F64 got = fma(F64::load(a), F64::load(b), F64::load(c));
    LANES (F64) EXPECT(same<double>(got.v[lane], scalar_fma(a[lane], b[lane], c[lane])), start + lane);
  }
}

template <typename T> void minima_and_maxima_of(Report report, T (*value)(int64_t, int, Random&)) {
  using V = Vec<T>;
  Random random;
  for (int64_t start = 0; start < kCases; start += V::lanes) {
    T a[V::lanes], b[V::lanes];
    LANES (V) a[lane] = value(start + lane, 0, random), b[lane] = value(start + lane, 1, random);
    const V x = V::load(a), y = V::load(b);
    const V greatest = max_or_second(x, y), least = min_or_second(x, y), top = max_keep_nan(x, y);
    const V held = clamp_keep_nan(x, V::all(T(-2)), V::all(T(3)));
    const uint64_t nan = bits(is_nan(x));
    LANES (V) {
      const T s = a[lane], t = b[lane];
      EXPECT(same<T>(greatest.v[lane], s > t ? s : t), start + lane);
      EXPECT(same<T>(least.v[lane], s < t ? s : t), start + lane);
      EXPECT(same<T>(top.v[lane], s != s ? s : s > t ? s : t), start + lane);
      EXPECT(same<T>(held.v[lane], s < T(-2) ? T(-2) : s > T(3) ? T(3) : s), start + lane);
      EXPECT(((nan >> lane) & 1) == (s != s), start + lane);
    }
  }
}

template <typename T> void integer_extremes_of(Report report) {
  using V = Vec<T>;
  Random random;
  for (int64_t start = 0; start < kCases; start += V::lanes) {
    T a[V::lanes], b[V::lanes];
    LANES (V) a[lane] = integer_case<T>(0, 0, random), b[lane] = integer_case<T>(0, 0, random);
    const V greatest = max(V::load(a), V::load(b)), least = min(V::load(a), V::load(b));
    LANES (V) EXPECT(greatest.v[lane] == (a[lane] > b[lane] ? a[lane] : b[lane]), start + lane);
    LANES (V) EXPECT(least.v[lane] == (a[lane] < b[lane] ? a[lane] : b[lane]), start + lane);
  }
}

void minima_and_maxima(Report report) {
  minima_and_maxima_of<float>(report, float_case);
  minima_and_maxima_of<double>(report, double_case);
  integer_extremes_of<int32_t>(report);
  integer_extremes_of<uint32_t>(report);
  integer_extremes_of<int64_t>(report);
  integer_extremes_of<uint64_t>(report);
  integer_extremes_of<uint8_t>(report);
}

// ---- integers -----------------------------------------------------------------------------------------------------------------------------

template <typename T> void integers_of(Report report) {
  using V = Vec<T>;
  using Bits = typename ElementTraits<T>::Bits;
  constexpr int kBits = 8 * sizeof(T);
  Random random;
  for (int64_t start = 0; start < kCases; start += V::lanes) {
    T a[V::lanes], b[V::lanes], counts[V::lanes];
    LANES (V) {
      a[lane] = integer_case<T>(0, 0, random), b[lane] = static_cast<T>(random.next());
      counts[lane] = static_cast<T>(random.next() % kBits);
    }
    const V x = V::load(a), y = V::load(b);
    const V sum = x + y, difference = x - y, product = x * y, negative = -x, both = x & y, either = x | y, one = x ^ y;
    const V inverse = ~x, without = and_not(x, y);
    LANES (V) {
      const Bits s = static_cast<Bits>(a[lane]), t = static_cast<Bits>(b[lane]);
      EXPECT(static_cast<Bits>(sum.v[lane]) == static_cast<Bits>(s + t), start + lane);
      EXPECT(static_cast<Bits>(difference.v[lane]) == static_cast<Bits>(s - t), start + lane);
      EXPECT(static_cast<Bits>(product.v[lane]) == static_cast<Bits>(s * t), start + lane);
      EXPECT(static_cast<Bits>(negative.v[lane]) == static_cast<Bits>(-s), start + lane);
      EXPECT(static_cast<Bits>(both.v[lane]) == (s & t) && static_cast<Bits>(either.v[lane]) == (s | t), start + lane);
      EXPECT(static_cast<Bits>(one.v[lane]) == (s ^ t) && static_cast<Bits>(inverse.v[lane]) == static_cast<Bits>(~s), start + lane);
      EXPECT(static_cast<Bits>(without.v[lane]) == (s & static_cast<Bits>(~t)), start + lane);
    }
    if constexpr (sizeof(T) > 1) {
      const int shift = static_cast<int>(random.next() % kBits);
      const V left = x << shift, right = x >> shift, left_each = x << V::load(counts), right_each = x >> V::load(counts);
      LANES (V) {
        const Bits s = static_cast<Bits>(a[lane]);
        EXPECT(static_cast<Bits>(left.v[lane]) == static_cast<Bits>(s << shift), start + lane);
        EXPECT(right.v[lane] == static_cast<T>(a[lane] >> shift), start + lane);
        EXPECT(static_cast<Bits>(left_each.v[lane]) == static_cast<Bits>(s << counts[lane]), start + lane);
        EXPECT(right_each.v[lane] == static_cast<T>(a[lane] >> counts[lane]), start + lane);
      }
    }
  }
}

void integers(Report report) {
  integers_of<int32_t>(report);
  integers_of<uint32_t>(report);
  integers_of<int64_t>(report);
  integers_of<uint64_t>(report);
  integers_of<uint8_t>(report);
  Random random;
  for (int64_t start = 0; start < kCases; start += U32::lanes) {
    uint32_t a[U32::lanes], b[U32::lanes];
    LANES (U32) a[lane] = static_cast<uint32_t>(random.next() >> 32), b[lane] = integer_case<uint32_t>(0, 0, random);
    const U32 high = multiply_high(U32::load(a), U32::load(b));
    const U64 even = multiply_even(U32::load(a), U32::load(b));
    LANES (U32) EXPECT(high.v[lane] == static_cast<uint32_t>((uint64_t{a[lane]} * b[lane]) >> 32), start + lane);
    LANES (U64) EXPECT(even.v[lane] == uint64_t{a[2 * lane]} * b[2 * lane], start + lane);
  }
}

// ---- conversions --------------------------------------------------------------------------------------------------------------------------

void conversions(Report report) {
  Random random;
  for (int64_t start = 0; start < kCases; start += F32::lanes) {
    float x[F32::lanes], back[F32::lanes];
    int32_t whole[I32::lanes];
    int64_t wide[I64::lanes];
    LANES (F32) {
      x[lane] = float_case(start + lane, 0, random);
      whole[lane] = static_cast<int32_t>(random.next() >> (32 + random.next() % 32));
    }
    LANES (I64) wide[lane] = static_cast<int64_t>(random.next()) >> (random.next() % 64);
    const F64 low = widen_low(F32::load(x)), high = widen_high(F32::load(x));
    LANES (F64) EXPECT(same<double>(low.v[lane], x[lane]) && same<double>(high.v[lane], x[F64::lanes + lane]), start + lane);
    const F64 third = F64::all(1.0 / 3.0);
    narrow(low * third, high * third).store(back);
    LANES (F32) EXPECT(same<float>(back[lane], static_cast<float>(static_cast<double>(x[lane]) * (1.0 / 3.0))), start + lane);
    const F32 floats = to_f32(I32::load(whole));
    LANES (F32) EXPECT(same<float>(floats.v[lane], static_cast<float>(whole[lane])), start + lane);
    const F64 doubles = to_f64(I64::load(wide));
    LANES (F64) EXPECT(same<double>(doubles.v[lane], static_cast<double>(wide[lane])), start + lane);
    LANES (F32)
      if (!(x[lane] > -0x1p31f && x[lane] < 0x1p31f)) x[lane] = static_cast<float>(static_cast<int32_t>(random.next() >> 32)) * 0x1p-9f;
    const I32 nearest = to_i32(F32::load(x)), truncated = truncate_to_i32(F32::load(x));
    LANES (F32) EXPECT(nearest.v[lane] == static_cast<int32_t>(scalar_round(x[lane])), start + lane);
    LANES (F32) EXPECT(truncated.v[lane] == static_cast<int32_t>(x[lane]), start + lane);
  }
  for (int64_t n = 0; n <= 3 * U32::lanes; ++n) {
    uint8_t bytes[4 * U32::lanes + 1], bytes_out[4 * U32::lanes + 1];
    uint16_t words[4 * U32::lanes + 1], words_out[4 * U32::lanes + 1];
    for (int64_t i = 0; i <= 4 * U32::lanes; ++i) {
      bytes[i] = static_cast<uint8_t>(random.next() >> 56), words[i] = static_cast<uint16_t>(random.next() >> 48);
      bytes_out[i] = 3, words_out[i] = 3;
    }
    const U32 from_bytes = load_as_u32(bytes + 1), from_words = load_as_u32(words + 1), noise = U32::all(0xabcd0000u);
    const U32 first_bytes = load_first_as_u32(bytes + 1, n, 200), first_words = load_first_as_u32(words + 1, n, 60000);
    LANES (U32) EXPECT(from_bytes.v[lane] == bytes[1 + lane] && from_words.v[lane] == words[1 + lane], n);
    LANES (U32) EXPECT(first_bytes.v[lane] == (lane < n ? bytes[1 + lane] : 200u), n);
    LANES (U32) EXPECT(first_words.v[lane] == (lane < n ? words[1 + lane] : 60000u), n);
    store_first_low8(from_bytes | noise | U32::all(0x5600u), bytes_out + 1, n);
    store_first_low16(from_words | noise, words_out + 1, n);
    for (int64_t i = 0; i <= 4 * U32::lanes; ++i) {
      const bool written = i >= 1 && i <= n && i <= U32::lanes;
      EXPECT(bytes_out[i] == (written ? bytes[i] : 3) && words_out[i] == (written ? words[i] : 3), n);
    }
  }
}

// The float of a half-precision code, by its definition.
float float_of_half(uint32_t code) {
  const float sign = code & 0x8000u ? -1.0f : 1.0f;
  const uint32_t exponent = (code >> 10) & 31, mantissa = code & 1023;
  if (exponent == 31) return mantissa ? kNaN : sign * kInfinity;
  if (exponent == 0) return sign * static_cast<float>(mantissa) * 0x1p-24f;
  return sign * static_cast<float>(1024 + mantissa) * 0x1p-25f * static_cast<float>(uint32_t{1} << exponent);
}

// The code, of `codes` with values rising, that is nearest to |x|, ties to the even code; overflow is the code after the last finite.
template <typename Decode> uint32_t nearest_code(float x, uint32_t first_infinite, float overflow, Decode decode) {
  uint32_t low = 0, high = first_infinite;  // decode(low) <= x < decode(high), taking decode(first_infinite) for the value it would have
  const auto value = [&](uint32_t code) { return static_cast<double>(code == first_infinite ? overflow : decode(code)); };
  if (static_cast<double>(x) >= value(high)) return first_infinite;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (value(middle) <= static_cast<double>(x) ? low : high) = middle;
  }
  const double below = static_cast<double>(x) - value(low), above = value(high) - static_cast<double>(x);
  return below < above || (below == above && low % 2 == 0) ? low : high;
}

void check_narrowing(float x, Report report) {
  float block[F32::lanes];
  uint16_t half[F32::lanes], brain[F32::lanes];
  LANES (F32) block[lane] = x;
  store_f16(F32::load(block), half);
  store_bf16(F32::load(block), brain);
  const uint32_t word = word_of(x), sign = (word >> 16) & 0x8000u;
  const float magnitude = float_of(word & 0x7fffffffu);
  uint32_t want_half, want_brain;
  if (x != x) {
    want_half = sign | 0x7e00u | ((word >> 13) & 0x3ffu), want_brain = (word >> 16) | 0x40u;
  } else {
    want_half = sign | nearest_code(magnitude, 0x7c00u, 65536.0f, float_of_half);
    const uint32_t below = (word & 0x7fffffffu) >> 16, rest = word & 0xffffu;
    want_brain = sign | (below + (rest > 0x8000u || (rest == 0x8000u && below % 2 == 1) ? 1 : 0));
  }
  LANES (F32) EXPECT(half[lane] == want_half, word);
  LANES (F32) EXPECT(brain[lane] == want_brain, word);
}

void half_precision(Report report) {
  uint16_t codes[F32::lanes];
  for (uint32_t first = 0; first < 65536; first += F32::lanes) {
    LANES (F32) codes[lane] = static_cast<uint16_t>(first + lane);
    const F32 from_half = load_f16(codes), from_brain = load_bf16(codes), first_half = load_first_f16(codes, 2, 0x3c00u);
    LANES (F32) EXPECT(same<float>(from_half.v[lane], float_of_half(codes[lane])), codes[lane]);
    LANES (F32) EXPECT(word_of(from_brain.v[lane]) == uint32_t{codes[lane]} << 16, codes[lane]);
    LANES (F32) EXPECT(same<float>(first_half.v[lane], lane < 2 ? float_of_half(codes[lane]) : 1.0f), codes[lane]);
    uint16_t back[F32::lanes];
    LANES (F32) back[lane] = 1;
    store_first_f16(from_half, back, 3);
    LANES (F32)
      EXPECT(back[lane] == (lane >= 3 ? 1 : from_half.v[lane] != from_half.v[lane] ? codes[lane] | 0x200 : codes[lane]), codes[lane]);
    LANES (F32) back[lane] = 1;
    store_first_bf16(from_brain, back, 3);
    LANES (F32)
      EXPECT(back[lane] == (lane >= 3 ? 1 : from_brain.v[lane] != from_brain.v[lane] ? codes[lane] | 0x40 : codes[lane]), codes[lane]);
    LANES (F32) EXPECT(word_of(load_first_bf16(codes, 1, 7).v[lane]) == uint32_t{lane < 1 ? codes[lane] : uint16_t{7}} << 16, codes[lane]);
  }
  // Every value of half precision, every middle between two, and their neighbours; then any bits.
  for (uint32_t code = 0; code < 0x7c00u; ++code) {
    const float value = float_of_half(code), next = code == 0x7bffu ? 65536.0f : float_of_half(code + 1);
    const uint32_t around[] = {word_of(value), word_of((value + next) / 2)};
    for (uint32_t word : around) {
      for (uint32_t step = 0; step < 3; ++step) check_narrowing(float_of((word + step - (word ? 1 : 0)) | (code % 2) << 31), report);
    }
  }
  Random random;
  for (int64_t i = 0; i < kCases; ++i) check_narrowing(float_case(i, 0, random), report);
}

// ---- reductions and moves -------------------------------------------------------------------------------------------------------------------

template <typename T, typename Fold> T folded(const T* x, int64_t size, Fold fold) {
  T part[64];
  for (int64_t i = 0; i < size; ++i) part[i] = x[i];
  for (int64_t half = size / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) part[i] = fold(part[i], part[i + half]);
  }
  return part[0];
}

template <typename T> void float_reductions_of(Report report, T (*value)(int64_t, int, Random&)) {
  using V = Vec<T>;
  Random random;
  for (int64_t start = 0; start < kCases; start += V::lanes) {
    T x[V::lanes];
    for (int64_t i = 0; i < V::lanes; ++i) {
      x[i] = value(start + i + (start % 3 ? kSpecials * kSpecials : 0), 0, random);
      if (start % 5 && !(x[i] < T(1e30) && x[i] > T(-1e30))) x[i] = static_cast<T>(i) - T(0.7);
    }
    const V v = V::load(x);
    EXPECT(same<T>(reduce_add(v), folded(x, V::lanes, [](T a, T b) { return a + b; })), start);
    EXPECT(same<T>(reduce_max_keep_nan(v), folded(x, V::lanes, [](T a, T b) { return a != a ? a : a > b ? a : b; })), start);
  }
}

template <typename T> void integer_reductions_of(Report report) {
  using V = Vec<T>;
  Random random;
  for (int64_t start = 0; start < kCases; start += V::lanes) {
    T x[V::lanes];
    uint64_t sum = 0;
    LANES (V) x[lane] = static_cast<T>(random.next()), sum += static_cast<uint64_t>(x[lane]);
    EXPECT(reduce_add(V::load(x)) == static_cast<T>(sum), start);
    EXPECT(reduce_max(V::load(x)) == folded(x, V::lanes, [](T a, T b) { return a > b ? a : b; }), start);
    EXPECT(reduce_min(V::load(x)) == folded(x, V::lanes, [](T a, T b) { return a < b ? a : b; }), start);
  }
}

void reductions(Report report) {
  float_reductions_of<float>(report, float_case);
  float_reductions_of<double>(report, double_case);
  integer_reductions_of<int32_t>(report);
  integer_reductions_of<uint32_t>(report);
  integer_reductions_of<int64_t>(report);
  integer_reductions_of<uint64_t>(report);
}

template <int distance> void swaps(Report report) {
  if constexpr (distance < U32::lanes) {
    const U32 swapped = swap_lanes<distance>(U32::count_up());
    LANES (U32) EXPECT(swapped.v[lane] == static_cast<uint32_t>(lane ^ distance), lane);
  }
}

void moves(Report report) {
  swaps<1>(report), swaps<2>(report), swaps<4>(report), swaps<8>(report);
  float floats[100];
  uint32_t words[100];
  int32_t index[I32::lanes];
  for (int i = 0; i < 100; ++i) floats[i] = static_cast<float>(i) / 3, words[i] = static_cast<uint32_t>(i * i);
  LANES (I32) index[lane] = static_cast<int32_t>((lane * 37 + 5) % 100) - 50;  // negative ones too
  const F32 gathered = gather(floats + 50, I32::load(index));
  const U32 gathered_words = gather(words + 50, I32::load(index));
  LANES (F32) EXPECT(gathered.v[lane] == floats[50 + index[lane]] && gathered_words.v[lane] == words[50 + index[lane]], lane);
  // Powers of two, up to both ends of the exponent; v4 has an instruction of its own.
  for (int n = -252; n <= 252; ++n) {
    const float y = 1.0f + static_cast<float>((n + 252) % 97) / 97.0f;
    const F32 scaled = scale_by_power_of_two(F32::all(y), F32::all(static_cast<float>(n)));
    LANES (F32) EXPECT(same<float>(scaled.v[lane], __builtin_ldexpf(y, n)), n + 1000);
  }
  for (int n = -2044; n <= 2044; ++n) {
    const double y = -1.0 - static_cast<double>((n + 2044) % 97) / 97.0;
    const F64 scaled = scale_by_power_of_two(F64::all(y), F64::all(static_cast<double>(n)));
    LANES (F64) EXPECT(same<double>(scaled.v[lane], __builtin_ldexp(y, n)), n + 10000);
  }
}

// ---- bytes --------------------------------------------------------------------------------------------------------------------------------

bool is_letter(uint8_t x) { return (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z'); }

void byte_bitmaps(Report report) {
  Random random;
  for (int round = 0; round < 3000; ++round) {
    uint8_t text[64 + 3];
    for (uint8_t& byte : text) byte = static_cast<uint8_t>(random.next() >> 56);
    if (round < 4)
      for (int i = 0; i < 64; ++i) text[3 + i] = static_cast<uint8_t>(64 * round + i);  // each byte once
    const uint8_t wanted = text[3 + random.next() % 64], a = text[0], b = text[1], first = a < b ? a : b, last = a < b ? b : a;
    const Bytes64 bytes = Bytes64::load(text + 3);
    const uint64_t maps[] = {bitmap_equal(bytes, wanted), bitmap_range(bytes, first, last), bitmap_letters(bytes), bitmap_digits(bytes)};
    for (int i = 0; i < 64; ++i) {
      const uint8_t x = text[3 + i];
      const bool want[] = {x == wanted, x >= first && x <= last, is_letter(x), x >= '0' && x <= '9'};
      for (int k = 0; k < 4; ++k) EXPECT(((maps[k] >> i) & 1) == want[k], 100 * k + i);
    }
    const int64_t n = round % 70 - 2;
    uint8_t exact[64 + 1];  // the end of what may be read
    const int64_t size = n < 0 ? 0 : n > 64 ? 64 : n;
    __builtin_memcpy(exact + 65 - size, text, static_cast<unsigned long>(size));
    const uint64_t map = bitmap_equal(Bytes64::load_first(exact + 65 - size, n, 'x'), 'x');
    for (int i = 0; i < 64; ++i) EXPECT(((map >> i) & 1) == (i >= size || text[i] == 'x'), n);
  }
}

// Three terms in double say how far off two or three roundings can be. bf16 has all exponents of float, so products overflow and vanish, too.
void bf16_pairs(Report report) {
  Random random;
  for (int64_t start = 0; start < 8 * kCases; start += F32::lanes) {
    uint32_t a[F32::lanes], b[F32::lanes];
    float sum[F32::lanes];
    const bool near = start % (4 * F32::lanes) != 0;  // exponents near 0, so that sums of like size are met
    LANES (F32) {
      const auto half = [&] {
        const uint32_t word = static_cast<uint32_t>(random.next() >> 40);
        return near ? (word & 0x807fu) | (120u + (word >> 7) % 16u) << 7 : word & 0xffffu;
      };
      a[lane] = half() | half() << 16, b[lane] = half() | half() << 16;
      sum[lane] = float_of(half() << 16 | (half() & 0xfff));
    }
    const F32 got = multiply_add_pairs(U32::load(a), U32::load(b), F32::load(sum));
    LANES (F32) {
      const double x = static_cast<double>(float_of(a[lane] << 16)) * static_cast<double>(float_of(b[lane] << 16));
      const double y = static_cast<double>(float_of(a[lane] & 0xffff0000u)) * static_cast<double>(float_of(b[lane] & 0xffff0000u));
      const double s = static_cast<double>(sum[lane]), terms = (x < 0 ? -x : x) + (y < 0 ? -y : y) + (s < 0 ? -s : s);
      if (!(terms < 0x1p127)) continue;  // may overflow on the way
      const double error = static_cast<double>(got.v[lane]) - (x + y + s);
      // A subnormal operand counts as 0 where that is the instruction's way: it is below 2^-126.
      const auto largest = [](double p, double q) { return p > q ? p : q; };
      const auto size = [](uint32_t word) { return static_cast<double>(float_of(word & 0x7fffffffu)); };
      const double factor =
          largest(largest(size(a[lane] << 16), size(a[lane] & 0xffff0000u)), largest(size(b[lane] << 16), size(b[lane] & 0xffff0000u)));
      const double bound = 3 * 0x1p-24 * terms + 4 * 0x1p-126 * largest(1, factor);
      EXPECT(error <= bound && -error <= bound, start + lane);
    }
  }
}

}  // namespace

const VecTests vec_tests{SLIPSTICK_ISA_NAME, ends_of_arrays,    masks,    float_arithmetic, additions_toward_zero,
                         fused_multiply_add, minima_and_maxima, integers, conversions,      half_precision,
                         bf16_pairs,         reductions,        moves,    byte_bitmaps};

}  // namespace slipstick::vec_test::SLIPSTICK_ISA_NAMESPACE
