// Kernels of the lowbit room: each is a loop of thread_loops.h, started once. Bit-equal to the host; see element.h.
#include <algorithm>
#include <initializer_list>

#include "base/launch.cuh"
#include "lowbit/kernel_bytes.h"
#include "lowbit/thread_loops.h"
#include "slipstick/lowbit_cuda.h"

namespace slipstick::lowbit::cuda {
namespace {

using element::check_count;
using element::check_request;
using element::Elements;
using element::KernelFormat;
using element::KernelScaling;
using element::kPerVector;
using element::of_bytes;
using element::ScaledElements;
using slipstick::cuda::all_threads;
using slipstick::cuda::check;
using slipstick::cuda::grid_size;
using slipstick::cuda::kBlockThreads;
using slipstick::cuda::OnDevice;
using slipstick::cuda::this_thread;

template <Dtype dtype, Rounding mode>
__global__ void __launch_bounds__(kBlockThreads) round_kernel(KernelFormat format, const void* tables, Elements e) {
  element::round_elements<dtype, mode>(format, tables, e, this_thread(), all_threads());
}

template <Dtype dtype>
__global__ void __launch_bounds__(kBlockThreads) stochastic_kernel(KernelFormat format, const void* tables, Elements e, Random random) {
  element::round_stochastic<dtype>(format, tables, e, random, this_thread(), all_threads());
}

template <Dtype dtype>
__global__ void __launch_bounds__(kBlockThreads)
    decode_kernel(KernelFormat format, const void* tables, const void* codes, void* y, int64_t count, bool aligned) {
  element::decode_elements<dtype>(format, tables, codes, y, count, aligned, this_thread(), all_threads());
}

__global__ void __launch_bounds__(kBlockThreads) pack_kernel(const uint8_t* codes, uint8_t* packed, int64_t count, int bits, bool aligned) {
  element::pack_codes(codes, packed, count, bits, aligned, this_thread(), all_threads());
}

__global__ void __launch_bounds__(kBlockThreads)
    unpack_kernel(const uint8_t* packed, uint8_t* codes, int64_t count, int bits, bool aligned) {
  element::unpack_codes(packed, codes, count, bits, aligned, this_thread(), all_threads());
}

template <Dtype dtype>
__global__ void __launch_bounds__(kBlockThreads) greatest_kernel(const void* x, int64_t count, bool aligned, uint32_t* greatest) {
  uint32_t most = element::greatest_finite<dtype>(x, count, aligned, this_thread(), all_threads());
  for (int lane = 16; lane > 0; lane /= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, lane));
  if (threadIdx.x % 32 == 0) element::raise_to(greatest, most);
}

__global__ void tensor_scale_kernel(const uint32_t* greatest, float element_max, float scale_max, float* scale) {
  *scale = element::whole_scale(*greatest, element_max, scale_max);
}

template <Dtype dtype> __global__ void __launch_bounds__(kBlockThreads) magnitude_kernel(ScaledElements s) {
  element::find_magnitudes<dtype>(s, this_thread(), all_threads());
}

__global__ void __launch_bounds__(kBlockThreads) scale_kernel(ScaledElements s, int64_t block_count) {
  element::find_scales(s, block_count, this_thread(), all_threads());
}

template <Dtype dtype, bool nearest_even> __global__ void __launch_bounds__(kBlockThreads) scaled_kernel(ScaledElements s) {
  element::round_with_scales<dtype, nearest_even>(s, this_thread(), all_threads());
}

// lanes: threads that share a block, a power of two up to 32.
template <Dtype dtype, bool nearest_even> __global__ void __launch_bounds__(kBlockThreads) group_kernel(ScaledElements s, int lanes) {
  constexpr int n = kPerVector<dtype>;
  const int64_t vectors = s.e.count / n, lane = threadIdx.x % 32;
  // All lanes of a warp go round as long as one has work, since shuffles want them all; the count is a whole number of groups.
  for (int64_t vector = this_thread(); vector - lane < vectors; vector += all_threads()) {
    const bool works = vector < vectors;
    float v[n];
    uint32_t most = works ? element::load_in_block<dtype>(s, vector * n, v) : 0;
    for (int width = lanes / 2; width > 0; width /= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, width));
    if (works) element::finish_in_block<dtype, nearest_even>(s, vector * n, most, (lane & (lanes - 1)) == 0, v);
  }
}

template <Dtype dtype> __global__ void __launch_bounds__(kBlockThreads) decode_scaled_kernel(ScaledElements s) {
  element::decode_scaled<dtype>(s, this_thread(), all_threads());
}

// ---- from arguments to launches ---------------------------------------------------------------------------------------------------------------

