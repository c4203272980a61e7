// The hot loops of the room, one table per instruction set. All work on a tile of at most kTileRows rows of doubles.
#pragma once
#include <cstdint>

#include "base/kernel_table.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch {

// Rows that are read later. A kernel that computes for long asks for their lines meanwhile, or memory would stand still.
struct Ahead {
  const char* data = nullptr;
  int64_t stride = 0, bytes = 0;  // from row to row, and of a row, in bytes
  int64_t rows = 0;
};

// Some columns of one block of kHadamardRows global rows. Of the block's rows only [first, end) are at hand; the others count as zero.
struct HadamardStrip {
  const double* data = nullptr;  // row `first`
  int64_t stride = 0;
  int64_t first = 0, end = 0;
  int64_t columns = 0;
  const int32_t* sources = nullptr;  // [kHadamardRows]: the row that P puts at each place
  const double* signs = nullptr;     // [kHadamardRows]: the sign of each place, the diagonal of D
  const double* sample_signs = nullptr;  // [samples]: signed magnitudes of the block's part of each sample
};

// Blocks that are added to the samples together: the samples of 256 columns, 2 MiB for 1024 rows of sketch, pass the caches once for all of them.
// With more blocks the rows in flight leave the caches instead.
constexpr int kHadamardBlocks = 2;

// The sums of one band of a strip, those of a nonzero, fit the first-level cache: 32 KiB for 8 nonzeros and 1024 rows of sketch. Narrower strips
// spend more on targets and on lines that two of them share.
constexpr int64_t kScatterColumns = 32, kScatterPadding = 8;

struct Kernels {
  const char* isa;
  int64_t panel_columns;  // a packed tile is panels of so many columns, each [rows, panel_columns]; padding columns are zero
  int64_t lanes;          // doubles in a vector; also the rows that `multiply` does at once, and a divisor of panel_columns

  // Packs columns [0, columns) of a row-major tile into panels from column `first` of the packed tile on, and zeroes the rest of the last panel.
  void (*pack)(const double* tile, int64_t stride, int64_t rows, int64_t columns, int64_t first, double* packed);
  // sums [columns padded to panels]^2 += packed^T packed, panels of the upper triangle only.
  void (*add_gram)(const double* packed, int64_t rows, int64_t columns, double* sums, const Ahead& next);
  // packed columns [0, columns) = tile * factor, `factor` upper triangular and packed in panels of `columns` rows. rows is a multiple of lanes.
  void (*multiply)(const double* tile, int64_t stride, int64_t rows, int64_t columns, const double* factor, double* packed);
  // sums [left columns padded, right columns padded] += left^T right.
  void (*add_product)(const double* left, int64_t left_columns, const double* right, int64_t right_columns, int64_t rows, double* sums);
  // r = b - tile x, gradient += tile^T r; returns the sum of squares of r. b has stride b_stride.
  double (*residual)(const double* tile, int64_t stride, int64_t rows, int64_t columns, const double* b, int64_t b_stride, const double* x,
                     double* gradient);
  // Where rows go, from a random word each: by its upper bits to one of `size` places from `first` on, with the sign of its lowest bit, as
  // 2 * place + bit.
  void (*targets)(const uint32_t* words, int64_t count, int32_t first, uint32_t size, uint32_t* out);
  // A strip of at most kScatterColumns columns of a tile: for each nonzero q and row r, sums[place] += +-magnitude * row r of the strip,
  // with place and sign in targets[q * rows + r]. A row of sums is the strip's columns padded to kScatterPadding. The rows of `next`, the strip that
  // follows, and of `later`, whole rows in the order of memory, are prefetched.
  void (*scatter)(const double* tile, int64_t stride, int64_t rows, int64_t columns, const Ahead& next, const Ahead& later,
                  const uint32_t* targets, double magnitude, int64_t nonzeros, double* sums);
  // The same for one nonzero a row and whole rows of any width: sums[place] += +-row r, the sums of all columns of a place side by side, each row of them
  // padded to kScatterPadding. A is read in the order of memory, which the hardware foresees.
  void (*scatter_whole)(const double* tile, int64_t stride, int64_t rows, int64_t columns, const uint32_t* targets, double* sums);
  int64_t hadamard_panel;  // columns that are transformed together
  // t_b = H D_b P_b strip_b for up to kHadamardBlocks blocks; sums[p][j] += sum over b of sample_signs_b[j] * t_b[sampled[j]], in order of b, for
  // each panel p of hadamard_panel columns, sums [panels, samples, hadamard_panel]. The rows of `next`, as many strips, and `later` are prefetched as
  // by scatter. work holds kHadamardRows rows of whole panels for each block.
  void (*hadamard)(const HadamardStrip* strips, int64_t blocks, const HadamardStrip* next, const Ahead& later, int64_t samples,
                   const int32_t* sampled, double* work, double* sums);
  // Words of RandomStream(seed, purpose) for the blocks first, first + step and so on: word w of the i-th of them to out[w * count + i].
  void (*random_words)(uint64_t seed, uint32_t purpose, uint64_t first, uint64_t step, int64_t count, uint32_t* out);
  // Standard normals from random words, two from each pair of words (Box and Muller 1958): out[i] and out[count + i] from first[i], second[i].
  void (*normals)(const uint32_t* first, const uint32_t* second, int64_t count, double* out);
};

SLIPSTICK_DECLARE_KERNELS(Kernels, kernels)

}  // namespace slipstick::sketch
