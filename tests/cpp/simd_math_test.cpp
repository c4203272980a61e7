// Contract under test: each function of simd/math.h is within its bound of math_bounds.h for every float, keeps the limits, signs of zero and
// NaN that the header documents, and gives the same bits on every level, whatever the length and the alignment.
// Oracle: the C library in double for float (its error is 2^-29 of ours) and in long double for double.
//
// Quick by default: every 4099th bit pattern (a prime), so both signs, all exponents and changing mantissas. All 2^32, for half an hour:
//   SLIPSTICK_TEST_FULL=1 build/tests/cpp/simd_math_test
// There the highest level is compared with the oracle, and the others with that level.
#include "simd/math_kernels.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "check.h"

namespace {

using namespace slipstick::simd;
using slipstick::Isa;

float float_of(uint32_t word) {
  float x;
  std::memcpy(&x, &word, 4);
  return x;
}
uint32_t word_of(float x) {
  uint32_t word;
  std::memcpy(&word, &x, 4);
  return word;
}
double double_of(uint64_t word) {
  double x;
  std::memcpy(&x, &word, 8);
  return x;
}
uint64_t word_of(double x) {
  uint64_t word;
  std::memcpy(&word, &x, 8);
  return word;
}
template <typename T> bool same(T a, T b) { return (a != a && b != b) || word_of(a) == word_of(b); }

const char* full_sweep_wanted() { return std::getenv("SLIPSTICK_TEST_FULL"); }
uint64_t float_step() { return full_sweep_wanted() ? 1 : 4099; }
constexpr int64_t kBlock = 4096;

template <typename Wide> using Oracle = Wide (*)(Wide);
template <typename Wide> Oracle<Wide> oracle_of(const char* name) {
  struct Named {
    const char* name;
    Oracle<Wide> function;
  };
  const Named all[] = {{"exp", std::exp},   {"exp2", std::exp2},   {"expm1", std::expm1}, {"log", std::log},
                       {"log2", std::log2}, {"log1p", std::log1p}, {"tanh", std::tanh}};
  for (const Named& one : all) {
    if (!std::strcmp(one.name, name)) return one.function;
  }
  check::fail(__FILE__, __LINE__, std::string("no oracle for ") + name);
  return std::exp;
}

// |got - want| in ulp of want. An overflow counts as the power of two after the largest number; what is not a number must be matched exactly.
template <typename T, typename Wide> double error_in_ulp(T got, Wide want) {
  constexpr int kDigits = std::numeric_limits<T>::digits, kLeast = std::numeric_limits<T>::min_exponent,
                kMost = std::numeric_limits<T>::max_exponent;
  constexpr double kWrong = std::numeric_limits<double>::infinity();
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : kWrong;
  if (want == 0) return got == 0 && std::signbit(got) == std::signbit(want) ? 0 : kWrong;
  const Wide beyond = std::ldexp(Wide(1), kMost);
  const Wide held = want > beyond ? beyond : want < -beyond ? -beyond : want;
  if (std::isinf(want) && !std::isinf(got)) return kWrong;
  const Wide value = std::isinf(got) ? std::copysign(beyond, static_cast<Wide>(got)) : static_cast<Wide>(got);
  int exponent;
  std::frexp(held, &exponent);
  exponent = exponent < kLeast ? kLeast : exponent > kMost ? kMost : exponent;
  return static_cast<double>(std::ldexp(std::fabs(value - held), kDigits - exponent));
}

// Runs check(level's kernels) on each level, with the level forced.
template <typename Check> void on_every_level(Check check_level) {
  for (Isa level : {Isa::v2, Isa::v3, Isa::v4, Isa::v4_bf16, Isa::neon}) {
    bool runs_here = false;
    for (Isa known : slipstick::isa_levels()) runs_here = runs_here || known == level;
    if (!runs_here) {
      std::printf("       skipped on %s: not a level of this machine\n", slipstick::isa_name(level));
      continue;
    }
    slipstick::set_isa(slipstick::isa_name(level));
    CHECK_EQUAL(std::string(active_math_kernels().isa), std::string(slipstick::isa_name(level)));
    check_level(active_math_kernels());
  }
  slipstick::set_isa("");
}

void sweep_floats(const MathFunction<F32Kernel>& function, const MathKernels& kernels) {
  const uint64_t step = float_step(), all = uint64_t{1} << 32;
  const Oracle<double> oracle = oracle_of<double>(function.name);
  float x[kBlock], y[kBlock];
  double worst = 0;
  uint32_t worst_word = 0;
  for (uint64_t word = 0; word < all;) {
    int64_t count = 0;
    for (; count < kBlock && word < all; word += step) x[count++] = float_of(static_cast<uint32_t>(word));
    (kernels.*function.kernel)(x, y, count);
    for (int64_t i = 0; i < count; ++i) {
      const double error = error_in_ulp(y[i], oracle(static_cast<double>(x[i])));
      if (!(error <= worst)) worst = error, worst_word = word_of(x[i]);
    }
  }
  std::printf("       %-4s %-5s largest error %.4f ulp at %a; bound %g\n", kernels.isa, function.name, worst,
              static_cast<double>(float_of(worst_word)), function.max_ulp);
  std::fflush(stdout);
  CHECK(worst <= function.max_ulp);
}

// Doubles: every exponent and sign, with mantissas that no pattern ties to it, and many more in the range where results are finite.
double double_sample(uint64_t index, const std::string& name) {
  uint64_t word = (index + 1) * 0x9e3779b97f4a7c15u;  // multiplicative hashing (Knuth): spreads consecutive indices over all words
  word ^= word >> 29;
  word *= 0xbf58476d1ce4e5b9u;
  if (index % 2 == 0) return double_of(word);
  const double unit = static_cast<double>(word >> 11) * 0x1p-53;
  if (name == "exp") return -746.0 + 1457.0 * unit;
  return index % 4 == 1 ? 0.4 + 1.3 * unit : std::ldexp(1.0 + unit, static_cast<int>(index % 2100) - 1076);
}

void sweep_doubles(const MathFunction<F64Kernel>& function, const MathKernels& kernels) {
  const uint64_t samples = full_sweep_wanted() ? 200000000 : 1000000;
  const Oracle<long double> oracle = oracle_of<long double>(function.name);
  double x[kBlock], y[kBlock], worst = 0, worst_at = 0;
  for (uint64_t index = 0; index < samples; index += kBlock) {
    for (int64_t i = 0; i < kBlock; ++i) x[i] = double_sample(index + static_cast<uint64_t>(i), function.name);
    (kernels.*function.kernel)(x, y, kBlock);
    for (int64_t i = 0; i < kBlock; ++i) {
      const double error = error_in_ulp(y[i], oracle(static_cast<long double>(x[i])));
      if (!(error <= worst)) worst = error, worst_at = x[i];
    }
  }
  std::printf("       %-4s %-5s (double) largest error %.4f ulp at %a; bound %g\n", kernels.isa, function.name, worst, worst_at,
              function.max_ulp);
  CHECK(worst <= function.max_ulp);
}

}  // namespace

