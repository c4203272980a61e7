// The sketch room on CUDA: sketches of rows in a device's memory, keyed as on the host, the same signs at the same places; and residuals.
//
// sjlt: a block keeps the sums of some columns in shared memory, one column of one band a thread, and walks over its chunk of rows; chunks are added in
// their order. So the order of every sum is fixed by the shape alone: the same bits in every run. They differ from the host's in the last bits, as its
// chunks are others. srht, tensor_left and tensor_right: a block transforms some columns of one block of rows after the other in shared memory and
// keeps sums of some samples. Jobs and the order of every sum are the host's, so the bits are those of its levels that fuse products and sums, which
// is all but v2. Each call queues its kernels on a stream and returns: it allocates nothing, waits for nothing, and leaves the current device as
// it was. Throws Error{invalid_argument} as sketch.h does, and Error{unsupported} for the other kinds and where CUDA refuses.
#pragma once
#include "slipstick/cuda.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch::cuda {

using slipstick::cuda::Queue;

// Workspace of sketch, in bytes, for any first row.
int64_t sketch_bytes(const Sketch& parameters, int64_t rows, int64_t columns);

// out [sketch_rows, a.columns], row-major: S A, where A's first row is the global row first_row. scale: null, or one double a row, of the device.
void sketch(const Queue& queue, const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace,
            double* out);

// out [a.columns + 1]: A^T r and r^T r for r = b - A x, rows scaled first, from one read of A as long as kRows of its rows stay in the first-level cache.
// b has one column and the rows of A; x [a.columns]. The order of every sum follows from the shape alone. Error of an entry of A^T r: as of sums of
// rows / 1024 + 1024 terms, each off by a sum of a.columns / 16 + 16; NaN and infinity propagate. More than residual_most_columns: unsupported.
int64_t residual_bytes(int64_t rows, int64_t columns);
int64_t residual_most_columns();
void residual(const Queue& queue, const Matrix& a, const Matrix& b, const double* scale, const double* x, void* workspace, double* out);

}  // namespace slipstick::sketch::cuda
