// Launches: the device of a call, the size of a grid, the number of a thread in it, and CUDA's errors as ours. Of files that nvcc compiles.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "slipstick/error.h"

namespace slipstick::cuda {

inline void check(const char* where, cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // taken note of: the next call begins without it
  throw Error(ErrorKind::unsupported, std::string(where) + ": CUDA says: " + cudaGetErrorString(error));
}

// The device of a call while it lives.
class OnDevice {
 public:
  OnDevice(const char* where, int device) {
    check(where, cudaGetDevice(&before_));
    if (device != before_) check(where, cudaSetDevice(device));
    moved_ = device != before_;
  }
  ~OnDevice() {
    if (moved_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool moved_ = false;
};

constexpr int kBlockThreads = 256;

// Of a grid of such blocks along x, as grid_size makes one.
__device__ inline int64_t this_thread() { return int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; }
__device__ inline int64_t all_threads() { return int64_t{gridDim.x} * kBlockThreads; }

// Blocks for `threads` threads, at most as many as fill the device a few times over: kernels walk on from there.
inline unsigned grid_size(const char* where, int device, int64_t threads) {
  constexpr int64_t kWaves = 4, kThreadsOfMultiprocessor = 2048;
  int multiprocessors = 0;
  check(where, cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  const int64_t most = multiprocessors * kWaves * kThreadsOfMultiprocessor / kBlockThreads;
  const int64_t wanted = (threads + kBlockThreads - 1) / kBlockThreads;
  return static_cast<unsigned>(wanted < most ? wanted : most);
}

}  // namespace slipstick::cuda
