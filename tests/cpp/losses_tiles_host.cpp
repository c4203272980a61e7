// The kernels of losses.cu, tops.cu and two_heads.cu without a device: warps and threads one after the other, the lanes of a warp joined in the kernels' own order. A shared
// library, which tests/python/test_losses_tiles_torch.py compiles and hands to the driver in place of slipstick._cuda.
#include <memory>
#include <vector>

#include "losses/tile_rows.h"
#include "losses/tile_tops.h"
#include "losses/tile_two_heads.h"

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

template <bool filtered, class Real, class Out>
void form_gradient(const cuda::Tile& given, const Coefficients& of, const cuda::Filter& filter, Out* out, int64_t stride) {
  const auto t = tile::typed<Real>(given);
  const bool aligned = tile::lies_at_packs(out, stride, sizeof(Out), tile::kPack<Real> * sizeof(Out));
  const int64_t segments = (t.columns + tile::kSegment - 1) / tile::kSegment;
  std::vector<tile::Dropped<Real>> partials(static_cast<size_t>(t.rows * segments));
  for (int64_t row = 0; row < t.rows; ++row) {
    for (int64_t segment = 0; segment < segments; ++segment) {
      std::vector<tile::Dropped<Real>> lanes;
      for (int lane = 0; lane < tile::kLanes; ++lane)
        lanes.push_back(tile::lane_gradient<filtered>(t, of, filter.eps, row, segment * tile::kSegment, lane, out, stride, aligned));
      partials[static_cast<size_t>(segment * t.rows + row)] = of_warp(lanes);
    }
    if (filtered) tile::add_dropped(t, partials.data(), row, filter.dropped);
  }
}
template <class Real, class Out>
void form_gradient(const cuda::Tile& given, const Coefficients& of, const cuda::Filter& filter, void* out, int64_t stride) {
  auto* const to = static_cast<Out*>(out);
  filter.eps > 0 ? form_gradient<true, Real>(given, of, filter, to, stride) : form_gradient<false, Real>(given, of, filter, to, stride);
}

// ---- two heads ------------------------------------------------------------------------------------------------------------------------------

int64_t segments_of(const cuda::TwoTiles& given) { return (given.first.columns + tile::kSegment - 1) / tile::kSegment; }
template <class Real> tile::TwoTiles<Real> typed(const cuda::TwoTiles& given) {
  return {tile::typed<Real>(given.first), tile::typed<Real>(given.second)};
}

template <class Real> void add_kl(const cuda::TwoTiles& given, bool first, double* sums, int64_t stride) {
  const auto t = typed<Real>(given);
  std::vector<tile::KlPartial<Real>> partials(static_cast<size_t>(t.first.rows * segments_of(given)));
  for (int64_t row = 0; row < t.first.rows; ++row) {
    for (int64_t segment = 0; segment < segments_of(given); ++segment) {
      Real z[tile::kLanes][tile::kPerLane], w[tile::kLanes][tile::kPerLane];
      std::vector<tile::Maximum<Real>> first_maxima, second_maxima;
      std::vector<tile::KlSums<Real>> lanes;
      for (int lane = 0; lane < tile::kLanes; ++lane) {
        tile::load_lane(t.first, row, segment * tile::kSegment, lane, z[lane]);
        tile::load_lane(t.second, row, segment * tile::kSegment, lane, w[lane]);
        first_maxima.push_back(tile::lane_maximum(z[lane], lane));
        second_maxima.push_back(tile::lane_maximum(w[lane], lane));
      }
      const Real first_maximum = of_warp(first_maxima).value, second_maximum = of_warp(second_maxima).value;
      for (int lane = 0; lane < tile::kLanes; ++lane) lanes.push_back(tile::lane_kl(z[lane], w[lane], first_maximum, second_maximum));
      partials[static_cast<size_t>(segment * t.first.rows + row)] = {first_maximum, second_maximum, of_warp(lanes)};
    }
    tile::add_kl_row(t, partials.data(), row, first, sums, stride);
  }
}

