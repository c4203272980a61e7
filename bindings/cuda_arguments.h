// What the files of `slipstick._cuda` share: addresses of a device's memory, and where a call queues its kernels.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>

#include "slipstick/cuda.h"

namespace slipstick_bindings {

using Address = uintptr_t;
using Place = std::tuple<int, Address>;  // device, stream

template <typename T> T* at(Address address) { return reinterpret_cast<T*>(address); }
inline slipstick::cuda::Queue queue(const Place& place) { return {std::get<0>(place), at<void>(std::get<1>(place))}; }

void bind_cuda_losses(nanobind::module_& module);
void bind_cuda_sketch(nanobind::module_& module);

}  // namespace slipstick_bindings
