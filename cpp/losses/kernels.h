// The kernels of the room and what they are given. Results are float (Real = float) or double. Operands are too, others being widened first;
// or, on levels that multiply pairs of bf16 (kernels.of_pairs is not null), bf16 in pairs.
//
// A panel is [depth][kLanes]: one operand of a product, kLanes of its rows or columns side by side for each step of the sum. Of pairs, a step of
// the sum is two: a panel has words of two bf16, the first in the low half, the last with 0 if there is an odd number.
#pragma once
#include <cstdint>

#include "base/kernel_table.h"
#include "slipstick/losses.h"

namespace slipstick::losses {

// Columns of a tile: 64 logits of a panel's rows stay in the first cache between the product and the statistics.
constexpr int64_t kTileColumns = 64;
// Columns of a block of the backward: its panel of the weight and its lines of the gradient share the first cache (128 and 256 are slower).
constexpr int64_t kBlockColumns = 64;
// Steps of a sum before it is added to memory: a panel of them is 24 KiB, which leaves room in a first cache of 32 KiB. Shorter sums round less, too.
constexpr int64_t kDepth = 256;

// Rows of an operand in its own format.
struct Source {
  Format format;
  const void* data;
  int64_t stride;  // elements from a row to the next
  const int64_t* index;  // which rows, null for 0, 1, 2, ...
};

// Running sums of a block of rows over a range of columns, arrays over rows.
template <class Real> struct Partial {
  Real* maximum;
  double* sum;  // of e^(z - maximum), null if not wanted
  double* weighted;  // of e^(z - maximum) (z - maximum), null if not wanted
  double* first;  // of z, null if not wanted
  double* second;  // of z^2, null with first
  Real* target;  // logit of the target where its column was met, null if not wanted
  const int64_t* target_index;
  int64_t* argmax;  // null if not wanted
  int64_t topk;
  Real* top_values;  // [rows][topk], falling
  int64_t* top_indices;  // [rows][topk]
};

// Elements in memory, and those of a panel: Real and Real, or for pairs a bf16 and a word of two.
template <class RealType, class ElementType = RealType, class StepType = RealType> struct Operands {
  using Real = RealType;
  using Element = ElementType;
  using Step = StepType;
};
using Pairs = Operands<float, uint16_t, uint32_t>;

// Logits of some rows and columns: out[column * out_stride + row], in whole vectors of rows.
template <class Of, class Real = typename Of::Real> struct LogitsBlock {
  const typename Of::Step* hidden;  // panels, [rows / kLanes][steps][kLanes]
  int64_t rows;
  int64_t steps;
  const typename Of::Element* weight;  // rows of whole steps
  int64_t weight_stride;
  int64_t columns, first_column;
  const Real* bias;  // of the first column, null for none
  Real scale;  // of the bias
  Real product_scale;  // of the product: 1 where hidden is scaled already
  LogitMap map;
  Real cap;
  Real* out;
  int64_t out_stride;
  const Partial<Real>* partial;  // null: logits alone
};

// Mapped logits to gradients by the logits before the map, in place: block[column * stride + row]. Arrays have whole panels.
template <class Real> struct GradientBlock {
  Real* block;
  int64_t stride;
  int64_t columns, rows;
  const Real *lse_high, *lse_low;  // their sum is lse
  const Real *a, *b, *c, *d;  // b, c, d null if all are zeros
  LogitMap map;
  Real cap;
};

// out[i][j] (+)= sum_k left[i * row_stride + k * depth_stride] * panel[k][j], i < rows, k < depth steps, j < columns <= kLanes.
template <class Of> struct Product {
  const typename Of::Element* left;
  int64_t row_stride, depth_stride;
  const typename Of::Step* panel;
  int64_t rows, depth, columns;
  typename Of::Real* out;
  int64_t out_stride;
  bool add;
};

template <class Real> struct HeadKernels {
  int64_t lanes;  // kLanes of this level
  // [ceil(rows / lanes)][width][lanes] of factor * source; lanes past the last row are 0.
  void (*pack_rows)(const Source& source, int64_t rows, int64_t width, Real factor, Real* panels);
  // One panel [rows][lanes] of columns first ... first + count - 1; lanes past the last are 0.
  void (*pack_columns)(const Source& source, int64_t rows, int64_t first, int64_t count, Real factor, Real* panel);
  // [rows][width] of factor * source.
  void (*widen)(const Source& source, int64_t rows, int64_t width, Real factor, Real* out);
  // `count` values to a contiguous array of a format, rounded to nearest.
  void (*narrow)(const Real* values, int64_t count, Format format, void* out);
  void (*logits)(const LogitsBlock<Operands<Real>>& block);
  void (*form_gradient)(const GradientBlock<Real>& block);
  void (*product)(const Product<Operands<Real>>& product);
  // out[i] += factor * in[i].
  void (*add_scaled)(const Real* in, Real factor, int64_t count, Real* out);
  double (*sum)(const Real* values, int64_t count);
  // Zeroes values[i] with |values[i]| < bounds[i], after adding them to dropped[i]. Arrays have whole vectors. Returns how many of count are left.
  int64_t (*drop_small)(Real* values, const Real* bounds, int64_t count, Real* dropped);
  // Indices of values that are not 0; returns how many there are.
  int64_t (*find_nonzero)(const Real* values, int64_t count, int32_t* indices);
};

// Gradients by logits, [columns][stride] as in GradientBlock, rounded to bf16 in the layouts of both products. What completes the last pair and
// the last vector is 0, and so is an element with |x| > bound, which goes to `large` as long as there is room.
struct LargeElement {
  int64_t column, row;
  float value;
};
struct RoundedBlock {
  const float* block;
  int64_t stride;
  int64_t columns, rows;
  const float* bounds;  // [rows], whole vectors
  LargeElement* large;
  int64_t most_large;
  uint16_t* by_column;  // [columns][column_stride]: pairs of rows
  int64_t column_stride;
  uint32_t* by_row;  // [rows / lanes of a vector][row_steps][lanes]: pairs of columns
  int64_t row_steps;
};

// A tile of logits in 12 bits: what a logit is below the row's largest of the tile, as a float between 2 and 32 after adding 2, with 10 bits of
// its fraction. Steps are 2^-9 down to 2 below the largest, 2^-8 to 6, 2^-7 to 14 and 2^-6 to 30; the last code is for all that is below that.
constexpr float kCodeBase = 2;
constexpr uint32_t kCodeOrigin = 0x40000000, kLastCode = 4095;  // kCodeBase as a word
constexpr int kCodeShift = 13;  // bits of the fraction that are dropped
constexpr int64_t kCodeColumns = 8;  // columns whose upper 4 bits share a word
constexpr int64_t kCodeBytes = kBlockColumns * 12 / 8;  // of a row of a tile
struct CodedTile {
  float* block;  // [columns][stride]
  int64_t stride;
  int64_t columns, rows;
  uint8_t*
      codes;  // [rows / lanes of a vector][kBlockColumns / kCodeColumns] of [lanes] words of upper bits and [kCodeColumns][lanes] lower bytes
  float* largest;  // [rows], whole vectors
};

// As in HeadKernels, for pairs.
struct PairKernels {
  int64_t vector_lanes;  // rows of a vector
  void (*pack_rows)(const Source& source, int64_t rows, int64_t width, uint32_t* panels);
  void (*pack_columns)(const Source& source, int64_t rows, int64_t first, int64_t count, uint32_t* panel);
  void (*logits)(const LogitsBlock<Pairs>& block);
  int64_t (*round_gradient)(const RoundedBlock& block);  // how many large ones were taken
  void (*encode)(const CodedTile& tile);
  void (*decode)(const CodedTile& tile);  // -inf for the last code
  void (*product)(const Product<Pairs>& product);
};

// Tiles of two heads' logits, z of the first and w of the second: [column][stride] each, rows in lanes, whole vectors of them.
template <class Real> struct TwoTiles {
  Real *first, *second;
  int64_t stride;
  int64_t columns, rows;
};

// log-sum-exps of both heads, arrays over rows: their parts in Real, whose sum they are, and second - first.
template <class Real> struct TwoSoftmaxes {
  const Real *first_high, *first_low, *second_high, *second_low, *shift;
};

// Running sums of a divergence over a range of columns, arrays over rows.
template <class Real> struct DivergenceTile {
  TwoTiles<Real> tiles;
  DivergenceKind kind;
  Real mixture;
  TwoSoftmaxes<Real> softmaxes;  // of jensen_shannon
  Real *first_maximum, *second_maximum;  // of kl, as the next
  double *first_sum, *second_sum;  // of e^(z - maximum) and e^(w - maximum)
  double *forward, *reverse;  // kl: sums of e^(w - maximum) d and e^(z - maximum) d, d = z - w; else see DivergenceRows
};

// Tiles of logits to gradients by the logits before their maps, in place.
template <class Real> struct DivergenceGradient {
  TwoTiles<Real> tiles;
  DivergenceKind kind;
  Real mixture;
  TwoSoftmaxes<Real> softmaxes;
  const Real *by_forward, *by_reverse, *by_first_lse, *by_second_lse;  // upstream gradients; all but the first of kl alone
  const Real *forward_mean, *reverse_mean;  // kl: sums of q d and p d; jensen_shannon: KL(q || m) and KL(p || m)
  LogitMap first_map, second_map;
  Real first_cap, second_cap;
};

// combined = z + coefficient w where z >= least, else z; and the way back.
template <class Real> struct CombinedTile {
  TwoTiles<Real> tiles;
  Real coefficient;
  const Real* least;  // null for all
  Real* combined;  // [column][stride]; may be the first tile
  LogitMap first_map, second_map;
  Real first_cap, second_cap;
};

template <class Real> struct TwoHeadKernels {
  void (*add_divergence)(const DivergenceTile<Real>& tile);
  void (*divergence_gradient)(const DivergenceGradient<Real>& tile);
  void (*combine)(const CombinedTile<Real>& tile);
  // `combined` holds gradients by the combined logits; the tiles become gradients by both heads' logits before their maps.
  void (*divide)(const CombinedTile<Real>& tile);
  // Statistics of a tile [columns][stride] of logits of whole vectors of rows from column first_column on.
  void (*statistics)(const Real* tile, int64_t stride, int64_t columns, int64_t rows, int64_t first_column, const Partial<Real>& partial);
};

struct Kernels {
  const char* isa;
  double (*multiply_add_chains)(int64_t steps);  // see multiply_add_flops in slipstick/losses.h
  HeadKernels<float> in_float;
  HeadKernels<double> in_double;
  const PairKernels* of_pairs;  // null on levels that have no product of bf16 pairs
  TwoHeadKernels<float> two_heads_in_float;
  TwoHeadKernels<double> two_heads_in_double;
};
SLIPSTICK_DECLARE_KERNELS(Kernels, kernels)

template <class Real> const HeadKernels<Real>& head_kernels();
template <> inline const HeadKernels<float>& head_kernels<float>() { return active_kernels().in_float; }
template <> inline const HeadKernels<double>& head_kernels<double>() { return active_kernels().in_double; }
template <class Real> const TwoHeadKernels<Real>& two_head_kernels();
template <> inline const TwoHeadKernels<float>& two_head_kernels<float>() { return active_kernels().two_heads_in_float; }
template <> inline const TwoHeadKernels<double>& two_head_kernels<double>() { return active_kernels().two_heads_in_double; }

}  // namespace slipstick::losses
