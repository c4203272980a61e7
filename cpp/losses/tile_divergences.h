// Two heads' logits, tile beside tile: divergences of their softmaxes or sigmoids, and one head's logits added to the other's. Included by
// head.simd.cpp alone.
//
// Everything is made of d = z - w and of probabilities, not of differences of large numbers, so that equal heads give 0 and near ones little.
#pragma once
#include "losses/tile_statistics.h"

namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE {
namespace {

// z - w, 0 for the same infinity: a class that both heads mask.
template <class Real> Vec<Real> difference(Vec<Real> z, Vec<Real> w) { return select(z == w, Vec<Real>::all(0), z - w); }
// share * x, 0 where the share is 0, whatever x is.
template <class Real> Vec<Real> weighted(Vec<Real> share, Vec<Real> x) {
  return select(share == Vec<Real>::all(0), Vec<Real>::all(0), share * x);
}

// ---- sums ---------------------------------------------------------------------------------------------------------------------------------

// Maxima of a vector's rows, those of the tile among them, with the sums moved to them. Infinite ones are held finite, as in vector_statistics.
template <class Real> Vec<Real> raise_maxima(const Real* tile, int64_t stride, int64_t columns, Real* maximum, double* sum,
                                             double* moment) {
  using V = Vec<Real>;
  const V old = V::load(maximum);
  V best = old;
  for (int64_t v = 0; v < columns; ++v) best = max_or_second(V::load(tile + v * stride), best);
  if (!all_of(best <= old)) {
    for (int64_t lane = 0; lane < V::lanes; ++lane) {
      if (!(best.v[lane] > old.v[lane])) continue;
      maximum[lane] = best.v[lane];
      if (sum[lane] == 0) continue;
      const double factor = exp_one(static_cast<double>(old.v[lane]) - static_cast<double>(best.v[lane]));
      sum[lane] *= factor;
      moment[lane] = factor == 0 ? 0 : factor * moment[lane];
    }
  }
  return clamp_keep_nan(V::load(maximum), V::all(-kLargest<Real>), V::all(kLargest<Real>));
}

template <class Real> void add_kl(const DivergenceTile<Real>& tile, int64_t row) {
  using V = Vec<Real>;
  const TwoTiles<Real>& at = tile.tiles;
  const Real *first = at.first + row, *second = at.second + row;
  const V z_maximum = raise_maxima(first, at.stride, at.columns, tile.first_maximum + row, tile.first_sum + row, tile.reverse + row);
  const V w_maximum = raise_maxima(second, at.stride, at.columns, tile.second_maximum + row, tile.second_sum + row, tile.forward + row);
  V p_sum = V::all(0), q_sum = p_sum, p_moment = p_sum, q_moment = p_sum;
  for (int64_t v = 0; v < at.columns; ++v) {
    const V z = V::load(first + v * at.stride), w = V::load(second + v * at.stride), d = difference(z, w);
    const V p = probability(z - z_maximum), q = probability(w - w_maximum);
    p_sum = p_sum + p;
    q_sum = q_sum + q;
    p_moment = p_moment + weighted(p, d);
    q_moment = q_moment + weighted(q, d);
  }
  add_to_doubles(p_sum, tile.first_sum + row);
  add_to_doubles(q_sum, tile.second_sum + row);
  add_to_doubles(p_moment, tile.reverse + row);
  add_to_doubles(q_moment, tile.forward + row);
}

template <class Real> struct Shares {
  Vec<Real> p, q;
};
template <class Real> Shares<Real> shares(const TwoSoftmaxes<Real>& of, int64_t row, Vec<Real> z, Vec<Real> w) {
  using V = Vec<Real>;
  return {probability((z - V::load(of.first_high + row)) - V::load(of.first_low + row)),
          probability((w - V::load(of.second_high + row)) - V::load(of.second_low + row))};
}

// log(p / m) and log(q / m). m / max(p, q) is a sum of positive terms, hence no cancellation.
template <class Real> struct ToMixture {
  Vec<Real> p, q;
};
template <class Real> ToMixture<Real> to_mixture(Vec<Real> d, Vec<Real> shift, Real mixture) {
  using V = Vec<Real>;
  const V log_ratio = -d - shift;  // log(q / p)
  const auto q_larger = log_ratio > V::all(0);
  const V less = exp_of_negative(-simd::abs(log_ratio)) - V::all(1);
  const V of_larger = -log1p_of(less * select(q_larger, V::all(1 - mixture), V::all(mixture)));
  return {select(q_larger, of_larger - log_ratio, of_larger), select(q_larger, of_larger, of_larger + log_ratio)};
}

// log(1 + e^-|x|).
template <class Real> Vec<Real> softplus_beyond(Vec<Real> x) { return log1p_of(exp_of_negative(-simd::abs(x))); }

// KL(Bernoulli(s(w)) || Bernoulli(s(z))), with w made positive by exchanging the outcomes: s(-w) (z - w) + max(-z, 0) and differences below 1.
template <class Real> Vec<Real> bernoulli(Vec<Real> z, Vec<Real> w) {
  using V = Vec<Real>;
  const V sure = simd::abs(w), along = select(w < V::all(0), -z, z), rare = probability(-sure), other = rare / (V::all(1) + rare);
  const V gap = weighted(other, difference(along, sure)), against = select(along < V::all(0), -along, V::all(0));
  return select(z == w, V::all(0), gap + against + (softplus_beyond(z) - softplus_beyond(w)));
}

// KL(Bernoulli(1/2) || Bernoulli(s(d))) = log cosh(d / 2).
template <class Real> Vec<Real> log_cosh_of_half(Vec<Real> d) {
  using V = Vec<Real>;
  const V size = simd::abs(d), t = tanh_of(V::all(static_cast<Real>(0.5)) * d), half = V::all(static_cast<Real>(0.5));
  const V near_zero = -half * log1p_of(-t * t), far = half * size + (softplus_beyond(d) - V::all(static_cast<Real>(0.6931471805599453)));
  return select(size < V::all(1), near_zero, far);
}

template <class Real, DivergenceKind kind> void add_elements(const DivergenceTile<Real>& tile, int64_t row) {
  using V = Vec<Real>;
  const TwoTiles<Real>& at = tile.tiles;
  V forward = V::all(0), reverse = V::all(0);
  for (int64_t v = 0; v < at.columns; ++v) {
    const V z = V::load(at.first + v * at.stride + row), w = V::load(at.second + v * at.stride + row);
    if constexpr (kind == DivergenceKind::jensen_shannon) {
      const Shares<Real> share = shares(tile.softmaxes, row, z, w);
      const ToMixture<Real> logs = to_mixture(difference(z, w), V::load(tile.softmaxes.shift + row), tile.mixture);
      const V of_p = weighted(share.p, logs.p);
      reverse = reverse + of_p;
      forward = forward + multiply_add(V::all(tile.mixture), weighted(share.q, logs.q), V::all(1 - tile.mixture) * of_p);
    } else if constexpr (kind == DivergenceKind::bernoulli) {
      forward = forward + bernoulli(z, w);
    } else {
      forward = forward + log_cosh_of_half(difference(z, w));
    }
  }
  add_to_doubles(forward, tile.forward + row);
  if constexpr (kind == DivergenceKind::jensen_shannon) add_to_doubles(reverse, tile.reverse + row);
}

template <class Real> void add_divergence(const DivergenceTile<Real>& tile) {
  for (int64_t row = 0; row < tile.tiles.rows; row += Vec<Real>::lanes) {
    switch (tile.kind) {
      case DivergenceKind::kl: add_kl(tile, row); break;
      case DivergenceKind::jensen_shannon: add_elements<Real, DivergenceKind::jensen_shannon>(tile, row); break;
      case DivergenceKind::bernoulli: add_elements<Real, DivergenceKind::bernoulli>(tile, row); break;
      case DivergenceKind::bernoulli_norm: add_elements<Real, DivergenceKind::bernoulli_norm>(tile, row); break;
    }
  }
}

// ---- gradients ------------------------------------------------------------------------------------------------------------------------------

template <class Real> Vec<Real> sigmoid(Vec<Real> x) {
  using V = Vec<Real>;
  const V grown = exp_of_negative(-simd::abs(x)), less = grown / (V::all(1) + grown);
  return select(x < V::all(0), less, V::all(1) - less);
}

template <class Real, DivergenceKind kind> void gradient_elements(const DivergenceGradient<Real>& tile, int64_t row) {
  using V = Vec<Real>;
  const TwoTiles<Real>& at = tile.tiles;
  const V forward = V::load(tile.by_forward + row);
  for (int64_t v = 0; v < at.columns; ++v) {
    Real *first = at.first + v * at.stride + row, *second = at.second + v * at.stride + row;
    const V z = V::load(first), w = V::load(second), d = difference(z, w);
    V by_z, by_w;
    if constexpr (kind == DivergenceKind::kl) {
      const V reverse = V::load(tile.by_reverse + row);
      const Shares<Real> share = shares(tile.softmaxes, row, z, w);
      const V apart = share.p - share.q;
      by_z = multiply_add(V::load(tile.by_first_lse + row), share.p, forward * apart);
      by_z = multiply_add(reverse, weighted(share.p, d - V::load(tile.reverse_mean + row)), by_z);
      by_w = multiply_add(V::load(tile.by_second_lse + row), share.q, -reverse * apart);
      by_w = multiply_add(forward, weighted(share.q, V::load(tile.forward_mean + row) - d), by_w);
    } else if constexpr (kind == DivergenceKind::jensen_shannon) {
      const Shares<Real> share = shares(tile.softmaxes, row, z, w);
      const ToMixture<Real> logs = to_mixture(d, V::load(tile.softmaxes.shift + row), tile.mixture);
      by_z = forward * V::all(1 - tile.mixture) * weighted(share.p, logs.p - V::load(tile.reverse_mean + row));
      by_w = forward * V::all(tile.mixture) * weighted(share.q, logs.q - V::load(tile.forward_mean + row));
    } else if constexpr (kind == DivergenceKind::bernoulli) {
      const V rare = probability(-simd::abs(w)), both = V::all(1) + rare;
      by_z = forward * (sigmoid(z) - sigmoid(w));
      by_w = forward * weighted(rare / (both * both), -d);
    } else {
      by_z = forward * V::all(static_cast<Real>(0.5)) * tanh_of(V::all(static_cast<Real>(0.5)) * d);
      by_w = -by_z;
    }
    if (tile.first_map != LogitMap::none) by_z = by_z * map_slope(tile.first_map, z, tile.first_cap);
    if (tile.second_map != LogitMap::none) by_w = by_w * map_slope(tile.second_map, w, tile.second_cap);
    by_z.store(first);
    by_w.store(second);
  }
}

template <class Real> void divergence_gradient(const DivergenceGradient<Real>& tile) {
  for (int64_t row = 0; row < tile.tiles.rows; row += Vec<Real>::lanes) {
    switch (tile.kind) {
      case DivergenceKind::kl: gradient_elements<Real, DivergenceKind::kl>(tile, row); break;
      case DivergenceKind::jensen_shannon: gradient_elements<Real, DivergenceKind::jensen_shannon>(tile, row); break;
      case DivergenceKind::bernoulli: gradient_elements<Real, DivergenceKind::bernoulli>(tile, row); break;
      case DivergenceKind::bernoulli_norm: gradient_elements<Real, DivergenceKind::bernoulli_norm>(tile, row); break;
    }
  }
}

// ---- one head's logits added to the other's -----------------------------------------------------------------------------------------------------

// x where the first head's logit reaches the row's least and is not -inf, else 0: a class that is masked stays so.
template <class Real> Vec<Real> where_likely(const CombinedTile<Real>& tile, int64_t row, Vec<Real> z, Vec<Real> x) {
  using V = Vec<Real>;
  const V lowest = V::all(-kLargest<Real>), least = tile.least ? max_or_second(lowest, V::load(tile.least + row)) : lowest;
  return select(z < least, V::all(0), x);
}

template <class Real> void combine(const CombinedTile<Real>& tile) {
  using V = Vec<Real>;
  for (int64_t v = 0; v < tile.tiles.columns; ++v) {
    for (int64_t row = 0; row < tile.tiles.rows; row += V::lanes) {
      const int64_t at = v * tile.tiles.stride + row;
      const V z = V::load(tile.tiles.first + at), w = where_likely(tile, row, z, V::load(tile.tiles.second + at));
      multiply_add(V::all(tile.coefficient), w, z).store(tile.combined + at);
    }
  }
}

template <class Real> void divide(const CombinedTile<Real>& tile) {
  using V = Vec<Real>;
  for (int64_t v = 0; v < tile.tiles.columns; ++v) {
    for (int64_t row = 0; row < tile.tiles.rows; row += V::lanes) {
      const int64_t at = v * tile.tiles.stride + row;
      const V z = V::load(tile.tiles.first + at), w = V::load(tile.tiles.second + at);
      V by_z = V::load(tile.combined + at), by_w = V::all(tile.coefficient) * where_likely(tile, row, z, by_z);
      if (tile.first_map != LogitMap::none) by_z = by_z * map_slope(tile.first_map, z, tile.first_cap);
      if (tile.second_map != LogitMap::none) by_w = by_w * map_slope(tile.second_map, w, tile.second_cap);
      by_z.store(tile.tiles.first + at);
      by_w.store(tile.tiles.second + at);
    }
  }
}

template <class Real> void statistics(const Real* tile, int64_t stride, int64_t columns, int64_t rows, int64_t first_column,
                                      const Partial<Real>& partial) {
  tile_statistics(tile, stride, columns, rows, first_column, 0, partial);
}

}  // namespace
}  // namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE
