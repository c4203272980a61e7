// The losses room on CUDA, first form: the caller multiplies hidden and weight tile by tile, with a library of its own; here are the statistics of
// the rows of a tile, and its gradient. Definitions are those of losses.h.
//
// A tile is read once for each. The sums of a row are taken in a fixed order, so results are the same bits in every run and, where tiles begin at
// multiples of kSegmentColumns, for every size of the tiles. Each call queues its kernels on a stream and returns: it allocates nothing, waits
// for nothing, and leaves the current device as it was.
// Throws Error{invalid_argument} on a tile of another format or a negative size, and Error{unsupported} where CUDA refuses.
#pragma once
#include "slipstick/cuda.h"
#include "slipstick/losses.h"

namespace slipstick::losses::cuda {

using slipstick::cuda::Queue;

constexpr int64_t kSegmentColumns = 1024;

// Columns first_column ... of hidden weight^T, of some rows. All memory is the device's.
struct Tile {
  Format format = Format::f32;  // of products and bias: f32 or f64
  const void* products = nullptr;  // [rows, columns], rows `stride` elements apart
  int64_t rows = 0, columns = 0, stride = 0;
  int64_t first_column = 0, vocabulary = 0;
  const void* bias = nullptr;  // [vocabulary] or null
  double scale = 1;
  const double* factor = nullptr;  // one number, or null: the scale is scale times it
  LogitMap map = LogitMap::none;
  double cap = 0;
  const int64_t* targets = nullptr;  // [rows] or null
  int64_t ignore = -100;
};

// Running sums of rows, to be kept from tile to tile. A target that is neither a class nor `ignore` gives NaN.
struct RowSums {
  double* sums = nullptr;  // [6][stride]: maximum; sums of e^(z - maximum), of that times z - maximum, of z and of z^2; logit of the target
  int64_t stride = 0;
  int64_t* argmax = nullptr;
};

// Bytes of workspace that add_statistics needs for a tile.
int64_t statistics_bytes(Format format, int64_t rows, int64_t columns);

// first: the sums begin with this tile. all: or only the maximum, the sum of exponentials, the target's logit and argmax; the others are not to be used then.
void add_statistics(const Queue& queue, const Tile& tile, bool first, bool all, void* workspace, const RowSums& sums);

// The largest logits of rows so far, sorted as Statistics has them; the rest NaN with index -1. To be kept from tile to tile.
struct RowTops {
  int64_t count = 0;  // 1 to kMaxTopk
  double* values = nullptr;  // [rows][count]
  int64_t* indices = nullptr;  // [rows][count]
};

// first: the lists begin with this tile. Reads the tile once more.
void add_tops(const Queue& queue, const Tile& tile, bool first, const RowTops& tops);

// The gradient by the tile's products, see Coefficients in losses.h, whose arrays begin with the tile's first row here; 0 in rows that are
// ignored, NaN where the target is no class. out: [rows, columns], rows out_stride apart, in the tile's format or, of f32, in bf16 rounded to
// nearest; it may be the tile itself where it has its format.
void form_gradient(const Queue& queue, const Tile& tile, const Coefficients& coefficients, Format out_format, void* out,
                   int64_t out_stride);

}  // namespace slipstick::losses::cuda
