// The largest logits of rows: a warp of a launch is one of tile_tops.h. Exact, hence those of the host for the same logits.
#include <string>

#include "base/launch.cuh"
#include "losses/tile_tops.h"
#include "slipstick/losses_cuda.h"

namespace slipstick::losses::cuda {
namespace {

using slipstick::cuda::check;
using slipstick::cuda::grid_size;
using slipstick::cuda::kBlockThreads;
using slipstick::cuda::OnDevice;
using tile::kLanes;
using tile::Top;
using tile::Tops;

constexpr const char* kWhere = "row_statistics";
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarps = kBlockThreads / kLanes;

// Returns how many the list has then. Its own function, as it is called in an unrolled loop.
template <class Real> __device__ __noinline__ int merge(Tops<Real>& tops, int count, int listed, int gathered, int lane) {
  __syncwarp();  // all that was gathered is there
  tile::Ranked<Real> ranked;
  tile::rank(tops, listed, gathered, lane, ranked);
  __syncwarp();  // all have read
  tile::place(tops, count, ranked);
  __syncwarp();  // the list is whole
  return listed + gathered < count ? listed + gathered : count;
}

template <class Real> __global__ void __launch_bounds__(kBlockThreads) top_kernel(tile::Tile<Real> t, bool first, RowTops out) {
  constexpr int n = tile::kLogitsAtOnce<Real>;
  __shared__ Tops<Real> of_warps[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kLanes, count = static_cast<int>(out.count);
  Tops<Real>& tops = of_warps[threadIdx.x / kLanes];
  for (int64_t row = (int64_t{blockIdx.x} * kBlockThreads + threadIdx.x) / kLanes; row < t.rows; row += int64_t{gridDim.x} * kWarps) {
    int listed = tile::load_tops(out, row, first, lane, tops), gathered = 0;
    for (int other = kLanes / 2; other > 0; other /= 2) listed += __shfl_xor_sync(kAllLanes, listed, other);
    __syncwarp();  // the list is whole
    for (int64_t begin = 0; begin < t.columns; begin += n * kLanes) {
      Real z[n];
      tile::load_some(t, row, begin, lane, z);
      Top<Real> last = tile::top_at(tops, count - 1);
      bool some = false;
      SLIPSTICK_UNROLL
      for (int i = 0; i < n; ++i)
        some |= tile::may_stay(Top<Real>{z[i], t.first_column + begin + tile::column_of<Real>(lane, i)}, listed == count, last);
      if (!__any_sync(kAllLanes, some)) continue;
      SLIPSTICK_UNROLL
      for (int i = 0; i < n; ++i) {
        const Top<Real> top{z[i], t.first_column + begin + tile::column_of<Real>(lane, i)};
        const bool stays = tile::may_stay(top, listed == count, last);
        const unsigned who = __ballot_sync(kAllLanes, stays);
        if (stays) tile::gather(tops, gathered + __popc(who & ((1u << lane) - 1)), top);
        gathered += __popc(who);
        if (gathered + kLanes <= tile::kGathered) continue;
        listed = merge(tops, count, listed, gathered, lane);
        gathered = 0;
        last = tile::top_at(tops, count - 1);
      }
    }
    listed = merge(tops, count, listed, gathered, lane);
    tile::store_tops(tops, listed, row, lane, out);
    __syncwarp();  // all have read: the list of the next row may come
  }
}

template <class Real> void launch(const Queue& queue, const Tile& given, bool first, const RowTops& tops) {
  top_kernel<Real><<<grid_size(kWhere, queue.device, given.rows * kLanes), kBlockThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(
      tile::typed<Real>(given), first, tops);
  check(kWhere, cudaGetLastError());
}

}  // namespace

void add_tops(const Queue& queue, const Tile& given, bool first, const RowTops& tops) {
  tile::check_tile(kWhere, given);
  if (tops.count < 1 || tops.count > kMaxTopk)
    throw Error(ErrorKind::invalid_argument,
                std::string(kWhere) + ": topk is " + std::to_string(tops.count) + "; expected 1 to " + std::to_string(kMaxTopk));
  if (given.rows == 0) return;
  const OnDevice on(kWhere, queue.device);
  if (given.format == Format::f64) return launch<double>(queue, given, first, tops);
  launch<float>(queue, given, first, tops);
}

}  // namespace slipstick::losses::cuda
