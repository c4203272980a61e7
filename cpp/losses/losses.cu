// Kernels of the losses room: warps and threads of tile_rows.h. Errors against the host's: those of expf, tanhf and log1pf, a few units of float.
#include <string>

#include "losses/tile_rows.h"
#include "losses/warps.cuh"
#include "slipstick/losses_cuda.h"

namespace slipstick::losses::cuda {
namespace {

using slipstick::cuda::check;
using slipstick::cuda::grid_size;
using slipstick::cuda::OnDevice;
using tile::kPerLane;
using tile::kSegment;

template <class Real, bool all>
__global__ void __launch_bounds__(kBlockThreads) segment_kernel(tile::Tile<Real> t, tile::Partial<Real>* partials) {
  const int lane = this_lane();
  const int64_t segments = (t.columns + kSegment - 1) / kSegment;
  for (int64_t at = this_warp(); at < t.rows * segments; at += all_warps()) {  // the same for all lanes, as shuffles want it
    const int64_t row = at / segments, segment = at % segments, begin = segment * kSegment;
    Real z[kPerLane];
    tile::load_lane(t, row, begin, lane, z);
    const tile::Maximum<Real> maximum = of_warp(tile::lane_maximum(z, lane));
    const tile::Sums<Real> sums = of_warp(tile::lane_sums<Real, all>(z, lane, t.columns - begin, maximum.value));
    if (lane == 0) partials[segment * t.rows + row] = {maximum, sums};
  }
}

template <class Real>
__global__ void __launch_bounds__(kBlockThreads)
    row_kernel(tile::Tile<Real> t, const tile::Partial<Real>* partials, bool first, RowSums sums) {
  const int64_t threads = int64_t{gridDim.x} * kBlockThreads;
  for (int64_t row = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; row < t.rows; row += threads)
    tile::add_row(t, partials, row, first, sums);
}

template <class Real, class Out, bool filtered>
__global__ void __launch_bounds__(kBlockThreads) gradient_kernel(tile::Tile<Real> t, Coefficients coefficients, double eps,
                                                                 tile::Dropped<Real>* partials, Out* out, int64_t stride, bool aligned) {
  const int lane = this_lane();
  const int64_t segments = (t.columns + kSegment - 1) / kSegment;
  for (int64_t at = this_warp(); at < t.rows * segments; at += all_warps()) {
    const int64_t row = at / segments, segment = at % segments;
    tile::Dropped<Real> dropped = tile::lane_gradient<filtered>(t, coefficients, eps, row, segment * kSegment, lane, out, stride, aligned);
    if (!filtered) continue;
    dropped = of_warp(dropped);
    if (lane == 0) partials[segment * t.rows + row] = dropped;
  }
}

template <class Real>
__global__ void __launch_bounds__(kBlockThreads) dropped_kernel(tile::Tile<Real> t, const tile::Dropped<Real>* partials, double* dropped) {
  const int64_t threads = int64_t{gridDim.x} * kBlockThreads;
  for (int64_t row = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; row < t.rows; row += threads)
    tile::add_dropped(t, partials, row, dropped);
}

template <class Real> void launch_statistics(const Queue& queue, const Tile& tile, bool first, bool all, void* workspace,
                                             const RowSums& sums) {
  constexpr const char* where = "row_statistics";
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  const auto t = tile::typed<Real>(tile);
  auto* partials = static_cast<tile::Partial<Real>*>(workspace);
  const int64_t segments = (t.columns + kSegment - 1) / kSegment;
  const unsigned blocks = grid_size(where, queue.device, t.rows * segments * kLanes);
  if (segments > 0) {
    if (all) {
      segment_kernel<Real, true><<<blocks, kBlockThreads, 0, stream>>>(t, partials);
    } else {
      segment_kernel<Real, false><<<blocks, kBlockThreads, 0, stream>>>(t, partials);
    }
    check(where, cudaGetLastError());
  }
  row_kernel<Real><<<grid_size(where, queue.device, t.rows), kBlockThreads, 0, stream>>>(t, partials, first, sums);
  check(where, cudaGetLastError());
}

template <class Real, class Out> void launch_gradient(const Queue& queue, const Tile& tile, const Coefficients& coefficients,
                                                      const Filter& filter, void* out, int64_t out_stride) {
  constexpr const char* where = "row_statistics_backward";
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  const auto t = tile::typed<Real>(tile);
  const int64_t segments = (t.columns + kSegment - 1) / kSegment;
  const bool aligned = tile::lies_at_packs(out, out_stride, sizeof(Out), tile::kPack<Real> * sizeof(Out));
  const unsigned blocks = grid_size(where, queue.device, t.rows * segments * kLanes);
  auto* const to = static_cast<Out*>(out);
  if (filter.eps == 0) {
    gradient_kernel<Real, Out, false><<<blocks, kBlockThreads, 0, stream>>>(t, coefficients, 0, nullptr, to, out_stride, aligned);
    return check(where, cudaGetLastError());
  }
  auto* const partials = static_cast<tile::Dropped<Real>*>(filter.workspace);
  gradient_kernel<Real, Out, true><<<blocks, kBlockThreads, 0, stream>>>(t, coefficients, filter.eps, partials, to, out_stride, aligned);
  check(where, cudaGetLastError());
  dropped_kernel<Real><<<grid_size(where, queue.device, t.rows), kBlockThreads, 0, stream>>>(t, partials, filter.dropped);
  check(where, cudaGetLastError());
}

}  // namespace

int64_t statistics_bytes(Format format, int64_t rows, int64_t columns) {
  const auto bytes = static_cast<int64_t>(format == Format::f64 ? sizeof(tile::Partial<double>) : sizeof(tile::Partial<float>));
  return rows * ((columns + kSegment - 1) / kSegment) * bytes;
}

void add_statistics(const Queue& queue, const Tile& tile, bool first, bool all, void* workspace, const RowSums& sums) {
  tile::check_tile("row_statistics", tile);
  if (tile.rows == 0) return;
  const OnDevice on("row_statistics", queue.device);
  if (tile.format == Format::f64) return launch_statistics<double>(queue, tile, first, all, workspace, sums);
  launch_statistics<float>(queue, tile, first, all, workspace, sums);
}

int64_t filter_bytes(Format format, int64_t rows, int64_t columns) {
  return rows * ((columns + kSegment - 1) / kSegment) * (format == Format::f64 ? 8 : 4);
}

void form_gradient(const Queue& queue, const Tile& tile, const Coefficients& coefficients, const Filter& filter, Format out_format,
                   void* out, int64_t out_stride) {
  constexpr const char* where = "row_statistics_backward";
  tile::check_tile(where, tile);
  if (out_format != tile.format && !(tile.format == Format::f32 && out_format == Format::bf16))
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": a gradient is asked for in another format than that of the tile");
  if (tile.rows == 0 || tile.columns == 0) return;
  const OnDevice on(where, queue.device);
  if (tile.format == Format::f64) return launch_gradient<double, double>(queue, tile, coefficients, filter, out, out_stride);
  if (out_format == Format::bf16) return launch_gradient<float, uint16_t>(queue, tile, coefficients, filter, out, out_stride);
  launch_gradient<float, float>(queue, tile, coefficients, filter, out, out_stride);
}

}  // namespace slipstick::losses::cuda
