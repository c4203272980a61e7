// Rows of two heads' tiles on CUDA, side by side: divergences, one head's logits added to the other's, and the gradients of both. As in tile_rows.h these
// are what one lane of a warp does, so that the host runs them too; the formulas are those of tile_divergences.h, a number at a time.
//
// Behind a tile's last column both logits are -inf: the same infinity, which counts for nothing in any of the sums.
#pragma once
#include <type_traits>

#include "losses/tile_rows.h"

namespace slipstick::losses {

// f(a constant of the kind).
template <class Function> void with_kind(DivergenceKind kind, const Function& function) {
  using Kind = DivergenceKind;
  switch (kind) {
    case Kind::kl: return function(std::integral_constant<Kind, Kind::kl>());
    case Kind::jensen_shannon: return function(std::integral_constant<Kind, Kind::jensen_shannon>());
    case Kind::bernoulli: return function(std::integral_constant<Kind, Kind::bernoulli>());
    case Kind::bernoulli_norm: return function(std::integral_constant<Kind, Kind::bernoulli_norm>());
  }
}

}  // namespace slipstick::losses

namespace slipstick::losses::tile {

template <class Real> struct TwoTiles {
  Tile<Real> first, second;  // of the same rows and columns
};

// z - w, 0 for the same infinity: a class that both heads mask.
template <class Real> SLIPSTICK_HOST_DEVICE inline Real difference(Real z, Real w) { return z == w ? Real{0} : minus(z, w); }
// share * x, 0 where the share is 0, whatever x is.
template <class Real> SLIPSTICK_HOST_DEVICE inline Real weighted(Real share, Real x) { return share == 0 ? Real{0} : times(share, x); }

// ---- sums -----------------------------------------------------------------------------------------------------------------------------------

// One head's sums in a segment of e^(logit - maximum), and of that times d.
template <class Real> struct Moments {
  Real sum, moment;
};
template <class Real> struct KlSums {
  Moments<Real> first, second;
};
template <class Real> SLIPSTICK_HOST_DEVICE inline KlSums<Real> join(const KlSums<Real>& a, const KlSums<Real>& b) {
  return {{plus(a.first.sum, b.first.sum), plus(a.first.moment, b.first.moment)},
          {plus(a.second.sum, b.second.sum), plus(a.second.moment, b.second.moment)}};
}
template <class Real>
SLIPSTICK_HOST_DEVICE inline KlSums<Real> lane_kl(const Real (&z)[kPerLane], const Real (&w)[kPerLane], Real z_maximum, Real w_maximum) {
  const Real z_top = held(z_maximum), w_top = held(w_maximum);
  KlSums<Real> sums{{0, 0}, {0, 0}};
  SLIPSTICK_UNROLL
  for (int i = 0; i < kPerLane; ++i) {
    const Real d = difference(z[i], w[i]), p = probability(minus(z[i], z_top)), q = probability(minus(w[i], w_top));
    sums.first = {plus(sums.first.sum, p), plus(sums.first.moment, weighted(p, d))};
    sums.second = {plus(sums.second.sum, q), plus(sums.second.moment, weighted(q, d))};
  }
  return sums;
}
template <class Real> struct KlPartial {
  Real first_maximum, second_maximum;
  KlSums<Real> sums;
};

// A segment's sums of one head join the row's: maximum, sum and moment, `stride` apart.
SLIPSTICK_HOST_DEVICE inline void add_moments(double value, double sum, double moment, double* of_row, int64_t stride) {
  const double top = value > of_row[0] ? value : of_row[0];
  const double factor = exponential(minus(held(of_row[0]), held(top))), more = exponential(minus(held(value), held(top)));
  of_row[stride] = plus(times(factor, of_row[stride]), times(more, sum));
  of_row[2 * stride] = plus(weighted(factor, of_row[2 * stride]), weighted(more, moment));
  of_row[0] = top;
}
// sums: [6][stride], of the first head and of the second; by one thread a row.
template <class Real> SLIPSTICK_HOST_DEVICE inline void add_kl_row(const TwoTiles<Real>& tiles, const KlPartial<Real>* partials,
                                                                   int64_t row, bool first, double* sums, int64_t stride) {
  const int64_t segments = (tiles.first.columns + kSegment - 1) / kSegment;
  double* const of_row = sums + row;
  for (int i = 0; first && i < 6; ++i) of_row[i * stride] = i % 3 == 0 ? -infinite<double>() : 0.0;
  for (int64_t segment = 0; segment < segments; ++segment) {
    const KlPartial<Real>& part = partials[segment * tiles.first.rows + row];
    add_moments(part.first_maximum, part.sums.first.sum, part.sums.first.moment, of_row, stride);
    add_moments(part.second_maximum, part.sums.second.sum, part.sums.second.moment, of_row + 3 * stride, stride);
  }
}

// log-sum-exps of a row, each in two parts, and the second minus the first.
template <class Real> struct Softmaxes {
  Real first_high, first_low, second_high, second_low, shift;
};
template <class Real>
SLIPSTICK_HOST_DEVICE inline Softmaxes<Real> softmaxes_of(const double* first_lse, const double* second_lse, int64_t row) {
  if (!first_lse) return {0, 0, 0, 0, 0};
  Softmaxes<Real> out;
  split_number(first_lse[row], out.first_high, out.first_low);
  split_number(second_lse[row], out.second_high, out.second_low);
  out.shift = static_cast<Real>(minus(second_lse[row], first_lse[row]));
  return out;
}
template <class Real> SLIPSTICK_HOST_DEVICE inline Real first_share(const Softmaxes<Real>& of, Real z) {
  return probability(minus(minus(z, of.first_high), of.first_low));
}
template <class Real> SLIPSTICK_HOST_DEVICE inline Real second_share(const Softmaxes<Real>& of, Real w) {
  return probability(minus(minus(w, of.second_high), of.second_low));
}

// log(p / m) and log(q / m). m / max(p, q) is a sum of positive terms, hence no cancellation.
template <class Real> struct ToMixture {
  Real p, q;
};
template <class Real> SLIPSTICK_HOST_DEVICE inline ToMixture<Real> to_mixture(Real d, Real shift, Real mixture) {
  const Real log_ratio = minus(-d, shift);  // log(q / p)
  const bool q_larger = log_ratio > 0;
  const Real less = minus(probability(-magnitude(log_ratio)), Real{1});
  const Real of_larger = -log_of_one_plus(times(less, q_larger ? minus(Real{1}, mixture) : mixture));
  return {q_larger ? minus(of_larger, log_ratio) : of_larger, q_larger ? of_larger : plus(of_larger, log_ratio)};
}

// log(1 + e^-|x|).
template <class Real> SLIPSTICK_HOST_DEVICE inline Real softplus_beyond(Real x) { return log_of_one_plus(probability(-magnitude(x))); }

// KL(Bernoulli(s(w)) || Bernoulli(s(z))), with w made positive by exchanging the outcomes: s(-w) (z - w) + max(-z, 0) and differences below 1.
template <class Real> SLIPSTICK_HOST_DEVICE inline Real bernoulli(Real z, Real w) {
  if (z == w) return 0;
  const Real sure = magnitude(w), along = w < 0 ? -z : z, rare = probability(-sure), other = over(rare, plus(Real{1}, rare));
  const Real gap = weighted(other, difference(along, sure)), against = along < 0 ? -along : Real{0};
  return plus(plus(gap, against), minus(softplus_beyond(z), softplus_beyond(w)));
}

// KL(Bernoulli(1/2) || Bernoulli(s(d))) = log cosh(d / 2).
template <class Real> SLIPSTICK_HOST_DEVICE inline Real log_cosh_of_half(Real d) {
  const Real size = magnitude(d), half = static_cast<Real>(0.5);
  if (size < 1) {
    const Real t = tangent(times(half, d));
    return times(-half, log_of_one_plus(times(-t, t)));
  }
  return plus(times(half, size), minus(softplus_beyond(d), static_cast<Real>(0.6931471805599453)));
}

template <class Real> struct ElementSums {
  Real forward, reverse;
};
template <class Real> SLIPSTICK_HOST_DEVICE inline ElementSums<Real> join(const ElementSums<Real>& a, const ElementSums<Real>& b) {
  return {plus(a.forward, b.forward), plus(a.reverse, b.reverse)};
}
// The lane's part of a segment, of the kinds whose elements need nothing but the log-sum-exps.
template <DivergenceKind kind, class Real>
SLIPSTICK_HOST_DEVICE inline ElementSums<Real> lane_elements(const TwoTiles<Real>& tiles, const Softmaxes<Real>& softmaxes, Real mixture,
                                                             int64_t row, int64_t begin, int lane) {
  const Real first_scale = scale_of(tiles.first), second_scale = scale_of(tiles.second);
  ElementSums<Real> sums{0, 0};
  for (int i = 0; i < kPerLane; i += kPack<Real>) {
    const int64_t column = begin + column_of<Real>(lane, i);
    if (column >= tiles.first.columns) return sums;
    Real z[kPack<Real>], w[kPack<Real>];
    load_logits(tiles.first, first_scale, row, column, z);
    load_logits(tiles.second, second_scale, row, column, w);
    SLIPSTICK_UNROLL
    for (int k = 0; k < kPack<Real>; ++k) {
      if (kind == DivergenceKind::jensen_shannon) {
        const ToMixture<Real> logs = to_mixture(difference(z[k], w[k]), softmaxes.shift, mixture);
        const Real of_p = weighted(first_share(softmaxes, z[k]), logs.p), of_q = weighted(second_share(softmaxes, w[k]), logs.q);
        sums.reverse = plus(sums.reverse, of_p);
        sums.forward = plus(sums.forward, plus(times(mixture, of_q), times(minus(Real{1}, mixture), of_p)));
      } else {
        sums.forward =
            plus(sums.forward, kind == DivergenceKind::bernoulli ? bernoulli(z[k], w[k]) : log_cosh_of_half(difference(z[k], w[k])));
      }
    }
  }
  return sums;
}
// sums: [2][stride], forward and reverse; by one thread a row.
template <class Real> SLIPSTICK_HOST_DEVICE inline void add_element_row(const TwoTiles<Real>& tiles, const ElementSums<Real>* partials,
                                                                        int64_t row, bool first, double* sums, int64_t stride) {
  const int64_t segments = (tiles.first.columns + kSegment - 1) / kSegment;
  double forward = first ? 0 : sums[row], reverse = first ? 0 : sums[stride + row];
  for (int64_t segment = 0; segment < segments; ++segment) {
    forward = plus(forward, static_cast<double>(partials[segment * tiles.first.rows + row].forward));
    reverse = plus(reverse, static_cast<double>(partials[segment * tiles.first.rows + row].reverse));
  }
  sums[row] = forward;
  sums[stride + row] = reverse;
}

// ---- gradients ------------------------------------------------------------------------------------------------------------------------------

template <class Real> struct DivergenceRow {
  Softmaxes<Real> softmaxes;
  Real by_forward, by_reverse, by_first_lse, by_second_lse, forward_mean, reverse_mean;
};
template <class Real>
SLIPSTICK_HOST_DEVICE inline DivergenceRow<Real> divergence_row(const cuda::DivergenceCoefficients& of, int64_t row) {
  return {softmaxes_of<Real>(of.first_lse, of.second_lse, row),
          number_at<Real>(of.by_forward, row),
          number_at<Real>(of.by_reverse, row),
          number_at<Real>(of.by_first_lse, row),
          number_at<Real>(of.by_second_lse, row),
          number_at<Real>(of.forward_mean, row),
          number_at<Real>(of.reverse_mean, row)};
}

template <class Real> SLIPSTICK_HOST_DEVICE inline Real sigmoid(Real x) {
  const Real grown = probability(-magnitude(x)), less = over(grown, plus(Real{1}, grown));
  return x < 0 ? less : minus(Real{1}, less);
}

// Logits z and w become the gradients by them.
template <DivergenceKind kind, class Real>
SLIPSTICK_HOST_DEVICE inline void divergence_gradient(const DivergenceRow<Real>& of, Real mixture, Real& z, Real& w) {
  const Real d = difference(z, w), half = static_cast<Real>(0.5);
  if (kind == DivergenceKind::kl) {
    const Real p = first_share(of.softmaxes, z), q = second_share(of.softmaxes, w), apart = minus(p, q);
    z = plus(times(of.by_first_lse, p), times(of.by_forward, apart));
    z = plus(z, times(of.by_reverse, weighted(p, minus(d, of.reverse_mean))));
    w = minus(times(of.by_second_lse, q), times(of.by_reverse, apart));
    w = plus(w, times(of.by_forward, weighted(q, minus(of.forward_mean, d))));
  } else if (kind == DivergenceKind::jensen_shannon) {
    const ToMixture<Real> logs = to_mixture(d, of.softmaxes.shift, mixture);
    const Real p = first_share(of.softmaxes, z), q = second_share(of.softmaxes, w);
    z = times(times(of.by_forward, minus(Real{1}, mixture)), weighted(p, minus(logs.p, of.reverse_mean)));
    w = times(times(of.by_forward, mixture), weighted(q, minus(logs.q, of.forward_mean)));
  } else if (kind == DivergenceKind::bernoulli) {
    const Real rare = probability(-magnitude(w)), both = plus(Real{1}, rare);
    z = times(of.by_forward, minus(sigmoid(z), sigmoid(w)));
    w = times(of.by_forward, weighted(over(rare, times(both, both)), -d));
  } else {
    z = times(of.by_forward, times(half, tangent(times(half, d))));
    w = -z;
  }
}

// For the lane's packs of a segment: f(column, z, w) turns logits into the gradients by them, which are then those by the products, in `first` and
// `second`, laid out as the tiles. Rows without a gradient get 0, rows whose target is no class NaN.
template <class Real, class Function>
SLIPSTICK_HOST_DEVICE inline void lane_gradients(const TwoTiles<Real>& tiles, bool any, int64_t row, int64_t begin, int lane, Real* first,
                                                 Real* second, const Function& function) {
  constexpr int n = kPack<Real>;
  const Real first_scale = scale_of(tiles.first), second_scale = scale_of(tiles.second);
  const RowKind kind = kind_of_row(tiles.first, row);
  for (int i = 0; i < kPerLane; i += n) {
    const int64_t column = begin + column_of<Real>(lane, i), left = tiles.first.columns - column;
    if (left <= 0) return;
    Real z[n], w[n];
    load_logits(tiles.first, first_scale, row, column, z);
    load_logits(tiles.second, second_scale, row, column, w);
    SLIPSTICK_UNROLL
    for (int k = 0; k < n; ++k) {
      const Real z_slope = times(first_scale, map_slope(tiles.first.map, tiles.first.cap, z[k]));
      const Real w_slope = times(second_scale, map_slope(tiles.second.map, tiles.second.cap, w[k]));
      if (kind.skipped || kind.wrong || !any) {
        z[k] = w[k] = kind.wrong ? static_cast<Real>(NAN) : Real{0};
        continue;
      }
      function(column + k, z[k], w[k]);
      z[k] = times(z[k], z_slope);
      w[k] = times(w[k], w_slope);
    }
    store_gradient(z, left, tiles.first.aligned, first + row * tiles.first.stride + column);
    store_gradient(w, left, tiles.second.aligned, second + row * tiles.second.stride + column);
  }
}

template <DivergenceKind kind, class Real>
SLIPSTICK_HOST_DEVICE inline void lane_divergence_gradient(const TwoTiles<Real>& tiles, const cuda::DivergenceCoefficients& of,
                                                           Real mixture, int64_t row, int64_t begin, int lane, Real* first, Real* second) {
  const DivergenceRow<Real> of_row = divergence_row<Real>(of, row);
  const bool any = of_row.by_forward != 0 || of_row.by_reverse != 0 || of_row.by_first_lse != 0 || of_row.by_second_lse != 0;
  lane_gradients(tiles, any, row, begin, lane, first, second,
                 [&](int64_t, Real& z, Real& w) { divergence_gradient<kind>(of_row, mixture, z, w); });
}

// ---- one head's logits added to the other's -----------------------------------------------------------------------------------------------------

// Which of the first head's logits take some of the second's.
template <class Real> struct Addition {
  Real coefficient, least;

  SLIPSTICK_HOST_DEVICE bool counts(Real z) const { return !(z < least); }
  SLIPSTICK_HOST_DEVICE Real combined(Real z, Real w) const { return plus(z, times(coefficient, counts(z) ? w : Real{0})); }
};
template <class Real> SLIPSTICK_HOST_DEVICE inline Addition<Real> addition_of(double coefficient, const double* least, int64_t row) {
  const Real lowest = -largest<Real>(), from = least ? static_cast<Real>(least[row]) : lowest;
  return {static_cast<Real>(coefficient), from < lowest ? lowest : from};  // a class that is masked stays so
}

// The lane's part of a segment: mapped logits, with the second head's added, into out, laid out as the first tile. Without a second tile, the first's.
template <class Real>
SLIPSTICK_HOST_DEVICE inline void lane_combination(const TwoTiles<Real>& tiles, double coefficient, const double* least, int64_t row,
                                                   int64_t begin, int lane, Real* out) {
  constexpr int n = kPack<Real>;
  const Addition<Real> addition = addition_of<Real>(coefficient, least, row);
  const Real first_scale = scale_of(tiles.first), second_scale = scale_of(tiles.second);
  for (int i = 0; i < kPerLane; i += n) {
    const int64_t column = begin + column_of<Real>(lane, i), left = tiles.first.columns - column;
    if (left <= 0) return;
    Real z[n], w[n];
    load_logits(tiles.first, first_scale, row, column, z);
    if (tiles.second.products) {
      load_logits(tiles.second, second_scale, row, column, w);
      SLIPSTICK_UNROLL
      for (int k = 0; k < n; ++k) z[k] = addition.combined(z[k], w[k]);
    }
    store_gradient(z, left, tiles.first.aligned, out + row * tiles.first.stride + column);
  }
}

template <class Real>
SLIPSTICK_HOST_DEVICE inline void lane_combined_gradient(const TwoTiles<Real>& tiles, const cuda::CombinedCoefficients& of, int64_t row,
                                                         int64_t begin, int lane, Real* first, Real* second) {
  const Addition<Real> addition = addition_of<Real>(of.coefficient, of.least, row);
  Real high, low;
  split_number(of.lse[row], high, low);
  const Real by_lse = number_at<Real>(of.by_lse, row), by_target = number_at<Real>(of.by_target, row);
  const int64_t target = by_target != 0 ? tiles.first.targets[row] - tiles.first.first_column : -1;
  lane_gradients(tiles, by_lse != 0 || by_target != 0, row, begin, lane, first, second, [&](int64_t column, Real& z, Real& w) {
    Real g = weighted(by_lse, probability(minus(minus(addition.combined(z, w), high), low)));
    if (column == target) g = plus(g, by_target);
    w = addition.counts(z) ? times(addition.coefficient, g) : Real{0};
    z = g;
  });
}

}  // namespace slipstick::losses::tile
