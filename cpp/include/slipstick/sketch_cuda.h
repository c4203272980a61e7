// The sketch room on CUDA: sketches of rows in a device's memory, keyed as on the host: the same signs at the same places.
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

}  // namespace slipstick::sketch::cuda
