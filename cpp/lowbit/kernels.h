// The kernels of the room, one table a level. Counts are elements; y may be x where both are float.
#pragma once
#include "base/kernel_table.h"
#include "lowbit/grid.h"

namespace slipstick::lowbit {

constexpr int64_t kTile = 256;  // positions of random bits start at multiples of this

// The random bits of x[0], x[1], ...: position counts elements of the whole array and is a multiple of kTile.
struct RandomAt {
  uint64_t seed;
  uint32_t stream;
  int bits;
  uint64_t position;
};

using RoundKernel = void (*)(const Grid& grid, const RandomAt& random, const float* x, float* y, int64_t count, bool past_caches);

struct Kernels {
  const char* isa;
  RoundKernel round[kRoundings];
  // Codes of x in nearest even without the values in between, where can_code_nearest; they return how many NaN they saw. count < 2^32.
  bool (*can_code_nearest)(const Grid& grid);
  int64_t (*code_nearest_8)(const Grid& grid, const float* x, uint8_t* codes, int64_t count);
  int64_t (*code_nearest_16)(const Grid& grid, const float* x, uint16_t* codes, int64_t count);
  // Stochastic rounding by given numbers of `bits` bits.
  void (*round_given)(const Grid& grid, int bits, const uint32_t* numbers, const float* x, float* y, int64_t count);
  // Index of each x in a code book: the number of cuts that are at most x. NaN gives 0.
  void (*search)(const float* cuts, int steps, const float* x, uint32_t* index, int64_t count);
  // One random number of random.bits bits for each element.
  void (*random_bits)(const RandomAt& random, uint32_t* out, int64_t count);
};
SLIPSTICK_DECLARE_KERNELS(Kernels, kernels)

// Of values that are in the format already. encode returns how many NaN it saw.
struct CodeKernels {
  const char* isa;
  int64_t (*encode_8)(const Grid& grid, const float* values, uint8_t* codes, int64_t count);
  int64_t (*encode_16)(const Grid& grid, const float* values, uint16_t* codes, int64_t count);
  int64_t (*encode_32)(const Grid& grid, const float* values, uint32_t* codes, int64_t count);
  void (*decode_8)(const Grid& grid, const uint8_t* codes, float* values, int64_t count, bool past_caches);
  void (*decode_16)(const Grid& grid, const uint16_t* codes, float* values, int64_t count, bool past_caches);
  void (*decode_32)(const Grid& grid, const uint32_t* codes, float* values, int64_t count, bool past_caches);
  // Conversions to and from float32: exact to it, except that float64 is rounded to odd; to nearest even from it.
  void (*from_float64)(const double* x, float* y, int64_t count);
  void (*from_bfloat16)(const uint16_t* x, float* y, int64_t count);
  void (*from_float16)(const uint16_t* x, float* y, int64_t count);
  void (*to_float64)(const float* x, double* y, int64_t count);
  void (*to_bfloat16)(const float* x, uint16_t* y, int64_t count);
  void (*to_float16)(const float* x, uint16_t* y, int64_t count);
};
SLIPSTICK_DECLARE_KERNELS(CodeKernels, code_kernels)

// Of blocks. Magnitudes are float32 words, so that a maximum is one of integers and NaN is the greatest.
struct BlockKernels {
  const char* isa;
  uint32_t (*max_magnitude)(const float* x, int64_t count);
  void (*max_of_blocks)(const float* x, int64_t width, uint32_t* magnitudes,
                        int64_t blocks);  // as max_magnitudes, of whole blocks in a row
  void (*max_magnitudes)(const float* x, uint32_t* magnitudes, int64_t count);  // magnitudes[i] = max(magnitudes[i], |x[i]|)
  // out[i] = magnitudes[i] / greatest / tensor_scale, at most `most`; a NaN stays.
  void (*ratios)(const uint32_t* magnitudes, float greatest, float tensor_scale, float most, float* out, int64_t count);
  // x / factor; what is not 0 does not become 0, and a factor of 0 gives 0.
  void (*divide)(const float* x, const float* factors, float* y, int64_t count);
  void (*multiply)(const float* x, const float* factors, float* y, int64_t count);
  // divide, nearest even and multiply at once, for grids that are quick or counting: whole blocks of `width` elements under a factor each, and elements under
  // factors of their own. y may be x.
  void (*round_blocks)(const Grid& grid, const float* factors, const float* x, float* y, int64_t width, int64_t blocks, bool past_caches);
  void (*round_columns)(const Grid& grid, const float* factors, const float* x, float* y, int64_t count);
  // Whole blocks of `width` elements (a multiple of 16) with E8M0 scales, nearest even, at once. Stops in front of a block that needs care (NaN,
  // infinity, zeros, the ends of float32) and returns how many blocks it did. mantissa: see scaled.cpp.
  int64_t (*scale_and_round)(const Grid& grid, int max_exponent, uint32_t mantissa_limit, const float* x, float* y, uint8_t* scales,
                             int64_t width, int64_t blocks, bool past_caches);
};
SLIPSTICK_DECLARE_KERNELS(BlockKernels, block_kernels)

// One kind of accumulator; see matmul.cpp.
enum class Accumulator : int { float32, unbounded, split, bounded, quick, quick_wide, any };
// Every number is a multiple of 2^lowest and at most `greatest` in magnitude.
struct Reach {
  int lowest;
  float greatest;
  bool finite;
};
struct MatmulKernels {
  const char* isa;
  int64_t tile_columns;
  // c[0 .. rows, 0 .. columns] for rows <= kMatmulRows, columns <= tile_columns; strides in elements. Rows of b hold tile_columns numbers.
  void (*tile)(const Grid* grid, Rounding rounding, Accumulator kind, int64_t round_every, const float* a, int64_t a_stride, const float* b,
               int64_t b_stride, float* c, int64_t c_stride, int64_t rows, int64_t columns, int64_t inner);
  Reach (*reach)(const float* x, int64_t count);
};
constexpr int64_t kMatmulRows = 6;
SLIPSTICK_DECLARE_KERNELS(MatmulKernels, matmul_kernels)

struct Statistics;
struct StatisticsKernels {
  const char* isa;
  // Adds up x and its results y, count <= 1024. sums: 16 of x^2, then 16 of (y - x)^2, by position modulo 16.
  void (*add)(const Grid* grid, float max, float min, float smallest_normal, const float* x, const float* y, int64_t count, double* sums,
              Statistics* statistics);
};
SLIPSTICK_DECLARE_KERNELS(StatisticsKernels, statistics_kernels)

}  // namespace slipstick::lowbit
