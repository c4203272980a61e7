// The tile products of products.simd.cpp, for the table that random.simd.cpp closes. Meanings are in kernels.h.
#pragma once
#include "sketch/kernels.h"

namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE {

int64_t panel_columns();
void pack(const double* tile, int64_t stride, int64_t rows, int64_t columns, int64_t first, double* packed);
void add_gram(const double* packed, int64_t rows, int64_t columns, double* sums, const Ahead& next);
void multiply(const double* tile, int64_t stride, int64_t rows, int64_t columns, const double* factor, double* packed);
void add_product(const double* left, int64_t left_columns, const double* right, int64_t right_columns, int64_t rows, double* sums);
double residual(const double* tile, int64_t stride, int64_t rows, int64_t columns, const double* b, int64_t b_stride, const double* x,
                double* gradient);

}  // namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE
