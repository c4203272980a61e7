// Passes over a tall matrix A [rows, columns] for least squares: Gram matrices, residuals and random sketches, each with one read of A.
//
// Floor. n d doubles come from memory once a pass: 0.8 GB for 1e6 x 100, some 70 ms on a core that reads 11 GB/s. Arithmetic of a pass:
//   gram                  n d^2 flops (the upper triangle): compute bound from d = 40 on; must run near the FMA peak
//   preconditioned_gram   2 n d^2: a triangular product and a Gram, joined in the second-level cache
//   residual              4 n d: both products from one read, so the price of the read alone
//   sketch                n d (s) additions for s nonzeros a row, n d (log2 B + m / B) for the streamed Hadamard transform with blocks of B rows
// Rows are cut into at most kMostJobs contiguous jobs by the shape alone; a job keeps its own small sum, and sums are added in the order of the
// rows: so results are bitwise equal for any number of threads, and extra memory is that of the sums and one tile of rows a thread.
#pragma once
#include <cstdint>

namespace slipstick::sketch {

// A strided matrix of float or double that the caller keeps alive. float is widened on load; all sums are in double.
struct Matrix {
  const void* data = nullptr;
  bool single = false;  // elements are float
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;  // in elements; any sign
  int64_t column_stride = 0;
};

// What the rows are multiplied by before anything else: null, or one double a row (square roots of weights).
using RowScale = const double*;

// G = [A B]^T [A B], symmetric, row-major [p, p] with p = A.columns + B.columns; B may have no columns.
// Error of an entry: at most (kTileRows + tiles of a job + jobs) eps |a_i|^T |a_j|, the longest chain of additions; in practice a few eps.
// NaN and infinity propagate.
// Throws Error{invalid_argument} when rows of A and B differ, and as parallel_for does.
void gram(const Matrix& a, const Matrix& b, RowScale scale, double* out, int threads);

// The same of [W B] with W = A inverse_r, for an upper triangular inverse_r, row-major [A.columns, A.columns]; what lies under its diagonal is
// not read. W is made tile by tile and never stored.
void preconditioned_gram(const Matrix& a, const Matrix& b, RowScale scale, const double* inverse_r, double* out, int threads);

// R = B - A X for X row-major [A.columns, B.columns]: gradient = A^T R, row-major [A.columns, B.columns], and the squared norm of each column
// of R. R itself is not kept.
void residual(const Matrix& a, const Matrix& b, RowScale scale, const double* x, double* gradient, double* squared_norms, int threads);

enum class Kind {
  sjlt,  // `nonzeros` signs a row, one in each of as many bands of the sketch (OSNAP, block construction); nonzeros = 1 is CountSketch
  srht,  // subsampled randomised Hadamard transform, streamed: dense, every entry +-1 / sqrt(sketch_rows)
  gaussian,  // independent normal entries of variance 1 / sketch_rows
  gaussian_pooled,  // kPooled rows of the srht of kPooled sketch_rows rows, each times a normal number, are added to one row
  tensor_left,
  tensor_right,  // the factors of a TensorSRHT: as srht, but rows are sampled with replacement, independently for each factor
};

// A sketch S is keyed by (kind, seed, sketch_rows, nonzeros); column i of S belongs to global row i and depends on nothing else. So S [A; A'] is
// S A + S A' whichever process, order and chunk the rows came in. The srht transforms whole blocks of kHadamardRows global rows: chunks that do
// not begin and end at a multiple of it are right too, but pay for whole blocks.
struct Sketch {
  Kind kind = Kind::sjlt;
  uint64_t seed = 0;
  int64_t sketch_rows = 0;
  int64_t nonzeros = 1;  // sjlt alone: 1 to kMostNonzeros and at most sketch_rows
};

// out [sketch_rows, A.columns + B.columns] = S [A B], where the first row of A and B is the global row first_row. Linear in the rows.
// Throws Error{invalid_argument} on sizes outside the range.
void sketch(const Sketch& parameters, const Matrix& a, const Matrix& b, RowScale scale, uint64_t first_row, double* out, int threads);

constexpr int64_t kMostJobs = 16;
constexpr int64_t kTileRows = 128;
constexpr int64_t kHadamardRows = 512;  // a block of the srht: part of what such a sketch means
constexpr int64_t kMostNonzeros = 64;
constexpr int64_t kPooled = 8;  // part of what a pooled sketch means; its errors have 1 + 2 / kPooled times the variance of Gaussian ones

}  // namespace slipstick::sketch
