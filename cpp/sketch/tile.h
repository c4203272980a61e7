// A tile of rows as doubles in row-major order: where the matrix is stored so and needs no scaling, a pointer into it; else a copy.
#pragma once
#include <cstdint>
#include <vector>

#include "sketch/grid.h"
#include "sketch/kernels.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch {

struct Tile {
  const double* data;
  int64_t stride;
};

// Copies rows [first, first + rows) of the matrix, scaled, to out [rows, columns] with this stride.
void copy_tile(const Matrix& matrix, RowScale scale, int64_t first, int64_t rows, double* out, int64_t stride);

// The tile itself; `buffer` grows to hold a copy where one is needed. With rows_at_least > rows, zero rows are added (in a copy).
Tile load_tile(const Matrix& matrix, RowScale scale, int64_t first, int64_t rows, int64_t rows_at_least, std::vector<double>& buffer);

// Rows [first, end) where they lie in one piece each, else none.
Ahead rows_ahead(const Matrix& matrix, int64_t first, int64_t end);

// The rows of `ahead` that are due while the work goes from `before` to `after`, of `all`.
Ahead share_of(const Ahead& ahead, int64_t before, int64_t after, int64_t all);

// Adds the jobs' sums into the first one in order of jobs; `sums` holds jobs * size doubles.
void add_jobs(double* sums, int64_t jobs, int64_t size);

// Refuses matrices that do not go together.
void check_pair(const char* where, const Matrix& a, const Matrix& b);

}  // namespace slipstick::sketch
