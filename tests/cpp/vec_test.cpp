// Contract under test: every function of simd/vec.h and simd/bytes.h gives, on every level this machine runs, what a scalar loop over the
// definition gives, bit for bit. The checks themselves are in vec_test.simd.cpp, compiled once per level.
#include "vec_test.h"

#include <string>

#include "check.h"

namespace {

using slipstick::vec_test::VecTests;

std::string current_level;

void report(const char* condition, int line, uint64_t detail) {
  char text[64];
  std::snprintf(text, sizeof text, " (case %llu = 0x%llx)", static_cast<unsigned long long>(detail),
                static_cast<unsigned long long>(detail));
  check::fail("vec_test.simd.cpp", line, current_level + ": not true: " + condition + text);
}

void on_every_level(void (*VecTests::*test)(slipstick::vec_test::Report)) {
  using slipstick::Isa;
  for (Isa level : {Isa::v2, Isa::v3, Isa::v4, Isa::v4_bf16, Isa::neon}) {
    bool runs_here = false;
    for (Isa known : slipstick::isa_levels()) runs_here = runs_here || known == level;
    current_level = slipstick::isa_name(level);
    if (!runs_here) {
      std::printf("       skipped on %s: not a level of this machine\n", current_level.c_str());
      continue;
    }
    slipstick::set_isa(current_level);
    const VecTests& tests = slipstick::vec_test::active_vec_tests();
    CHECK_EQUAL(std::string(tests.isa), current_level);
    (tests.*test)(report);
  }
  slipstick::set_isa("");
}

}  // namespace

TEST(loads_and_stores_of_every_count_touch_nothing_else) { on_every_level(&VecTests::ends_of_arrays); }
TEST(masks_compare_and_select_lane_by_lane) { on_every_level(&VecTests::masks); }
TEST(float_arithmetic_is_rounded_once) { on_every_level(&VecTests::float_arithmetic); }
TEST(sums_are_rounded_toward_zero_and_magnitudes_raised) { on_every_level(&VecTests::additions_toward_zero); }
TEST(fma_rounds_once_on_every_level) { on_every_level(&VecTests::fused_multiply_add); }
TEST(minima_and_maxima_treat_nan_and_zeros_as_documented) { on_every_level(&VecTests::minima_and_maxima); }
TEST(integers_wrap_and_shift) { on_every_level(&VecTests::integers); }
TEST(conversions_are_exact_or_rounded_to_even) { on_every_level(&VecTests::conversions); }
TEST(half_precision_is_exact_for_every_code_and_rounds_to_even) { on_every_level(&VecTests::half_precision); }
TEST(products_of_bf16_pairs_are_within_their_roundings) { on_every_level(&VecTests::bf16_pairs); }
TEST(reductions_fold_by_halves) { on_every_level(&VecTests::reductions); }
TEST(moves_between_lanes_and_gathers) { on_every_level(&VecTests::moves); }
TEST(bitmaps_agree_with_a_loop_over_bytes) { on_every_level(&VecTests::byte_bitmaps); }