bool aligned(std::initializer_list<const void*> addresses) {
  uintptr_t all = 0;
  for (const void* address : addresses) all |= reinterpret_cast<uintptr_t>(address);
  return all % 16 == 0;
}

template <Dtype v> struct OfDtype {
  static constexpr Dtype value = v;
};
template <typename Body> void with_dtype(Dtype dtype, Body body) {
  switch (dtype) {
    case Dtype::float32: return body(OfDtype<Dtype::float32>());
    case Dtype::float64: return body(OfDtype<Dtype::float64>());
    case Dtype::bfloat16: return body(OfDtype<Dtype::bfloat16>());
    case Dtype::float16: return body(OfDtype<Dtype::float16>());
  }
}

// A launch of one thread for each piece of work, or of fewer that do several.
struct Launcher {
  const char* where;
  const Queue& queue;

  template <typename... Parameters, typename... Arguments>
  void operator()(int64_t work, void (*kernel)(Parameters...), const Arguments&... arguments) const {
    if (work == 0) return;
    kernel<<<grid_size(where, queue.device, work), kBlockThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(arguments...);
    check(where, cudaGetLastError());
  }
};

int64_t pieces(int64_t count, int64_t of) { return count / of + (count % of != 0); }

template <Dtype dtype>
void launch_round(const Launcher& launch, Rounding mode, const KernelFormat& format, const void* tables, const Elements& e,
                  const Random& random) {
  const int64_t work = pieces(e.count, kPerVector<dtype>);
  switch (mode) {
    case Rounding::nearest_even: return launch(work, round_kernel<dtype, Rounding::nearest_even>, format, tables, e);
    case Rounding::nearest_away: return launch(work, round_kernel<dtype, Rounding::nearest_away>, format, tables, e);
    case Rounding::toward_zero: return launch(work, round_kernel<dtype, Rounding::toward_zero>, format, tables, e);
    case Rounding::up: return launch(work, round_kernel<dtype, Rounding::up>, format, tables, e);
    case Rounding::down: return launch(work, round_kernel<dtype, Rounding::down>, format, tables, e);
    case Rounding::to_odd: return launch(work, round_kernel<dtype, Rounding::to_odd>, format, tables, e);
    case Rounding::stochastic:
      return launch(4 * pieces(e.count, 64 * 32 / random.bits), stochastic_kernel<dtype>, format, tables, e, random);
  }
}

ScaledElements scaled_elements(const char* where, const DeviceFormat& element, const DeviceScaling& scaling, const Blocks& given) {
  if (given.outer < 0 || given.rows < 0 || given.columns < 0)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": a size is negative; expected 0 or more");
  if (given.block_rows < 1 || given.block_columns < 1)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": block is " +
                                                 std::to_string(std::min(given.block_rows, given.block_columns)) + "; expected at least 1");
  ScaledElements s{};
  s.element = of_bytes<KernelFormat>(where, element.numbers);
  s.scaling = of_bytes<KernelScaling>(where, scaling.numbers);
  if (!s.scaling.power_of_two) s.scale = of_bytes<KernelFormat>(where, scaling.scale.numbers);
  s.element_tables = element.tables;
  s.scale_tables = scaling.scale.tables;
  s.tensor_scale = scaling.tensor_scale;
  s.blocks = given;
  s.blocks.block_rows = std::min(given.block_rows, std::max<int64_t>(1, given.rows));  // their product must fit
  s.blocks.block_columns = std::min(given.block_columns, std::max<int64_t>(1, given.columns));
  s.strips = pieces(s.blocks.rows, s.blocks.block_rows);
  s.across = pieces(s.blocks.columns, s.blocks.block_columns);
  s.e.count = given.outer * given.rows * given.columns;
  return s;
}

template <Dtype dtype, bool nearest_even> void launch_blocks(const Launcher& launch, const ScaledElements& s) {
  const int64_t work = pieces(s.e.count, kPerVector<dtype>);
  if (element::fits_groups<dtype>(s)) {
    const int lanes = static_cast<int>(s.blocks.block_columns / kPerVector<dtype>);
    return launch(work, group_kernel<dtype, nearest_even>, s, lanes);
  }
  const int64_t block_count = (s.blocks.shared ? 1 : s.blocks.outer) * s.strips * s.across;
  check(launch.where,
        cudaMemsetAsync(s.workspace, 0, static_cast<size_t>(block_count) * 4, static_cast<cudaStream_t>(launch.queue.stream)));
  launch(work, magnitude_kernel<dtype>, s);
  launch(block_count, scale_kernel, s, block_count);
  launch(work, scaled_kernel<dtype, nearest_even>, s);
}

}  // namespace

