// The kernels of losses.cu and tops.cu without a device: warps and threads one after the other, the lanes of a warp joined in the kernels' own order. A shared
// library, which tests/python/test_losses_tiles_torch.py compiles and hands to the driver in place of slipstick._cuda.
#include <memory>
#include <vector>

#include "losses/tile_rows.h"
#include "losses/tile_tops.h"

namespace {

using namespace slipstick::losses;

template <class T> T of_warp(std::vector<T> lanes) {
  for (int lane = tile::kLanes / 2; lane > 0; lane /= 2) {
    std::vector<T> joined(lanes.size());
    for (int i = 0; i < tile::kLanes; ++i)
      joined[static_cast<size_t>(i)] = join(lanes[static_cast<size_t>(i)], lanes[static_cast<size_t>(i ^ lane)]);
    lanes = joined;
  }
  return lanes[0];
}

template <class Real, bool all> void add_statistics(const cuda::Tile& given, bool first, const cuda::RowSums& sums) {
  const auto t = tile::typed<Real>(given);
  const int64_t segments = (t.columns + tile::kSegment - 1) / tile::kSegment;
  std::vector<tile::Partial<Real>> partials(static_cast<size_t>(t.rows * segments));
  for (int64_t row = 0; row < t.rows; ++row) {
    for (int64_t segment = 0; segment < segments; ++segment) {
      const int64_t begin = segment * tile::kSegment;
      std::vector<tile::Maximum<Real>> maxima;
      std::vector<tile::Sums<Real>> lanes;
      Real z[tile::kLanes][tile::kPerLane];
      for (int lane = 0; lane < tile::kLanes; ++lane) {
        tile::load_lane(t, row, begin, lane, z[lane]);
        maxima.push_back(tile::lane_maximum(z[lane], lane));
      }
      const tile::Maximum<Real> maximum = of_warp(maxima);
      for (int lane = 0; lane < tile::kLanes; ++lane)
        lanes.push_back(tile::lane_sums<Real, all>(z[lane], lane, t.columns - begin, maximum.value));
      partials[static_cast<size_t>(segment * t.rows + row)] = {maximum, of_warp(lanes)};
    }
  }
  for (int64_t row = 0; row < t.rows; ++row) tile::add_row(t, partials.data(), row, first, sums);
}

template <class Real> int merge(tile::Tops<Real>& tops, int count, int listed, int gathered) {
  std::vector<tile::Ranked<Real>> ranked(tile::kLanes);
  for (int lane = 0; lane < tile::kLanes; ++lane) tile::rank(tops, listed, gathered, lane, ranked[static_cast<size_t>(lane)]);
  for (const tile::Ranked<Real>& of_lane : ranked) tile::place(tops, count, of_lane);
  return listed + gathered < count ? listed + gathered : count;
}

// A warp of top_kernel takes a row.
template <class Real> void add_tops(const cuda::Tile& given, bool first, const cuda::RowTops& out) {
  constexpr int n = tile::kLogitsAtOnce<Real>;
  const auto t = tile::typed<Real>(given);
  const int count = static_cast<int>(out.count);
  for (int64_t row = 0; row < t.rows; ++row) {
    auto tops = std::make_unique<tile::Tops<Real>>();
    int listed = 0, gathered = 0;
    for (int lane = 0; lane < tile::kLanes; ++lane) listed += tile::load_tops(out, row, first, lane, *tops);
    for (int64_t begin = 0; begin < t.columns; begin += n * tile::kLanes) {
      Real z[tile::kLanes][n];
      for (int lane = 0; lane < tile::kLanes; ++lane) tile::load_some(t, row, begin, lane, z[lane]);
      tile::Top<Real> last = tile::top_at(*tops, count - 1);
      for (int i = 0; i < n; ++i) {
        for (int lane = 0; lane < tile::kLanes; ++lane) {
          const tile::Top<Real> top{z[lane][i], t.first_column + begin + tile::column_of<Real>(lane, i)};
          if (tile::may_stay(top, listed == count, last)) tile::gather(*tops, gathered++, top);
        }
        if (gathered + tile::kLanes <= tile::kGathered) continue;
        listed = merge(*tops, count, listed, gathered);
        gathered = 0;
        last = tile::top_at(*tops, count - 1);
      }
    }
    listed = merge(*tops, count, listed, gathered);
    for (int lane = 0; lane < tile::kLanes; ++lane) tile::store_tops(*tops, listed, row, lane, out);
  }
}

template <class Real, class Out>
void form_gradient(const cuda::Tile& given, const Coefficients& of, Out* out, int64_t stride) {
  const auto t = tile::typed<Real>(given);
  const bool aligned = tile::lies_at_packs(out, stride, sizeof(Out), tile::kPack<Real> * sizeof(Out));
  for (int64_t row = 0; row < t.rows; ++row) {
    for (int64_t begin = 0; begin < t.columns; begin += tile::kSegment) {
      for (int lane = 0; lane < tile::kLanes; ++lane) tile::lane_gradient(t, of, row, begin, lane, out, stride, aligned);
    }
  }
}

}  // namespace

// Structs come by address, laid out as the caller's ctypes are.
extern "C" {

int64_t slipstick_test_sizes(int which) {
  return static_cast<int64_t>(which == 0 ? sizeof(cuda::Tile) : which == 1 ? sizeof(cuda::RowSums) : sizeof(Coefficients));
}

void slipstick_test_add_statistics(const cuda::Tile* t, int first, int all, const cuda::RowSums* sums) {
  if (t->format == Format::f64) {
    (all ? add_statistics<double, true> : add_statistics<double, false>)(*t, first != 0, *sums);
  } else {
    (all ? add_statistics<float, true> : add_statistics<float, false>)(*t, first != 0, *sums);
  }
}

void slipstick_test_add_tops(const cuda::Tile* t, int first, int64_t count, double* values, int64_t* indices) {
  const cuda::RowTops tops{count, values, indices};
  t->format == Format::f64 ? add_tops<double>(*t, first != 0, tops) : add_tops<float>(*t, first != 0, tops);
}

void slipstick_test_form_gradient(const cuda::Tile* t, const Coefficients* of, int out_format, void* out, int64_t stride) {
  if (t->format == Format::f64) return form_gradient<double>(*t, *of, static_cast<double*>(out), stride);
  if (static_cast<Format>(out_format) == Format::bf16) return form_gradient<float>(*t, *of, static_cast<uint16_t*>(out), stride);
  form_gradient<float>(*t, *of, static_cast<float*>(out), stride);
}
}
