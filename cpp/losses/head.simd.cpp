// The kernels of a linear head: blocks of logits with their statistics, gradients by the logits, and the products of the backward.
// Not equal on all levels: the products are fused where the level can, and sums depend on the number of lanes only through that.
#include "losses/packing.h"
#include "losses/product.h"
#include "losses/tile_divergences.h"
#include "losses/tile_statistics.h"

namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE {
namespace {

// Scale, bias and map over the tile of one panel.
template <class Of, class Real>
void finish_tile(const LogitsBlock<Of>& block, Real* tile, int64_t column, int64_t columns, int64_t lanes) {
  using V = Vec<Real>;
  if (!block.bias && block.map == LogitMap::none && block.product_scale == 1) return;
  const V scale = V::all(block.product_scale);
  for (int64_t v = 0; v < columns; ++v) {
    const V bias = V::all(block.bias ? block.scale * block.bias[column + v] : 0);
    for (int64_t lane = 0; lane < lanes; lane += V::lanes) {
      Real* at = tile + v * block.out_stride + lane;
      V z = multiply_add(V::load(at), scale, bias);
      if (block.map != LogitMap::none) z = map_logit(block.map, z, block.cap);
      z.store(at);
    }
  }
}

template <class Of> void logits(const LogitsBlock<Of>& block) {
  using Real = typename Of::Real;
  for (int64_t column = 0; column < block.columns; column += kTileColumns) {
    const int64_t columns = block.columns - column < kTileColumns ? block.columns - column : kTileColumns;
    int64_t k = 0;
    do {   // once for width 0, too: the logits are the bias then
      const int64_t depth = block.steps - k < kDepth ? block.steps - k : kDepth;
      for (int64_t row = 0; row < block.rows; row += kLanes<Real>) {
        Real* tile = block.out + column * block.out_stride + row;
        const int64_t vectors = (block.rows - row + Vec<Real>::lanes - 1) / Vec<Real>::lanes;
        const auto multiply = vectors >= kVectors ? product_rows<Of, kVectors, true>
                              : vectors == 2      ? product_rows<Of, 2, true>
                                                  : product_rows<Of, 1, true>;
        multiply(block.weight + column * block.weight_stride + k * kElements<Of>, block.weight_stride, kElements<Of>,
                 block.hidden + row * block.steps + k * kLanes<Real>, columns, depth, tile, block.out_stride, k > 0);
        if (k + depth < block.steps) continue;
        const int64_t lanes = (vectors < kVectors ? vectors : kVectors) * Vec<Real>::lanes;
        finish_tile(block, tile, column, columns, lanes);
        if (block.partial) tile_statistics(tile, block.out_stride, columns, lanes, block.first_column + column, row, *block.partial);
      }
      k += depth;
    } while (k < block.steps);
  }
}

template <class Real, bool general> void gradient_row(const GradientBlock<Real>& block, Real* row) {
  using V = Vec<Real>;
  for (int64_t n = 0; n < block.rows; n += V::lanes) {
    const V z = V::load(row + n);
    const V p = probability((z - V::load(block.lse_high + n)) - V::load(block.lse_low + n));
    V g = V::load(block.a + n);
    if constexpr (general) {
      const V held = max_or_second(V::all(-kLargest<Real>), z);   // 0 * -inf is meant as 0
      if (block.b) g = multiply_add(V::load(block.b + n), held, g);
      g = g * p;
      if (block.c) g = multiply_add(V::load(block.c + n), z, g);
      if (block.d) g = g + V::load(block.d + n);
      if (block.map != LogitMap::none) g = g * map_slope(block.map, z, block.cap);
    } else {
      g = g * p;
    }
    g.store(row + n);
  }
}

template <class Real> void form_gradient(const GradientBlock<Real>& block) {
  const bool general = block.b || block.c || block.d || block.map != LogitMap::none;
  for (int64_t v = 0; v < block.columns; ++v) {
    if (general) {
      gradient_row<Real, true>(block, block.block + v * block.stride);
    } else {
      gradient_row<Real, false>(block, block.block + v * block.stride);
    }
  }
}

// x without its lanes above the bounds of their rows.
inline F32 take_large(const RoundedBlock& block, F32 x, int64_t column, int64_t row, int64_t* found) {
  const auto large = simd::abs(x) > F32::load(block.bounds + row);
  if (none_of(large) || *found + F32::lanes > block.most_large) return x;
  for (uint64_t left = bits(large); left; left &= left - 1) {
    const int64_t lane = __builtin_ctzll(left);
    block.large[(*found)++] = {column, row + lane, x.v[lane]};
  }
  return select(large, F32::all(0), x);
}

int64_t round_gradient(const RoundedBlock& block) {
  int64_t found = 0;
  for (int64_t v = 0; v < block.columns; v += 2) {
    const bool second = v + 1 < block.columns;
    const float* from = block.block + v * block.stride;
    for (int64_t n = 0; n < block.rows; n += F32::lanes) {
      const F32 x = take_large(block, F32::load_first(from + n, block.rows - n, 0), v, n, &found);
      const U32 low = bf16_of_f32(x);
      store_low16(low, block.by_column + v * block.column_stride + n);
      U32 high = U32::all(0);
      if (second) {
        high = bf16_of_f32(take_large(block, F32::load_first(from + block.stride + n, block.rows - n, 0), v + 1, n, &found));
        store_low16(high, block.by_column + (v + 1) * block.column_stride + n);
      }
      (low | (high << 16)).store(block.by_row + n * block.row_steps + v / 2 * F32::lanes);
    }
  }
  return found;
}

constexpr int64_t kCodeVector = F32::lanes * (4 + kCodeColumns);  // bytes of the codes of kCodeColumns columns

void encode(const CodedTile& tile) {
  const F32 base = F32::all(kCodeBase), last = as_f32(U32::all(kCodeOrigin + (kLastCode << kCodeShift)));
  for (int64_t n = 0; n < tile.rows; n += F32::lanes) {
    F32 largest = F32::load(tile.block + n);
    for (int64_t v = 1; v < tile.columns; ++v) largest = max_or_second(largest, F32::load(tile.block + v * tile.stride + n));
    largest.store(tile.largest + n);
    uint8_t* to = tile.codes + n * kCodeBytes;
    for (int64_t first = 0; first < tile.columns; first += kCodeColumns, to += kCodeVector) {
      const int64_t columns = tile.columns - first < kCodeColumns ? tile.columns - first : kCodeColumns;
      U32 upper = U32::all(0);
      for (int64_t i = 0; i < columns; ++i) {
        const F32 below = (largest - F32::load(tile.block + (first + i) * tile.stride + n)) + base;
        // Where the largest is infinite, it keeps its value.
        const U32 word = as_u32(max_or_second(min_or_second(last, below), base));
        const U32 code = (word - U32::all(kCodeOrigin - (1u << (kCodeShift - 1)))) >> kCodeShift;
        store_low8(code, to + 4 * F32::lanes + i * F32::lanes);
        upper = upper | (code >> 8 << static_cast<int>(4 * i));
      }
      upper.store(reinterpret_cast<uint32_t*>(to));
    }
  }
}

void decode(const CodedTile& tile) {
  const F32 base = F32::all(kCodeBase);
  for (int64_t n = 0; n < tile.rows; n += F32::lanes) {
    const F32 largest = F32::load(tile.largest + n);
    const uint8_t* from = tile.codes + n * kCodeBytes;
    for (int64_t first = 0; first < tile.columns; first += kCodeColumns, from += kCodeVector) {
      const int64_t columns = tile.columns - first < kCodeColumns ? tile.columns - first : kCodeColumns;
      const U32 upper = U32::load(reinterpret_cast<const uint32_t*>(from));
      for (int64_t i = 0; i < columns; ++i) {
        const U32 high = (upper >> static_cast<int>(4 * i) & U32::all(15)) << 8;
        const U32 code = high | simd::load_as_u32(from + 4 * F32::lanes + i * F32::lanes);
        const F32 below = as_f32((code << kCodeShift) + U32::all(kCodeOrigin)) - base;
        select(code == U32::all(kLastCode), F32::all(-simd::kInfinity), largest - below).store(tile.block + (first + i) * tile.stride + n);
      }
    }
  }
}

template <class Real> void add_scaled(const Real* in, Real factor, int64_t count, Real* out) {
  using V = Vec<Real>;
  const V x = V::all(factor);
  int64_t i = 0;
  for (; i + V::lanes <= count; i += V::lanes) multiply_add(x, V::load(in + i), V::load(out + i)).store(out + i);
  if (i < count) multiply_add(x, V::load_first(in + i, count - i, 0), V::load_first(out + i, count - i, 0)).store_first(out + i, count - i);
}

template <class Real> double sum(const Real* values, int64_t count) {
  using V = Vec<Real>;
  double total = 0;
  constexpr int64_t kGroup = 16 * V::lanes;   // in Real, then in double
  for (int64_t first = 0; first < count; first += kGroup) {
    V group = V::all(0);
    const int64_t end = first + kGroup < count ? first + kGroup : count;
    for (int64_t i = first; i < end; i += V::lanes) group = group + V::load_first(values + i, end - i, 0);
    total += static_cast<double>(reduce_add(group));
  }
  return total;
}

template <class Real> int64_t drop_small(Real* values, const Real* bounds, int64_t count, Real* dropped) {
  using V = Vec<Real>;
  int64_t left = 0;
  for (int64_t i = 0; i < count; i += V::lanes) {
    const V x = V::load(values + i);
    const auto small = simd::abs(x) < V::load(bounds + i);   // false for a NaN, which stays and is seen
    (V::load(dropped + i) + select(small, x, V::all(0))).store(dropped + i);
    select(small, V::all(0), x).store(values + i);
    left += V::lanes - simd::count(small);
  }
  return left - (count % V::lanes ? V::lanes - count % V::lanes : 0);  // bounds past the end are 0, so nothing there was counted as small
}

template <class Real> int64_t find_nonzero(const Real* values, int64_t count, int32_t* indices) {
  using V = Vec<Real>;
  int64_t found = 0;
  for (int64_t i = 0; i < count; i += V::lanes) {
    for (uint64_t left = bits(V::load_first(values + i, count - i, 0) != V::all(0)); left; left &= left - 1)
      indices[found++] = static_cast<int32_t>(i + __builtin_ctzll(left));
  }
  return found;
}

constexpr int kChains = 12;  // more than latency times throughput of any level
double multiply_add_chains(int64_t steps) {
  F32 sums[kChains];
  repeat<kChains>([&](auto i) { sums[i] = F32::all(static_cast<float>(i)); });
  const F32 x = F32::all(0.999f), y = F32::all(0.001f);
  for (int64_t step = 0; step < steps; ++step) repeat<kChains>([&](auto i) { sums[i] = multiply_add(sums[i], x, y); });
  double total = 0;
  repeat<kChains>([&](auto i) { total += static_cast<double>(reduce_add(sums[i])); });
  return total == 0 ? 0 : static_cast<double>(steps * kChains * 2 * F32::lanes);  // the sum is needed, so that it is computed
}

template <class Real>
constexpr HeadKernels<Real> kHeadKernels{
    kLanes<Real>,        pack_rows<Real>,         pack_columns<Real>, widen<Real>, narrow<Real>,     logits<Operands<Real>>,
    form_gradient<Real>, product<Operands<Real>>, add_scaled<Real>,   sum<Real>,   drop_small<Real>, find_nonzero<Real>};

template <class Real>
constexpr TwoHeadKernels<Real> kTwoHeadKernels{add_divergence<Real>, divergence_gradient<Real>, combine<Real>, divide<Real>,
                                               statistics<Real>};

constexpr PairKernels kPairKernels{F32::lanes, pack_pair_rows, pack_pair_columns, logits<Pairs>, round_gradient,
                                   encode,     decode,         product<Pairs>};

}  // namespace

const Kernels kernels{
    SLIPSTICK_ISA_NAME,     multiply_add_chains,    kHeadKernels<float>, kHeadKernels<double>, simd::kBf16Pairs ? &kPairKernels : nullptr,
    kTwoHeadKernels<float>, kTwoHeadKernels<double>};

}  // namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE
