// Tiles, and the sums of jobs.
#include "sketch/tile.h"

#include <algorithm>
#include <string>

#include "slipstick/error.h"

namespace slipstick::sketch {
namespace {

template <typename T>
void copy_rows(const Matrix& matrix, RowScale scale, int64_t first, int64_t rows, double* out, int64_t stride) {
  const T* data = static_cast<const T*>(matrix.data) + first * matrix.row_stride;
  if (matrix.column_stride == 1) {
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = data + r * matrix.row_stride;
      for (int64_t j = 0; j < matrix.columns; ++j) out[r * stride + j] = static_cast<double>(row[j]);
    }
  } else {
    constexpr int64_t kSquare = 8;  // rows of a small square whose lines all stay in the first-level cache
    for (int64_t top = 0; top < rows; top += kSquare) {
      const int64_t bottom = std::min(top + kSquare, rows);
      for (int64_t j = 0; j < matrix.columns; ++j) {
        const T* column = data + j * matrix.column_stride;
        for (int64_t r = top; r < bottom; ++r) out[r * stride + j] = static_cast<double>(column[r * matrix.row_stride]);
      }
    }
  }
  if (!scale) return;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < matrix.columns; ++j) out[r * stride + j] *= scale[first + r];
  }
}

}  // namespace

void copy_tile(const Matrix& matrix, RowScale scale, int64_t first, int64_t rows, double* out, int64_t stride) {
  if (matrix.single) {
    copy_rows<float>(matrix, scale, first, rows, out, stride);
  } else {
    copy_rows<double>(matrix, scale, first, rows, out, stride);
  }
}

Tile load_tile(const Matrix& matrix, RowScale scale, int64_t first, int64_t rows, int64_t rows_at_least, std::vector<double>& buffer) {
  if (!matrix.single && !scale && matrix.column_stride == 1 && rows >= rows_at_least)
    return {static_cast<const double*>(matrix.data) + first * matrix.row_stride, matrix.row_stride};
  const int64_t height = std::max(rows, rows_at_least), width = std::max<int64_t>(matrix.columns, 1);
  if (static_cast<int64_t>(buffer.size()) < height * width) buffer.resize(static_cast<size_t>(height * width));
  copy_tile(matrix, scale, first, rows, buffer.data(), width);
  std::fill(buffer.data() + rows * width, buffer.data() + height * width, 0.0);
  return {buffer.data(), width};
}

Ahead rows_ahead(const Matrix& matrix, int64_t first, int64_t end) {
  if (matrix.column_stride != 1 || first >= end) return {};
  const int64_t bytes = matrix.single ? 4 : 8, stride = matrix.row_stride * bytes;
  return {static_cast<const char*>(matrix.data) + first * stride, stride, matrix.columns * bytes, end - first};
}

Ahead share_of(const Ahead& ahead, int64_t before, int64_t after, int64_t all) {
  const int64_t first = ahead.rows * before / all, end = ahead.rows * after / all;
  return {ahead.data + first * ahead.stride, ahead.stride, ahead.bytes, end - first};
}

void add_jobs(double* sums, int64_t jobs, int64_t size) {
  for (int64_t job = 1; job < jobs; ++job) {
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[job * size + i];
  }
}

void check_pair(const char* where, const Matrix& a, const Matrix& b) {
  if (a.rows != b.rows)
    throw Error(ErrorKind::invalid_argument,
                std::string(where) + ": b has " + std::to_string(b.rows) + " rows; expected " + std::to_string(a.rows) + ", the rows of A");
}

}  // namespace slipstick::sketch
