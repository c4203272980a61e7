// The sketch room on CUDA: sketches of rows in a device's memory, keyed as on the host, the same signs at the same places; and residuals.
//
// sjlt: a block keeps the sums of some columns in shared memory, one column of one band a thread, and walks over its chunk of rows; chunks are added in
// their order. So the order of every sum is fixed by the shape alone: the same bits in every run. They differ from the host's in the last bits, as its
// chunks are others. All other kinds have the jobs and the order of every sum of the host, and its draws to the bit, so their bits are those of its
// levels that fuse products and sums, which is all but v2; not the bits of a NaN. srht, tensor_left, tensor_right and the first stage of
// gaussian_pooled: a block transforms some columns of one block of rows after the other in shared memory and keeps sums of some samples. gaussian: a block
// multiplies one tile of rows by normals that it draws. Each call queues its kernels on a stream and returns: it allocates nothing, waits for
// nothing, and leaves the current device as it was. Throws Error{invalid_argument} as sketch.h does, and Error{unsupported} where CUDA refuses.
#pragma once
#include "slipstick/cuda.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch::cuda {

using slipstick::cuda::Queue;

// Workspace of sketch, in bytes; its alignment is 16.
int64_t sketch_bytes(const Sketch& parameters, int64_t rows, int64_t columns, uint64_t first_row);

// out [sketch_rows, a.columns], row-major: S A, where A's first row is the global row first_row. scale: null, or one double a row, of the device.
void sketch(const Queue& queue, const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace,
            double* out);

// out [a.columns + 1, b.columns]: A^T R and, as its last row, the squared norms of the columns of R = B - A X, rows scaled first, from one read of A as long as
// 16 of its rows stay in the first-level cache. B has the rows of A; x [a.columns, b.columns]. The order of every sum follows from the shape of A alone, so a
// column of B has the bits that it has alone. Error of an entry of A^T R: as of sums of rows / 1024 + 1024 terms, each off by a sum of a.columns / 16 + 16; NaN
// and infinity propagate. More columns of B than residual_most_rights: unsupported.
int64_t residual_bytes(int64_t rows, int64_t columns, int64_t rights);
int64_t residual_most_rights(int64_t columns);
void residual(const Queue& queue, const Matrix& a, const Matrix& b, const double* scale, const double* x, void* workspace, double* out);

}  // namespace slipstick::sketch::cuda
