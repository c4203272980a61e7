// The CUDA devices of this machine, as the CUDA runtime that is linked in sees them, and where a call queues its kernels.
#pragma once
#include <string>
#include <vector>

namespace slipstick::cuda {

struct Device {
  std::string name;
  int major = 0, minor = 0;  // compute capability
};

struct Queue {
  int device = 0;
  void* stream = nullptr;  // a cudaStream_t
};

// Throws Error{unsupported} with CUDA's reason where there is none: no device, no driver, one that is too old.
std::vector<Device> devices();

}  // namespace slipstick::cuda