void quantize(const Queue& queue, const DeviceFormat& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* y,
              void* codes, int64_t count, uint32_t* nan) {
  const char* where = y ? "quantize" : "encode";
  const auto numbers = of_bytes<KernelFormat>(where, format.numbers);
  check_request(where, numbers, random, dtype, count);
  const OnDevice on(where, queue.device);
  const Elements e{x, y, codes, count, aligned({x, y, codes}), nan};
  with_dtype(dtype,
             [&](auto type) { launch_round<decltype(type)::value>(Launcher{where, queue}, rounding, numbers, format.tables, e, random); });
}

void decode(const Queue& queue, const DeviceFormat& format, const void* codes, Dtype dtype, void* y, int64_t count) {
  const auto numbers = of_bytes<KernelFormat>("decode", format.numbers);
  check_count("decode", count);
  const OnDevice on("decode", queue.device);
  with_dtype(dtype, [&](auto type) {
    constexpr Dtype of = decltype(type)::value;
    Launcher{"decode", queue}(pieces(count, kPerVector<of>), decode_kernel<of>, numbers, format.tables, codes, y, count,
                              aligned({codes, y}));
  });
}

namespace {

void check_packed(const char* where, int64_t count, int bits) {
  check_count(where, count);
  if (bits < 1 || bits > 8)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": bits is " + std::to_string(bits) + "; expected 1 to 8");
}

}  // namespace

void pack(const Queue& queue, const uint8_t* codes, uint8_t* packed, int64_t count, int bits) {
  check_packed("pack", count, bits);
  const OnDevice on("pack", queue.device);
  Launcher{"pack", queue}(pieces(count, 8), pack_kernel, codes, packed, count, bits, aligned({codes, packed}));
}

void unpack(const Queue& queue, const uint8_t* packed, uint8_t* codes, int64_t count, int bits) {
  check_packed("unpack", count, bits);
  const OnDevice on("unpack", queue.device);
  Launcher{"unpack", queue}(pieces(count, 8), unpack_kernel, packed, codes, count, bits, aligned({codes, packed}));
}

void tensor_scale(const Queue& queue, Dtype dtype, const void* x, int64_t count, float element_max, float scale_max, uint32_t* greatest,
                  float* scale) {
  check_count("quantize", count);
  const OnDevice on("quantize", queue.device);
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  check("quantize", cudaMemsetAsync(greatest, 0, 4, stream));
  with_dtype(dtype, [&](auto type) {
    constexpr Dtype of = decltype(type)::value;
    Launcher{"quantize", queue}(pieces(count, kPerVector<of>), greatest_kernel<of>, x, count, aligned({x}), greatest);
  });
  tensor_scale_kernel<<<1, 1, 0, stream>>>(greatest, element_max, scale_max, scale);
  check("quantize", cudaGetLastError());
}

void quantize_blocks(const Queue& queue, const DeviceFormat& element, const DeviceScaling& scaling, const Blocks& blocks, Rounding rounding,
                     const Random& random, Dtype dtype, const void* x, void* y, void* codes, void* scales, uint32_t* workspace,
                     uint32_t* nan) {
  const char* where = codes ? "encode" : "quantize";
  ScaledElements s = scaled_elements(where, element, scaling, blocks);
  check_request(where, s.element, random, dtype, s.e.count);
  if (s.e.count == 0) return;
  s.e = Elements{x, y, codes, s.e.count, aligned({x, y, codes}), nan};
  s.scales = scales;
  s.workspace = workspace;
  s.rounding = rounding;
  s.random = random;
  const OnDevice on(where, queue.device);
  const Launcher launch{where, queue};
  with_dtype(dtype, [&](auto type) {
    constexpr Dtype of = decltype(type)::value;
    if (rounding == Rounding::nearest_even) return launch_blocks<of, true>(launch, s);
    launch_blocks<of, false>(launch, s);
  });
}

void decode_blocks(const Queue& queue, const DeviceFormat& element, const DeviceScaling& scaling, const Blocks& blocks, const void* codes,
                   const void* scales, Dtype dtype, void* y) {
  ScaledElements s = scaled_elements("decode", element, scaling, blocks);
  s.e.x = codes;
  s.e.y = y;
  s.e.aligned = aligned({codes, y});
  s.scales = const_cast<void*>(scales);
  const OnDevice on("decode", queue.device);
  with_dtype(dtype, [&](auto type) {
    constexpr Dtype of = decltype(type)::value;
    Launcher{"decode", queue}(pieces(s.e.count, kPerVector<of>), decode_scaled_kernel<of>, s);
  });
}

}  // namespace slipstick::lowbit::cuda