TEST(float_functions_are_within_their_bounds_on_every_level) {
  on_every_level([](const MathKernels& kernels) {
    if (full_sweep_wanted() && slipstick::isa() != slipstick::isa_levels().back()) return;
    for (const auto& function : kF32Functions) sweep_floats(function, kernels);
  });
}

// Found by the full sweep. They keep the bounds from being looser than they need be.
TEST(the_worst_arguments_come_near_the_bounds) {
  struct Worst {
    const char* name;
    float x;
  };
  const Worst all[] = {{"exp", -0x1.765026p+2f}, {"exp2", -0x1.f9b048p+6f}, {"expm1", 0x1.102486p+4f}, {"log", 0x1.4574e2p-1f},
                       {"log2", 0x1.5f3a3cp+0f}, {"log1p", 0x1.569876p-2f}, {"tanh", 0x1.fd0794p-8f}};
  on_every_level([&](const MathKernels& kernels) {
    int index = 0;
    for (const auto& function : kF32Functions) {
      const Worst& worst = all[index++];
      CHECK_EQUAL(std::string(function.name), std::string(worst.name));
      float y;
      (kernels.*function.kernel)(&worst.x, &y, 1);
      const double error = error_in_ulp(y, oracle_of<double>(worst.name)(static_cast<double>(worst.x)));
      CHECK(error <= function.max_ulp && error > function.max_ulp - 0.05);
    }
  });
}

TEST(double_functions_are_within_their_bounds_on_every_level) {
  on_every_level([](const MathKernels& kernels) {
    for (const auto& function : kF64Functions) sweep_doubles(function, kernels);
  });
}

