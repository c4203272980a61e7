// The table of vec_test.simd.cpp: the facade's tests of one level, each reporting what it finds wrong.
#pragma once
#include <cstdint>

#include "base/kernel_table.h"

namespace slipstick::vec_test {

// What went wrong: the condition as text, its line, and the case at hand (an index, a count or a bit pattern).
using Report = void (*)(const char* condition, int line, uint64_t detail);

struct VecTests {
  const char* isa;
  void (*ends_of_arrays)(Report);
  void (*masks)(Report);
  void (*float_arithmetic)(Report);
  void (*additions_toward_zero)(Report);
  void (*fused_multiply_add)(Report);
  void (*minima_and_maxima)(Report);
  void (*integers)(Report);
  void (*conversions)(Report);
  void (*half_precision)(Report);
  void (*bf16_pairs)(Report);
  void (*reductions)(Report);
  void (*moves)(Report);
  void (*byte_bitmaps)(Report);
};
SLIPSTICK_DECLARE_KERNELS(VecTests, vec_tests)

}  // namespace slipstick::vec_test
