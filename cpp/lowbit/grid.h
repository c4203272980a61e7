// A format as the numbers that kernels work with: bits of float32 for magnitudes, all of them exact. Made and checked by format.cpp.
#pragma once
#include <cstdint>
#include <vector>

#include "slipstick/lowbit.h"

namespace slipstick::lowbit {

// Magnitudes from 2^least_exponent on keep mantissa_bits bits of the mantissa; those below are multiples of 2^(least_exponent - mantissa_bits).
// A pair is the one for positive x and the one for negative x; unsigned formats and two's complement differ there.
struct Grid {
  int mantissa_bits = 0, dropped_bits = 0;  // of the 23 of float32
  int least_exponent = 0;
  bool symmetric = true;      // the pairs below hold equal numbers
  bool quick = false;         // fits Quick of round_vector.h
  bool counting = false;      // fits Counting of round_vector.h
  bool is_signed = true;
  bool twos_complement = false;
  bool negative_zero = true;
  uint32_t even_flip = 0;     // 1 where a clear last exponent bit of float32 means an odd code; only without mantissa
  uint32_t subnormal_limit = 0;   // magnitudes below are multiples of the quantum; 0 where float32's own subnormals do that
  uint32_t flush_limit = 0;       // magnitudes below become 0
  float quantum = 0;              // 2^(least_exponent - mantissa_bits)
  float shift = 0;                // 2^23 quanta: adding it leaves the number of quanta in the last bits
  uint32_t max[2] = {};           // greatest magnitude
  uint32_t overflow[2] = {};      // what a magnitude beyond it becomes when the mode rounds away from zero or to nearest
  uint32_t infinity[2] = {};      // what infinity becomes
  uint32_t clamp = 0;             // a power of two above max: the quick kernel holds magnitudes to it
  // Codes.
  int bits = 0;
  uint32_t exponent_offset = 0;   // subtracted from the shifted float32 bits of a magnitude to give its code
  uint32_t max_code = 0;          // greatest magnitude code that is a number
  uint32_t infinity_code = 0, nan_code = 0;  // of float formats
};

// A code book. Deterministic modes take the index from the number of cuts that are at most x.
struct Codebook {
  std::vector<float> values;
  std::vector<uint32_t> codes;
  std::vector<float> cuts[kRoundings];  // of a mode; filled up with NaN, which nothing reaches, to one less than a power of two
  int steps = 0;                        // that power
  bool keep_nonzero = false;
  std::vector<float> by_code;           // value of each code; NaN where a code has none
  uint32_t nan_code = 0;
};

}  // namespace slipstick::lowbit
