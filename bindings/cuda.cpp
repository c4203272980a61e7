// The extension module `slipstick._cuda`: what the core offers for CUDA, over raw addresses of a device's memory and handles of streams; the lowbit
// room here, the others in cuda_ROOM.cpp. Python has checked shapes, types and devices and holds the tensors. Nothing here waits for a device, so
// the interpreter lock stays.
#include "slipstick/cuda.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cuda_arguments.h"
#include "errors.h"
#include "slipstick/lowbit_cuda.h"
#include "statistics.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace lowbit = slipstick::lowbit;
namespace cuda = slipstick::lowbit::cuda;
using slipstick_bindings::Address;
using slipstick_bindings::at;
using slipstick_bindings::Place;
using slipstick_bindings::queue;

namespace {

using Numbers = std::tuple<nb::bytes, Address>;  // kernel_numbers, address of the tables
using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, bool>;  // the fields of Blocks

std::string_view view(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }
cuda::DeviceFormat format(const Numbers& numbers) { return {view(std::get<0>(numbers)), at<void>(std::get<1>(numbers))}; }
lowbit::Blocks blocks(const Sizes& sizes) {
  const auto [outer, rows, columns, block_rows, block_columns, shared] = sizes;
  return {outer, rows, columns, block_rows, block_columns, shared};
}

std::vector<std::tuple<std::string, int, int>> devices() {
  std::vector<std::tuple<std::string, int, int>> all;
  for (const slipstick::cuda::Device& device : slipstick::cuda::devices()) all.emplace_back(device.name, device.major, device.minor);
  return all;
}

void bind_lowbit(nb::module_& module) {
  module.doc() = "Number formats on CUDA. Private: use slipstick.lowbit.";
  module.def(
      "quantize",
      [](const Place& place, const Numbers& numbers, int rounding, uint64_t seed, uint32_t stream, int random_bits, int dtype, Address x,
         Address y, Address codes, int64_t count, Address nan) {
        cuda::quantize(queue(place), format(numbers), static_cast<lowbit::Rounding>(rounding), {seed, stream, random_bits},
                       static_cast<lowbit::Dtype>(dtype), at<void>(x), at<void>(y), at<void>(codes), count, at<uint32_t>(nan));
      },
      "place"_a, "format"_a, "rounding"_a, "seed"_a, "stream"_a, "random_bits"_a, "dtype"_a, "x"_a, "y"_a, "codes"_a, "count"_a, "nan"_a);
  module.def(
      "decode",
      [](const Place& place, const Numbers& numbers, Address codes, int dtype, Address y, int64_t count) {
        cuda::decode(queue(place), format(numbers), at<void>(codes), static_cast<lowbit::Dtype>(dtype), at<void>(y), count);
      },
      "place"_a, "format"_a, "codes"_a, "dtype"_a, "y"_a, "count"_a);
  module.def("statistics_bytes", &cuda::statistics_bytes, "count"_a);
  module.def(
      "statistics",
      [](const Place& place, const Numbers& numbers, int rounding, uint64_t seed, uint32_t stream, int random_bits, int dtype, Address x,
         Address y, int64_t count, Address found) {
        cuda::quantize_with_statistics(queue(place), format(numbers), static_cast<lowbit::Rounding>(rounding), {seed, stream, random_bits},
                                       static_cast<lowbit::Dtype>(dtype), at<void>(x), at<void>(y), count, at<void>(found));
      },
      "place"_a, "format"_a, "rounding"_a, "seed"_a, "stream"_a, "random_bits"_a, "dtype"_a, "x"_a, "y"_a, "count"_a, "found"_a);
  module.def(
      "merged_statistics",
      [](Address found, int64_t count) { return slipstick_bindings::dict_of(cuda::merged_statistics(at<void>(found), count)); }, "found"_a,
      "count"_a);
  module.def(
      "pack",
      [](const Place& place, Address codes, Address packed, int64_t count, int bits) {
        cuda::pack(queue(place), at<uint8_t>(codes), at<uint8_t>(packed), count, bits);
      },
      "place"_a, "codes"_a, "packed"_a, "count"_a, "bits"_a);
  module.def(
      "unpack",
      [](const Place& place, Address packed, Address codes, int64_t count, int bits) {
        cuda::unpack(queue(place), at<uint8_t>(packed), at<uint8_t>(codes), count, bits);
      },
      "place"_a, "packed"_a, "codes"_a, "count"_a, "bits"_a);
  module.def(
      "tensor_scale",
      [](const Place& place, int dtype, Address x, int64_t count, float element_max, float scale_max, Address greatest, Address scale) {
        cuda::tensor_scale(queue(place), static_cast<lowbit::Dtype>(dtype), at<void>(x), count, element_max, scale_max,
                           at<uint32_t>(greatest), at<float>(scale));
      },
      "place"_a, "dtype"_a, "x"_a, "count"_a, "element_max"_a, "scale_max"_a, "greatest"_a, "scale"_a);
  module.def(
      "quantize_blocks",
      [](const Place& place, const Numbers& element, nb::bytes scaling, const Numbers& scale, Address tensor_scale, const Sizes& sizes,
         int rounding, uint64_t seed, uint32_t stream, int random_bits, int dtype, Address x, Address y, Address codes, Address scales,
         Address workspace, Address nan) {
        cuda::quantize_blocks(queue(place), format(element), {view(scaling), format(scale), at<float>(tensor_scale)}, blocks(sizes),
                              static_cast<lowbit::Rounding>(rounding), {seed, stream, random_bits}, static_cast<lowbit::Dtype>(dtype),
                              at<void>(x), at<void>(y), at<void>(codes), at<void>(scales), at<uint32_t>(workspace), at<uint32_t>(nan));
      },
      "place"_a, "element"_a, "scaling"_a, "scale"_a, "tensor_scale"_a, "blocks"_a, "rounding"_a, "seed"_a, "stream"_a, "random_bits"_a,
      "dtype"_a, "x"_a, "y"_a, "codes"_a, "scales"_a, "workspace"_a, "nan"_a);
  module.def(
      "decode_blocks",
      [](const Place& place, const Numbers& element, nb::bytes scaling, const Numbers& scale, Address tensor_scale, const Sizes& sizes,
         Address codes, Address scales, int dtype, Address y) {
        cuda::decode_blocks(queue(place), format(element), {view(scaling), format(scale), at<float>(tensor_scale)}, blocks(sizes),
                            at<void>(codes), at<void>(scales), static_cast<lowbit::Dtype>(dtype), at<void>(y));
      },
      "place"_a, "element"_a, "scaling"_a, "scale"_a, "tensor_scale"_a, "blocks"_a, "codes"_a, "scales"_a, "dtype"_a, "y"_a);
  module.def(
      "matmul",
      [](const Place& place, const Numbers& numbers, int rounding, int64_t round_every, Address a, Address b, Address c, int64_t rows,
         int64_t inner, int64_t columns) {
        const cuda::DeviceFormat accumulator = format(numbers);  // without bytes: float32
        cuda::matmul(queue(place), accumulator.numbers.empty() ? nullptr : &accumulator, static_cast<lowbit::Rounding>(rounding),
                     round_every, at<float>(a), at<float>(b), at<float>(c), rows, inner, columns);
      },
      "place"_a, "accumulator"_a, "rounding"_a, "round_every"_a, "a"_a, "b"_a, "c"_a, "rows"_a, "inner"_a, "columns"_a);
}

}  // namespace

NB_MODULE(_cuda, module) {
  module.doc() = "The CUDA kernels of slipstick. Private: use the slipstick package.";
  nb::register_exception_translator(slipstick_bindings::translate);
  module.def("version", [] { return SLIPSTICK_VERSION; }, "Version of the package that this was built from.");
  module.def("devices", &devices, "Name and compute capability of each device; UnsupportedError with CUDA's reason where there is none.");
  nb::module_ lowbit_module = module.def_submodule("lowbit");
  bind_lowbit(lowbit_module);
  nb::module_ losses_module = module.def_submodule("losses");
  slipstick_bindings::bind_cuda_losses(losses_module);
  nb::module_ sketch_module = module.def_submodule("sketch");
  slipstick_bindings::bind_cuda_sketch(sketch_module);
}
