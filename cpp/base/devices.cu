// The list of devices.
#include "slipstick/cuda.h"

#include "base/launch.cuh"

namespace slipstick::cuda {

std::vector<Device> devices() {
  int count = 0;
  check("cuda", cudaGetDeviceCount(&count));
  std::vector<Device> all;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    check("cuda", cudaGetDeviceProperties(&properties, i));
    all.push_back({properties.name, properties.major, properties.minor});
  }
  return all;
}

}  // namespace slipstick::cuda