TEST(every_level_gives_the_bits_of_the_highest) {
  slipstick::set_isa(slipstick::isa_name(slipstick::isa_levels().back()));
  const MathKernels& highest = active_math_kernels();
  const uint64_t step = full_sweep_wanted() ? 1 : 1021, all = uint64_t{1} << 32;
  float x[kBlock], want[kBlock], got[kBlock];
  on_every_level([&](const MathKernels& kernels) {
    if (&kernels == &highest) return;
    for (const auto& function : kF32Functions) {
      int64_t different = 0;
      for (uint64_t word = 0; word < all;) {
        int64_t count = 0;
        for (; count < kBlock && word < all; word += step) x[count++] = float_of(static_cast<uint32_t>(word));
        (highest.*function.kernel)(x, want, count);
        (kernels.*function.kernel)(x, got, count);
        for (int64_t i = 0; i < count; ++i) different += !same(got[i], want[i]);
      }
      if (different)
        std::printf("       %s %s: %lld results differ from %s\n", kernels.isa, function.name, static_cast<long long>(different),
                    highest.isa);
      CHECK_EQUAL(different, 0);
    }
    for (const auto& function : kF64Functions) {
      int64_t different = 0;
      for (uint64_t index = 0; index < 400000; ++index) {
        const double a = double_sample(index, function.name);
        double b, c;
        (highest.*function.kernel)(&a, &b, 1);
        (kernels.*function.kernel)(&a, &c, 1);
        different += !same(b, c);
      }
      CHECK_EQUAL(different, 0);
    }
  });
}

// One number for the results at every 65521st bit pattern (a prime), the same on all machines because all levels give the same bits. A change of
// a polynomial changes these on purpose.
TEST(results_are_those_of_every_other_machine) {
  struct Known {
    const char* name;
    uint64_t hash;
  };
  const Known known[] = {
      {"exp", 0xe0d6553b951b413du},  {"exp2", 0x3b622d5911198b8cu},  {"expm1", 0x1b46173f11ae8dceu}, {"log", 0x4c4c09d019cf5325u},
      {"log2", 0x2b62a983fdb97e30u}, {"log1p", 0xd640788850ecaa4fu}, {"tanh", 0x0afa8e1b371ecfbau},
  };
  on_every_level([&](const MathKernels& kernels) {
    int index = 0;
    for (const auto& function : kF32Functions) {
      CHECK_EQUAL(std::string(function.name), std::string(known[index].name));
      uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
      for (uint64_t word = 0; word < uint64_t{1} << 32; word += 65521) {
        const float x = float_of(static_cast<uint32_t>(word));
        float y;
        (kernels.*function.kernel)(&x, &y, 1);
        hash = (hash ^ (y != y ? 0x7fc00000u : word_of(y))) * 0x100000001b3u;
      }
      CHECK_EQUAL(hash, known[index].hash);
      ++index;
    }
  });
}