template <DivergenceKind kind, class Real> void add_elements(const cuda::TwoTiles& given, double mixture, const double* first_lse,
                                                             const double* second_lse, bool first, double* sums, int64_t stride) {
  const auto t = typed<Real>(given);
  std::vector<tile::ElementSums<Real>> partials(static_cast<size_t>(t.first.rows * segments_of(given)));
  for (int64_t row = 0; row < t.first.rows; ++row) {
    const auto softmaxes = tile::softmaxes_of<Real>(first_lse, second_lse, row);
    for (int64_t segment = 0; segment < segments_of(given); ++segment) {
      std::vector<tile::ElementSums<Real>> lanes;
      for (int lane = 0; lane < tile::kLanes; ++lane)
        lanes.push_back(tile::lane_elements<kind>(t, softmaxes, static_cast<Real>(mixture), row, segment * tile::kSegment, lane));
      partials[static_cast<size_t>(segment * t.first.rows + row)] = of_warp(lanes);
    }
    tile::add_element_row(t, partials.data(), row, first, sums, stride);
  }
}

// f(row, first column, lane) for all lanes of all warps.
template <class Function> void for_each_lane(const cuda::TwoTiles& given, const Function& function) {
  for (int64_t row = 0; row < given.first.rows; ++row) {
    for (int64_t segment = 0; segment < segments_of(given); ++segment)
      for (int lane = 0; lane < tile::kLanes; ++lane) function(row, segment * tile::kSegment, lane);
  }
}

template <class Function> void in_real(const cuda::TwoTiles& given, const Function& function) {
  if (given.first.format == Format::f64) return function(double{});
  function(float{});
}

}  // namespace

// Structs come by address, laid out as the caller's ctypes are.
extern "C" {

int64_t slipstick_test_sizes(int which) {
  constexpr size_t kSizes[] = {sizeof(cuda::Tile),
                               sizeof(cuda::RowSums),
                               sizeof(Coefficients),
                               sizeof(cuda::TwoTiles),
                               sizeof(cuda::DivergenceCoefficients),
                               sizeof(cuda::CombinedCoefficients)};
  return static_cast<int64_t>(kSizes[which]);
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

void slipstick_test_form_gradient(const cuda::Tile* t, const Coefficients* of, double eps, double* dropped, int out_format, void* out,
                                  int64_t stride) {
  const cuda::Filter filter{eps, dropped, nullptr};
  if (t->format == Format::f64) return form_gradient<double, double>(*t, *of, filter, out, stride);
  if (static_cast<Format>(out_format) == Format::bf16) return form_gradient<float, uint16_t>(*t, *of, filter, out, stride);
  form_gradient<float, float>(*t, *of, filter, out, stride);
}

void slipstick_test_add_divergence(const cuda::TwoTiles* tiles, int kind, double mixture, const double* first_lse, const double* second_lse,
                                   int first, double* sums, int64_t stride) {
  in_real(*tiles, [&](auto real) {
    using Real = decltype(real);
    with_kind(static_cast<DivergenceKind>(kind), [&](auto k) {
      if constexpr (k() == DivergenceKind::kl) {
        add_kl<Real>(*tiles, first != 0, sums, stride);
      } else {
        add_elements<k(), Real>(*tiles, mixture, first_lse, second_lse, first != 0, sums, stride);
      }
    });
  });
}

void slipstick_test_form_divergence_gradient(const cuda::TwoTiles* tiles, int kind, double mixture, const cuda::DivergenceCoefficients* of,
                                             void* first, void* second) {
  in_real(*tiles, [&](auto real) {
    using Real = decltype(real);
    const auto t = typed<Real>(*tiles);
    with_kind(static_cast<DivergenceKind>(kind), [&](auto k) {
      for_each_lane(*tiles, [&](int64_t row, int64_t begin, int lane) {
        tile::lane_divergence_gradient<k()>(t, *of, static_cast<Real>(mixture), row, begin, lane, static_cast<Real*>(first),
                                            static_cast<Real*>(second));
      });
    });
  });
}

void slipstick_test_combine(const cuda::TwoTiles* tiles, double coefficient, const double* least, void* out) {
  in_real(*tiles, [&](auto real) {
    using Real = decltype(real);
    const auto t = typed<Real>(*tiles);
    for_each_lane(*tiles, [&](int64_t row, int64_t begin, int lane) {
      tile::lane_combination(t, coefficient, least, row, begin, lane, static_cast<Real*>(out));
    });
  });
}

void slipstick_test_form_combined_gradient(const cuda::TwoTiles* tiles, const cuda::CombinedCoefficients* of, void* first, void* second) {
  in_real(*tiles, [&](auto real) {
    using Real = decltype(real);
    const auto t = typed<Real>(*tiles);
    for_each_lane(*tiles, [&](int64_t row, int64_t begin, int lane) {
      tile::lane_combined_gradient(t, *of, row, begin, lane, static_cast<Real*>(first), static_cast<Real*>(second));
    });
  });
}
}
