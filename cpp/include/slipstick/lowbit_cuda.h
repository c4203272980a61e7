// The lowbit room on CUDA: quantize, encode, decode, statistics, packed codes, scaled formats and products of arrays in a device's memory.
//
// Bit for bit what lowbit.h gives on the host, for every format, mode, type and random number; an element is read once and written once, but twice
// read where blocks are not runs of a power of two elements, and once more for the scale of a whole tensor. Each call queues its kernels on a
// stream and returns: it allocates nothing, waits for nothing, and leaves the current device as it was. Memory is the caller's.
// Throws Error{invalid_argument} as lowbit.h does, and Error{unsupported} where CUDA refuses: no device, no kernel for it, a launch that fails.
// What a kernel itself does wrong (an address that is not the device's) comes with a later call, as always with CUDA.
#pragma once
#include <string_view>

#include "slipstick/cuda.h"
#include "slipstick/lowbit.h"

namespace slipstick::lowbit::cuda {

using slipstick::cuda::Queue;

// What kernel_numbers() and kernel_tables() of a format gave, the latter in the device's memory (null where it gave nothing).
struct DeviceFormat {
  std::string_view numbers;
  const void* tables = nullptr;
};

// y or codes is null: quantize and encode of lowbit.h. x may be y. nan is null or takes the number of NaN: the host cannot be told at once, so a
// format without a code for NaN is the caller's to check.
void quantize(const Queue& queue, const DeviceFormat& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* y,
              void* codes, int64_t count, uint32_t* nan);
void decode(const Queue& queue, const DeviceFormat& format, const void* codes, Dtype dtype, void* y, int64_t count);

// As quantize_with_statistics of lowbit.h, its sums in its order; y may be null. found: statistics_bytes(count) of the device, from a copy of which on
// the host merged_statistics makes what that returns.
int64_t statistics_bytes(int64_t count);
void quantize_with_statistics(const Queue& queue, const DeviceFormat& format, Rounding rounding, const Random& random, Dtype dtype,
                              const void* x, void* y, int64_t count, void* found);
Statistics merged_statistics(const void* found, int64_t count);

void pack(const Queue& queue, const uint8_t* codes, uint8_t* packed, int64_t count, int bits);
void unpack(const Queue& queue, const uint8_t* packed, uint8_t* codes, int64_t count, int bits);

// scale: the greatest finite |x| over (element_max * scale_max), and 1 where that is 0: what divides a whole tensor in formats of two levels.
// greatest: a word of workspace.
void tensor_scale(const Queue& queue, Dtype dtype, const void* x, int64_t count, float element_max, float scale_max, uint32_t* greatest,
                  float* scale);

// Scaled formats. scaling: what kernel_scaling() gave; scale: unused for powers of two; tensor_scale: one number of the device, or null for 1.
struct DeviceScaling {
  std::string_view numbers;
  DeviceFormat scale;
  const float* tensor_scale = nullptr;
};
// y, codes, scales and nan may be null. workspace: blocks.block_count() words, which are overwritten.
void quantize_blocks(const Queue& queue, const DeviceFormat& element, const DeviceScaling& scaling, const Blocks& blocks, Rounding rounding,
                     const Random& random, Dtype dtype, const void* x, void* y, void* codes, void* scales, uint32_t* workspace,
                     uint32_t* nan);
void decode_blocks(const Queue& queue, const DeviceFormat& element, const DeviceScaling& scaling, const Blocks& blocks, const void* codes,
                   const void* scales, Dtype dtype, void* y);

// As matmul of lowbit.h, and matmul_float32 where accumulator is null.
void matmul(const Queue& queue, const DeviceFormat* accumulator, Rounding rounding, int64_t round_every, const float* a, const float* b,
            float* c, int64_t rows, int64_t inner, int64_t columns);

}  // namespace slipstick::lowbit::cuda
