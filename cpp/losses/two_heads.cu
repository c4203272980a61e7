// Kernels of two heads' tiles: warps and threads of tile_two_heads.h.
#include <string>

#include "losses/tile_two_heads.h"
#include "losses/warps.cuh"
#include "slipstick/losses_cuda.h"

namespace slipstick::losses::cuda {
namespace {

using slipstick::cuda::check;
using slipstick::cuda::grid_size;
using slipstick::cuda::OnDevice;
using tile::kPerLane;
using tile::kSegment;

int64_t segments_of(int64_t columns) { return (columns + kSegment - 1) / kSegment; }

// f(row, segment) for all segments of all rows, a warp each.
template <class Function> __device__ void for_each_segment(int64_t rows, int64_t columns, const Function& function) {
  const int64_t segments = (columns + kSegment - 1) / kSegment;
  for (int64_t at = this_warp(); at < rows * segments; at += all_warps()) function(at / segments, at % segments);
}
template <class Function> __device__ void for_each_row(int64_t rows, const Function& function) {
  const int64_t threads = int64_t{gridDim.x} * kBlockThreads;
  for (int64_t row = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; row < rows; row += threads) function(row);
}

template <class Real> __global__ void __launch_bounds__(kBlockThreads) kl_kernel(tile::TwoTiles<Real> t, tile::KlPartial<Real>* partials) {
  const int lane = this_lane();
  for_each_segment(t.first.rows, t.first.columns, [&](int64_t row, int64_t segment) {
    Real z[kPerLane], w[kPerLane];
    tile::load_lane(t.first, row, segment * kSegment, lane, z);
    tile::load_lane(t.second, row, segment * kSegment, lane, w);
    const Real first = of_warp(tile::lane_maximum(z, lane)).value, second = of_warp(tile::lane_maximum(w, lane)).value;
    const tile::KlSums<Real> sums = of_warp(tile::lane_kl(z, w, first, second));
    if (lane == 0) partials[segment * t.first.rows + row] = {first, second, sums};
  });
}

template <class Real, DivergenceKind kind>
__global__ void __launch_bounds__(kBlockThreads) element_kernel(tile::TwoTiles<Real> t, const double* first_lse, const double* second_lse,
                                                                Real mixture, tile::ElementSums<Real>* partials) {
  const int lane = this_lane();
  for_each_segment(t.first.rows, t.first.columns, [&](int64_t row, int64_t segment) {
    const auto softmaxes = tile::softmaxes_of<Real>(first_lse, second_lse, row);
    const tile::ElementSums<Real> sums = of_warp(tile::lane_elements<kind>(t, softmaxes, mixture, row, segment * kSegment, lane));
    if (lane == 0) partials[segment * t.first.rows + row] = sums;
  });
}

template <class Real> __global__ void __launch_bounds__(kBlockThreads)
    kl_row_kernel(tile::TwoTiles<Real> t, const tile::KlPartial<Real>* partials, bool first, double* sums, int64_t stride) {
  for_each_row(t.first.rows, [&](int64_t row) { tile::add_kl_row(t, partials, row, first, sums, stride); });
}
template <class Real> __global__ void __launch_bounds__(kBlockThreads)
    element_row_kernel(tile::TwoTiles<Real> t, const tile::ElementSums<Real>* partials, bool first, double* sums, int64_t stride) {
  for_each_row(t.first.rows, [&](int64_t row) { tile::add_element_row(t, partials, row, first, sums, stride); });
}

template <class Real, DivergenceKind kind>
__global__ void __launch_bounds__(kBlockThreads)
    divergence_gradient_kernel(tile::TwoTiles<Real> t, DivergenceCoefficients of, Real mixture, Real* first, Real* second) {
  for_each_segment(t.first.rows, t.first.columns, [&](int64_t row, int64_t segment) {
    tile::lane_divergence_gradient<kind>(t, of, mixture, row, segment * kSegment, this_lane(), first, second);
  });
}

template <class Real> __global__ void __launch_bounds__(kBlockThreads)
    combination_kernel(tile::TwoTiles<Real> t, double coefficient, const double* least, Real* out) {
  for_each_segment(t.first.rows, t.first.columns, [&](int64_t row, int64_t segment) {
    tile::lane_combination(t, coefficient, least, row, segment * kSegment, this_lane(), out);
  });
}

template <class Real> __global__ void __launch_bounds__(kBlockThreads)
    combined_gradient_kernel(tile::TwoTiles<Real> t, CombinedCoefficients of, Real* first, Real* second) {
  for_each_segment(t.first.rows, t.first.columns, [&](int64_t row, int64_t segment) {
    tile::lane_combined_gradient(t, of, row, segment * kSegment, this_lane(), first, second);
  });
}

// Where and how widely the kernels of a call are launched.
struct Launch {
  const char* where;
  const Queue& queue;
  int64_t rows, columns;

