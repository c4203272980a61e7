// The losses room on CUDA, first form: the caller multiplies hidden and weight tile by tile, with a library of its own; here are the statistics of
// the rows of a tile, or of two heads' tiles side by side, and their gradients. Definitions are those of losses.h.
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

// Elements that BackwardOptions::filter_eps drops: 0 instead, and their sum added to dropped. Of coefficients without c, and without d where there is
// a map. The sum is to be spread by the caller.
struct Filter {
  double eps = 0;  // 0: none
  double* dropped = nullptr;  // [rows], to be kept from tile to tile, 0 before the first
  void* workspace = nullptr;  // filter_bytes
};
int64_t filter_bytes(Format format, int64_t rows, int64_t columns);

// The gradient by the tile's products, see Coefficients in losses.h, whose arrays begin with the tile's first row here; 0 in rows that are
// ignored, NaN where the target is no class. out: [rows, columns], rows out_stride apart, in the tile's format or, of f32, in bf16 rounded to
// nearest; it may be the tile itself where it has its format.
void form_gradient(const Queue& queue, const Tile& tile, const Coefficients& coefficients, const Filter& filter, Format out_format,
                   void* out, int64_t out_stride);

// ---- two heads ------------------------------------------------------------------------------------------------------------------------------
//
// Tiles of the same rows, columns and format; targets and ignore are those of the first. Definitions are those of losses.h. What is written is laid out
// as the tiles are, and may be them.
struct TwoTiles {
  Tile first, second;
};

// Bytes of workspace that add_divergence needs for two tiles.
int64_t divergence_bytes(Format format, int64_t rows, int64_t columns);

// Adds two tiles to running sums of rows, which begin with these where `first`. kl: sums [6][stride], of each head maximum m, sum of e^(logit - m), and
// of that times z - w. Else [2][stride], forward and reverse; jensen_shannon needs the log-sum-exps [rows], others take null.
void add_divergence(const Queue& queue, const TwoTiles& tiles, const Divergence& divergence, const double* first_lse,
                    const double* second_lse, bool first, void* workspace, double* sums, int64_t stride);

// [rows] each; null for zeros. kl: forward_mean is the mean of z - w under q, reverse_mean that under p. jensen_shannon: KL(q || m), KL(p || m).
struct DivergenceCoefficients {
  const double *first_lse = nullptr, *second_lse = nullptr;  // kl and jensen_shannon
  const double *by_forward = nullptr, *by_reverse = nullptr, *by_first_lse = nullptr, *by_second_lse = nullptr;
  const double *forward_mean = nullptr, *reverse_mean = nullptr;
};
// The gradients by both heads' products; 0 in rows that are ignored or have no upstream gradient, NaN where the target is no class.
void form_divergence_gradient(const Queue& queue, const TwoTiles& tiles, const Divergence& divergence, const DivergenceCoefficients& of,
                              void* first, void* second);

// The logits z + coefficient w, w where z reaches least [rows], or null; z alone where the second tile has null products.
void combine(const Queue& queue, const TwoTiles& tiles, double coefficient, const double* least, void* out);

struct CombinedCoefficients {
  double coefficient = -1;
  const double *least = nullptr, *lse = nullptr;  // [rows]; least may be null
  const double *by_lse = nullptr, *by_target = nullptr;  // [rows] or null
};
// As form_divergence_gradient, of the combined logits' log-sum-exp and target.
void form_combined_gradient(const Queue& queue, const TwoTiles& tiles, const CombinedCoefficients& of, void* first, void* second);

}  // namespace slipstick::losses::cuda