TEST(limits_zeros_and_subnormals_are_as_documented) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN(), tiny = 0x1p-149f;
  struct Known {
    const char* name;
    float x, y;
  };
  // clang-format off
  const Known known[] = {
      {"exp", 0.0f, 1.0f}, {"exp", -0.0f, 1.0f}, {"exp", inf, inf}, {"exp", -inf, 0.0f}, {"exp", nan, nan}, {"exp", tiny, 1.0f},
      {"exp", 88.7228394f, inf}, {"exp", 1000.0f, inf}, {"exp", -103.98f, 0.0f}, {"exp", -103.97f, tiny}, {"exp", -1e30f, 0.0f},
      {"exp2", 0.0f, 1.0f}, {"exp2", -0.0f, 1.0f}, {"exp2", 10.0f, 1024.0f}, {"exp2", 127.0f, 0x1p127f}, {"exp2", 128.0f, inf},
      {"exp2", -126.0f, 0x1p-126f}, {"exp2", -149.0f, tiny}, {"exp2", -150.0f, 0.0f}, {"exp2", -149.5f, tiny}, {"exp2", inf, inf},
      {"exp2", -inf, 0.0f}, {"exp2", nan, nan}, {"exp2", -140.0f, 0x1p-140f},
      {"expm1", 0.0f, 0.0f}, {"expm1", -0.0f, -0.0f}, {"expm1", inf, inf}, {"expm1", -inf, -1.0f}, {"expm1", nan, nan},
      {"expm1", tiny, tiny}, {"expm1", -tiny, -tiny}, {"expm1", -50.0f, -1.0f}, {"expm1", 100.0f, inf},
      {"log", 1.0f, 0.0f}, {"log", 0.0f, -inf}, {"log", -0.0f, -inf}, {"log", inf, inf}, {"log", -inf, nan}, {"log", -1.0f, nan},
      {"log", -tiny, nan}, {"log", nan, nan}, {"log", tiny, -103.278931f},
      {"log2", 1.0f, 0.0f}, {"log2", 0.0f, -inf}, {"log2", -0.0f, -inf}, {"log2", inf, inf}, {"log2", -2.0f, nan}, {"log2", nan, nan},
      {"log2", 8.0f, 3.0f}, {"log2", 0.25f, -2.0f}, {"log2", tiny, -149.0f}, {"log2", 0x1p-130f, -130.0f}, {"log2", 0x1p127f, 127.0f},
      {"log1p", 0.0f, 0.0f}, {"log1p", -0.0f, -0.0f}, {"log1p", -1.0f, -inf}, {"log1p", -1.5f, nan}, {"log1p", inf, inf},
      {"log1p", -inf, nan}, {"log1p", nan, nan}, {"log1p", tiny, tiny}, {"log1p", -tiny, -tiny},
      {"tanh", 0.0f, 0.0f}, {"tanh", -0.0f, -0.0f}, {"tanh", inf, 1.0f}, {"tanh", -inf, -1.0f}, {"tanh", nan, nan}, {"tanh", 20.0f, 1.0f},
      {"tanh", tiny, tiny}, {"tanh", -tiny, -tiny},
  };
  // clang-format on
  on_every_level([&](const MathKernels& kernels) {
    for (const Known& one : known) {
      bool found = false;
      for (const auto& function : kF32Functions) {
        if (std::string(function.name) != one.name) continue;
        found = true;
        float y;
        (kernels.*function.kernel)(&one.x, &y, 1);
        if (!same(y, one.y)) {
          check::fail(__FILE__, __LINE__,
                      std::string(kernels.isa) + ": " + one.name + "(" + std::to_string(one.x) + ") is " + std::to_string(y));
        }
      }
      CHECK(found);
    }
    const double infinity = std::numeric_limits<double>::infinity();
    const double arguments[] = {0.0, -0.0, infinity, -infinity, std::nan(""), 710.0, -745.2, -745.1, -1e300, 1.0, -1.0, 0x1p-1074};
    const double exps[] = {1, 1, infinity, 0, std::nan(""), infinity, 0, 0x1p-1074, 0, std::exp(1.0), std::exp(-1.0), 1};
    const double logs[] = {-infinity,    -infinity,    infinity, std::nan(""), std::nan(""),       std::log(710.0), std::nan(""),
                           std::nan(""), std::nan(""), 0,        std::nan(""), std::log(0x1p-1074)};
    for (int i = 0; i < 12; ++i) {
      double y;
      kernels.exp_f64(&arguments[i], &y, 1);
      CHECK(same(y, exps[i]) || std::fabs(y - exps[i]) <= 0x1p-52 * exps[i]);
      kernels.log_f64(&arguments[i], &y, 1);
      CHECK(same(y, logs[i]) || std::fabs(y - logs[i]) <= 0x1p-52 * std::fabs(logs[i]));
    }
  });
}

TEST(length_and_alignment_change_nothing) {
  on_every_level([](const MathKernels& kernels) {
    float from[64 + 4], to[64 + 4];
    for (int offset = 0; offset < 4; ++offset) {
      for (int count = 0; count <= 49; ++count) {
        for (const auto& function : kF32Functions) {
          for (int i = 0; i < 68; ++i) from[i] = 0.37f * static_cast<float>(i + 1), to[i] = -3.0f;
          (kernels.*function.kernel)(from + offset, to + offset, count);
          for (int i = 0; i < 68; ++i) {
            float want = -3.0f;
            if (i >= offset && i < offset + count) (kernels.*function.kernel)(&from[i], &want, 1);
            CHECK(same(to[i], want));
          }
          (kernels.*function.kernel)(from + offset, from + offset, count);  // in place
          for (int i = offset; i < offset + count; ++i) CHECK(same(from[i], to[i]));
        }
      }
    }
  });
}