  cudaStream_t stream() const { return static_cast<cudaStream_t>(queue.stream); }
  unsigned of_segments() const { return grid_size(where, queue.device, rows * segments_of(columns) * kLanes); }
  unsigned of_rows() const { return grid_size(where, queue.device, rows); }
  void done() const { check(where, cudaGetLastError()); }
};

void check_tiles(const char* where, const TwoTiles& tiles) {
  tile::check_tile(where, tiles.first);
  if (!tiles.second.products) return;
  tile::check_tile(where, tiles.second);
  if (tiles.first.format != tiles.second.format || tiles.first.rows != tiles.second.rows || tiles.first.columns != tiles.second.columns)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": two tiles differ in format or size; expected the same");
}

template <class Real> tile::TwoTiles<Real> typed(const TwoTiles& tiles) {
  return {tile::typed<Real>(tiles.first), tile::typed<Real>(tiles.second)};
}

template <class Function> void in_real(Format format, const Function& function) {
  if (format == Format::f64) return function(double{});
  function(float{});
}

}  // namespace

int64_t divergence_bytes(Format format, int64_t rows, int64_t columns) {
  const auto bytes = static_cast<int64_t>(format == Format::f64 ? sizeof(tile::KlPartial<double>) : sizeof(tile::KlPartial<float>));
  return rows * segments_of(columns) * bytes;
}

void add_divergence(const Queue& queue, const TwoTiles& tiles, const Divergence& divergence, const double* first_lse,
                    const double* second_lse, bool first, void* workspace, double* sums, int64_t stride) {
  const Launch launch{"two_head_divergence", queue, tiles.first.rows, tiles.first.columns};
  check_tiles(launch.where, tiles);
  if (launch.rows == 0 || launch.columns == 0) return;
  const OnDevice on(launch.where, queue.device);
  in_real(tiles.first.format, [&](auto real) {
    using Real = decltype(real);
    const auto t = typed<Real>(tiles);
    with_kind(divergence.kind, [&](auto kind) {
      if constexpr (kind() == DivergenceKind::kl) {
        auto* const partials = static_cast<tile::KlPartial<Real>*>(workspace);
        kl_kernel<Real><<<launch.of_segments(), kBlockThreads, 0, launch.stream()>>>(t, partials);
        launch.done();
        kl_row_kernel<Real><<<launch.of_rows(), kBlockThreads, 0, launch.stream()>>>(t, partials, first, sums, stride);
      } else {
        auto* const partials = static_cast<tile::ElementSums<Real>*>(workspace);
        element_kernel<Real, kind()><<<launch.of_segments(), kBlockThreads, 0, launch.stream()>>>(
            t, first_lse, second_lse, static_cast<Real>(divergence.mixture), partials);
        launch.done();
        element_row_kernel<Real><<<launch.of_rows(), kBlockThreads, 0, launch.stream()>>>(t, partials, first, sums, stride);
      }
      launch.done();
    });
  });
}

void form_divergence_gradient(const Queue& queue, const TwoTiles& tiles, const Divergence& divergence, const DivergenceCoefficients& of,
                              void* first, void* second) {
  const Launch launch{"two_head_divergence_backward", queue, tiles.first.rows, tiles.first.columns};
  check_tiles(launch.where, tiles);
  if (launch.rows == 0 || launch.columns == 0) return;
  const OnDevice on(launch.where, queue.device);
  in_real(tiles.first.format, [&](auto real) {
    using Real = decltype(real);
    with_kind(divergence.kind, [&](auto kind) {
      divergence_gradient_kernel<Real, kind()><<<launch.of_segments(), kBlockThreads, 0, launch.stream()>>>(
          typed<Real>(tiles), of, static_cast<Real>(divergence.mixture), static_cast<Real*>(first), static_cast<Real*>(second));
      launch.done();
    });
  });
}

void combine(const Queue& queue, const TwoTiles& tiles, double coefficient, const double* least, void* out) {
  const Launch launch{"combined_statistics", queue, tiles.first.rows, tiles.first.columns};
  check_tiles(launch.where, tiles);
  if (launch.rows == 0 || launch.columns == 0) return;
  const OnDevice on(launch.where, queue.device);
  in_real(tiles.first.format, [&](auto real) {
    using Real = decltype(real);
    combination_kernel<Real>
        <<<launch.of_segments(), kBlockThreads, 0, launch.stream()>>>(typed<Real>(tiles), coefficient, least, static_cast<Real*>(out));
    launch.done();
  });
}

void form_combined_gradient(const Queue& queue, const TwoTiles& tiles, const CombinedCoefficients& of, void* first, void* second) {
  const Launch launch{"combined_statistics_backward", queue, tiles.first.rows, tiles.first.columns};
  check_tiles(launch.where, tiles);
  if (launch.rows == 0 || launch.columns == 0) return;
  const OnDevice on(launch.where, queue.device);
  in_real(tiles.first.format, [&](auto real) {
    using Real = decltype(real);
    combined_gradient_kernel<Real><<<launch.of_segments(), kBlockThreads, 0, launch.stream()>>>(
        typed<Real>(tiles), of, static_cast<Real*>(first), static_cast<Real*>(second));
    launch.done();
  });
}

}  // namespace slipstick::losses::cuda
