// The streamed backward; gradient_stream.h has the plan.
#include "losses/gradient_stream.h"

#include <algorithm>
#include <cmath>

#include "slipstick/threads.h"

namespace slipstick::losses {
namespace {

// Large elements of a block of columns, for each row: there are fewer than four in all blocks.
constexpr int64_t kMostLarge = 4;
// Above this share of survivors in a block the dense products are faster.
constexpr int64_t kDenseShare = 8;   // one in so many

double map_slope(LogitMap map, double z, double cap) {
  if (map == LogitMap::softcap) return (1 - z / cap) * (1 + z / cap);
  return map == LogitMap::stablemax ? std::exp(-std::abs(z)) : 1;
}

template <class Entry> bool before(const Entry& entry, int64_t column) { return entry.column < column; }

}  // namespace

void check_options(const char* where, const BackwardOptions& options) {
  const std::string name = where;
  if (!(options.filter_eps >= 0 && options.filter_eps < 1))
    throw_invalid(name + ": filter_eps is " + std::to_string(options.filter_eps) + "; expected at least 0 and below 1");
  if (options.workspace_bytes <= 0)
    throw_invalid(name + ": workspace is " + std::to_string(options.workspace_bytes) + "; expected a positive number of bytes");
}

void clear(const Head& head, const Gradients& out, const BackwardOptions& options) {
  if (out.hidden) std::fill_n(static_cast<char*>(out.hidden), head.rows * head.width * element_bytes(head.format), char{0});
  if (options.dropped) std::fill_n(options.dropped, head.rows, 0.0);
}

CodedLogits::CodedLogits(const Head& head, int64_t rows, void* weight_gradient, int64_t bytes)
    : blocks_(round_up(head.vocabulary, kBlockColumns) / kBlockColumns),
      rows_(rows),
      padded_rows_(round_up(rows, 32)),  // whole vectors
      vocabulary_(head.vocabulary),
      width_(head.width),
      weight_gradient_(static_cast<uint16_t*>(weight_gradient)) {
  const int64_t groups = round_up(round_up(blocks_, kSlots) / kSlots, kRoundedBlocks) / kRoundedBlocks;
  const int64_t row_bytes = padded_rows_ * static_cast<int64_t>(sizeof(float)), lent_each = groups * lent(kRoundedColumns);
  const int64_t left = bytes - lent_each * kSlots * row_bytes;
  any_ = left >= 0;
  if (!any_) return;
  own_each_ = std::min(left / (kBlockColumns * padded_rows_ * 2 + row_bytes), blocks_) / kSlots;
  codes_ = Buffer<uint16_t>(own_each_ * kSlots * padded_rows_ * kBlockColumns);
  largest_ = Buffer<float>((lent_each + own_each_) * kSlots * padded_rows_);
  lent_each_ = lent_each;
}

// Blocks whose codes fit the gradient of the weight for so many columns.
int64_t CodedLogits::lent(int64_t columns) const {
  return weight_gradient_ ? std::min(kRoundedBlocks, columns * width_ / (kBlockColumns * padded_rows_)) : 0;
}

CodedLogits::Place CodedLogits::place(int64_t block) const {
  if (!any_) return {};
  int64_t slot = 0;
  while (slot_begin(slot + 1, blocks_) <= block) ++slot;
  const int64_t begin = slot_begin(slot, blocks_), group = (block - begin) / kRoundedBlocks, within = (block - begin) % kRoundedBlocks;
  const int64_t first = (begin + group * kRoundedBlocks) * kBlockColumns;
  const int64_t end = std::min(slot_begin(slot + 1, blocks_) * kBlockColumns, vocabulary_);
  const int64_t lent_full = lent(kRoundedColumns), lent_here = lent(std::min(kRoundedColumns, end - first));
  float* largest = largest_.get() + slot * (lent_each_ + own_each_) * padded_rows_;
  if (within < lent_here)
    return {weight_gradient_ + first * width_ + within * kBlockColumns * padded_rows_,
            largest + (group * lent_full + within) * padded_rows_};
  const int64_t own = group * (kRoundedBlocks - lent_full) + within - lent_here;
  if (own >= own_each_) return {};
  return {codes_.get() + (slot * own_each_ + own) * kBlockColumns * padded_rows_, largest + (lent_each_ + own) * padded_rows_};
}

CodedTile CodedLogits::tile(int64_t block, int64_t columns, float* logits, int64_t stride) const {
  const Place at = place(block);
  return {logits, stride, columns, rows_, at.codes, at.largest};
}

void ChunkCoefficients::sort() {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& x, const Entry& y) { return x.column != y.column ? x.column < y.column : x.row < y.row; });
}

// Rows of hidden in the layouts of the products, coefficients as arrays, and one partial gradient of hidden a slot.
template <class Real> struct GradientStream<Real>::Chunk {
  const int64_t* rows;
  int64_t count, padded_count;
  const ChunkCoefficients* coefficients;
  Buffer<Real> lse_high, lse_low, a, b, c, d, bounds;
  HiddenPanels<Real> panels;   // for the logits
  Buffer<Real> column_panels;  // columns in lanes, for the gradient of weight
  Buffer<uint32_t> column_pairs;  // the same in pairs
  std::vector<LargeElement> exact;  // gradients of entries that are not rounded, in their order
  Buffer<Real> row_major;      // for the sparse products
  Buffer<Real> hidden;         // [kSlots][count][width]
  Buffer<double> dropped;      // [kSlots][padded_count]
  ChunkLogits<Real> logits;
  Real scale;  // what the sums are still to be multiplied by
};

template <class Real> struct GradientStream<Real>::Scratch {
  int64_t stride;
  explicit Scratch(const Head& head) : tile(head) {}
  WeightTile<Real> tile;
  Buffer<Real> block, panel, weight, weight_rows;
  Buffer<int32_t> indices;
  Buffer<Real> dropped;
};

template <class Real> int64_t GradientStream<Real>::bytes_per_row(const Head& head, bool rounded) {
  constexpr int64_t kReal = sizeof(Real);
  if (!rounded) return (kSlots + 3) * head.width * kReal + 256;
  // Two layouts of a block in bf16, a block of logits, and large elements.
  constexpr int64_t kBlock = 4 * kRoundedColumns + kReal * kBlockColumns + kMostLarge * static_cast<int64_t>(sizeof(LargeElement));
  return (kSlots + 1) * head.width * kReal + kBlock + 256;
}

template <class Real> int64_t GradientStream<Real>::accumulator_bytes(const Head& head) {
  return element_bytes(head.format) == sizeof(Real) ? 0 : head.vocabulary * head.width * static_cast<int64_t>(sizeof(Real));
}

template <class Real>
GradientStream<Real>::GradientStream(const Head& head, const Gradients& out, const BackwardOptions& options, bool more_chunks)
    : head_(head),
      out_(out),
      options_(options),
      kernels_(head_kernels<Real>()),
      blocks_(round_up(head.vocabulary, kBlockColumns) / kBlockColumns),
      column_panels_(round_up(head.width, kernels_.lanes) / kernels_.lanes),
      filtered_(options.filter_eps > 0) {
  if (out.weight) {
    if (accumulator_bytes(head) == 0) {
      weight_sums_ = static_cast<Real*>(out.weight);
    } else if (more_chunks || filtered_) {
      weight_buffer_ = Buffer<Real>(head.vocabulary * head.width);
      weight_sums_ = weight_buffer_.get();
    }
  }
  if (out.bias) {
    bias_sums_ = Buffer<double>(head.vocabulary);
    std::fill_n(bias_sums_.get(), head.vocabulary, 0.0);
  }
  if (filtered_) tail_hidden_.assign(static_cast<size_t>(head.width), 0.0);
}

// Rows of hidden as the products read them, and room for their gradient.
template <class Real> void GradientStream<Real>::lay_out(Chunk& chunk, const int64_t* rows, int64_t count, bool rounded) const {
  chunk.rows = rows;
  chunk.count = count;
  chunk.padded_count = round_up(count, kernels_.lanes);
  chunk.scale = rounded ? Real{1} : static_cast<Real>(head_.scale);
  const Source hidden = hidden_source(head_, rows);
  if (out_.weight) {
    const int64_t pairs = (count + 1) / 2;
    if (rounded) {
      chunk.column_pairs = Buffer<uint32_t>(column_panels_ * kernels_.lanes * pairs);
    } else {
      chunk.column_panels = Buffer<Real>(column_panels_ * kernels_.lanes * count);
    }
    parallel_for(column_panels_, count * head_.width < 1 << 16 ? 1 : options_.threads, [&](int64_t panel) {
      const int64_t first = panel * kernels_.lanes, columns = std::min(kernels_.lanes, head_.width - first);
      if (rounded) {
        pair_kernels(head_)->pack_columns(hidden, count, first, columns, chunk.column_pairs.get() + first * pairs);
      } else {
        kernels_.pack_columns(hidden, count, first, columns, static_cast<Real>(head_.scale), chunk.column_panels.get() + first * count);
      }
    });
  }
  if (out_.hidden) chunk.hidden = Buffer<Real>(kSlots * count * head_.width);
}

template <class Real>
void GradientStream<Real>::add(const int64_t* rows, int64_t count, const ChunkCoefficients& coefficients, const ChunkLogits<Real>& logits) {
  if (count == 0) return;
  Chunk chunk;
  lay_out(chunk, rows, count, logits.rounded);
  chunk.coefficients = &coefficients;
  chunk.logits = logits;
  split(coefficients.lse, chunk.padded_count, chunk.lse_high, chunk.lse_low);
  chunk.a = padded<Real>(coefficients.a, chunk.padded_count, 0);
  for (int64_t n = 0; logits.rounded && n < count; ++n) chunk.a[n] *= static_cast<Real>(head_.scale);
  chunk.b = padded<Real>(coefficients.b, chunk.padded_count, 0);
  chunk.c = padded<Real>(coefficients.c, chunk.padded_count, 0);
  // With a filter the even part travels with what was dropped, at no cost.
  if (!filtered_) chunk.d = padded<Real>(coefficients.d, chunk.padded_count, 0);
  if (!logits.kept) chunk.panels = pack_hidden<Real>(head_, rows, count, options_.threads);
  if (logits.rounded) take_entries(chunk);
  if (filtered_) {
    chunk.bounds = Buffer<Real>(chunk.padded_count);
    for (int64_t n = 0; n < chunk.padded_count; ++n)
      chunk.bounds[n] =
          n < count ? static_cast<Real>(options_.filter_eps * (std::abs(chunk.a[n]) + (chunk.b ? std::abs(chunk.b[n]) : 0))) : 0;
    chunk.row_major = Buffer<Real>(count * head_.width);
    kernels_.widen(hidden_source(head_, rows), count, head_.width, static_cast<Real>(head_.scale), chunk.row_major.get());
    chunk.dropped = Buffer<double>(kSlots * chunk.padded_count);
    std::fill_n(chunk.dropped.get(), kSlots * chunk.padded_count, 0.0);
  }
  parallel_for(kSlots, options_.threads, [&](int64_t slot) { run_slot(chunk, slot); });
  close(chunk);
}

template <class Real> auto GradientStream<Real>::open(const int64_t* rows, int64_t count) const -> std::shared_ptr<Chunk> {
  const auto chunk = std::make_shared<Chunk>();
  lay_out(*chunk, rows, count, false);
  return chunk;
}

template <class Real>
auto GradientStream<Real>::open_slot(const Chunk& chunk, int64_t slot, int64_t stride) const -> std::shared_ptr<Scratch> {
  if (slot_begin(slot, blocks_) == slot_begin(slot + 1, blocks_)) {
    if (out_.hidden) std::fill_n(chunk.hidden.get() + slot * chunk.count * head_.width, chunk.count * head_.width, Real{0});
    return nullptr;
  }
  const auto scratch = std::make_shared<Scratch>(head_);
  scratch->stride = stride;
  scratch->panel = Buffer<Real>(kBlockColumns * kernels_.lanes);
  if (out_.weight && !weight_sums_) scratch->weight_rows = Buffer<Real>(kBlockColumns * head_.width);
  return scratch;
}

template <class Real>
void GradientStream<Real>::add_block(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t block, const Real* gradients) const {
  const int64_t first = block * kBlockColumns, columns = std::min(kBlockColumns, head_.vocabulary - first);
  sum_bias(first, columns, gradients, chunk.count, scratch.stride);
  multiply(chunk, scratch, slot, first, columns, gradients, scratch.stride, block == slot_begin(slot, blocks_));
}

template <class Real> void GradientStream<Real>::close(const Chunk& chunk) {
  if (out_.hidden) finish_hidden(chunk);
  if (filtered_) spread_dropped(chunk);
  first_chunk_ = false;
}

template <class Real> void GradientStream<Real>::run_slot(const Chunk& chunk, int64_t slot) const {
  const int64_t begin = slot_begin(slot, blocks_), end = slot_begin(slot + 1, blocks_);
  if (chunk.logits.rounded && begin < end) return run_rounded_slot(chunk, slot);
  const auto scratch = open_slot(chunk, slot, chunk.logits.kept ? chunk.logits.stride : line_stride<Real>(chunk.padded_count));
  if (!scratch) return;
  if (!chunk.logits.kept) scratch->block = Buffer<Real>(kBlockColumns * scratch->stride);
  if (filtered_) {
    if (accumulator_bytes(head_) > 0) scratch->weight = Buffer<Real>(kBlockColumns * head_.width);
    scratch->indices = Buffer<int32_t>(chunk.padded_count);
    scratch->dropped = Buffer<Real>(chunk.padded_count);
  }
  for (int64_t block = begin; block < end; ++block) run_block(chunk, *scratch, slot, block * kBlockColumns, block == begin);
}

template <class Real>
void GradientStream<Real>::form_gradient(const Chunk& chunk, Real* block, int64_t stride, int64_t columns) const {
  GradientBlock<Real> gradient{};
  gradient.block = block;
  gradient.stride = stride;
  gradient.columns = columns;
  gradient.rows = chunk.count;
  gradient.lse_high = chunk.lse_high.get();
  gradient.lse_low = chunk.lse_low.get();
  gradient.a = chunk.a.get();
  gradient.b = chunk.b.get();
  gradient.c = chunk.c.get();
  gradient.d = chunk.d.get();
  gradient.map = head_.map;
  gradient.cap = static_cast<Real>(head_.cap);
  kernels_.form_gradient(gradient);
}

template <class Real>
void GradientStream<Real>::run_block(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t first, bool fresh) const {
  const int64_t columns = std::min(kBlockColumns, head_.vocabulary - first), stride = scratch.stride;
  Real* block = chunk.logits.kept ? chunk.logits.kept + first * stride : scratch.block.get();
  if (!chunk.logits.kept)
    stream_logits<Real>(head_, chunk.panels, 0, chunk.count, first, columns, scratch.tile, block, stride, false, nullptr);

  // Single entries see the logit before it becomes a gradient, through the slope of the map.
  const auto& entries = chunk.coefficients->entries;
  const auto begin = std::lower_bound(entries.begin(), entries.end(), first, before<ChunkCoefficients::Entry>);
  const auto end = std::lower_bound(begin, entries.end(), first + columns, before<ChunkCoefficients::Entry>);
  std::vector<Real> values;
  values.reserve(static_cast<size_t>(end - begin));
  for (auto entry = begin; entry != end; ++entry)
    values.push_back(
        static_cast<Real>(entry->value * map_slope(head_.map, block[(entry->column - first) * stride + entry->row], head_.cap)));

  form_gradient(chunk, block, stride, columns);

  const bool sparse = filtered_ && filter(chunk, scratch, slot, columns, block, stride) * kDenseShare < columns * chunk.count;
  for (auto entry = begin; entry != end; ++entry)
    block[(entry->column - first) * stride + entry->row] += values[static_cast<size_t>(entry - begin)];
  sum_bias(first, columns, block, chunk.count, stride);
  if (sparse) {
    if (fresh && out_.hidden) std::fill_n(chunk.hidden.get() + slot * chunk.count * head_.width, chunk.count * head_.width, Real{0});
    apply_sparse(chunk, scratch, slot, first, columns, block, stride);
  } else {
    multiply(chunk, scratch, slot, first, columns, block, stride, fresh);
  }
}

template <class Real>
void GradientStream<Real>::multiply(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t first, int64_t columns,
                                    const Real* block, int64_t stride, bool fresh) const {
  const int64_t width = head_.width, lanes = kernels_.lanes;
  Real* weight_rows = weight_sums_ ? weight_sums_ + first * width : scratch.weight_rows.get();
  Product<Operands<Real>> product{};
  product.left = block;
  product.out_stride = width;
  if (out_.weight) {
    product.row_stride = stride;
    product.depth_stride = 1;
    product.rows = columns;
    product.depth = chunk.count;
    product.add = weight_sums_ && !first_chunk_;
    for (int64_t panel = 0; panel < column_panels_; ++panel) {
      product.panel = chunk.column_panels.get() + panel * lanes * chunk.count;
      product.columns = std::min(lanes, width - panel * lanes);
      product.out = weight_rows + panel * lanes;
      kernels_.product(product);
    }
    if (!weight_sums_) write_weight(weight_rows, first, columns);
  }
  if (!out_.hidden) return;
  product.row_stride = 1;
  product.depth_stride = stride;
  product.rows = chunk.count;
  product.depth = columns;
  product.add = !fresh;
  product.panel = scratch.panel.get();
  for (int64_t panel = 0; panel < column_panels_; ++panel) {
    product.columns = std::min(lanes, width - panel * lanes);
    kernels_.pack_columns(weight_source(head_, first), columns, panel * lanes, product.columns, Real{1}, scratch.panel.get());
    product.out = chunk.hidden.get() + slot * chunk.count * width + panel * lanes;
    kernels_.product(product);
  }
}

template <class Real>
void GradientStream<Real>::sum_bias(int64_t first, int64_t columns, const Real* block, int64_t rows, int64_t stride) const {
  if (!bias_sums_) return;
  for (int64_t v = 0; v < columns; ++v) bias_sums_[first + v] += kernels_.sum(block + v * stride, rows) * head_.scale;
}

template <class Real> void GradientStream<Real>::write_weight(const Real* rows, int64_t first, int64_t columns) const {
  char* out = static_cast<char*>(out_.weight) + first * head_.width * element_bytes(head_.format);
  kernels_.narrow(rows, columns * head_.width, head_.format, out);
}

// Zeroes what is small in the block and adds it to the slot's sums. Returns how many elements are left.
template <class Real>
int64_t GradientStream<Real>::filter(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t columns, Real* block,
                                     int64_t stride) const {
  int64_t left = 0;
  std::fill_n(scratch.dropped.get(), chunk.padded_count, Real{0});
  for (int64_t v = 0; v < columns; ++v)
    left += kernels_.drop_small(block + v * stride, chunk.bounds.get(), chunk.count, scratch.dropped.get());
  double* dropped = chunk.dropped.get() + slot * chunk.padded_count;
  for (int64_t n = 0; n < chunk.count; ++n) dropped[n] += static_cast<double>(scratch.dropped[n]);
  return left;
}

template <class Real>
void GradientStream<Real>::apply_sparse(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t first, int64_t columns,
                                        const Real* block, int64_t stride) const {
  const int64_t width = head_.width;
  const Source source = weight_source(head_, first);
  const Real* weight = static_cast<const Real*>(source.data);
  int64_t weight_stride = source.stride;
  if (scratch.weight) {
    kernels_.widen(source, columns, width, Real{1}, scratch.weight.get());
    weight = scratch.weight.get();
    weight_stride = width;
  }
  for (int64_t v = 0; v < columns; ++v) {
    Real* weight_row = weight_sums_ ? weight_sums_ + (first + v) * width : nullptr;
    if (weight_row && first_chunk_) std::fill_n(weight_row, width, Real{0});
    const int64_t found = kernels_.find_nonzero(block + v * stride, chunk.count, scratch.indices.get());
    for (int64_t i = 0; i < found; ++i) {
      const int64_t n = scratch.indices[i];
      const Real g = block[v * stride + n];
      if (weight_row) kernels_.add_scaled(chunk.row_major.get() + n * width, g, width, weight_row);
      if (out_.hidden) kernels_.add_scaled(weight + v * weight_stride, g, width, chunk.hidden.get() + (slot * chunk.count + n) * width);
    }
  }
}

// ---- rounded gradients: products of bf16 pairs ------------------------------------------------------------------------------------------------

template <class Real> struct GradientStream<Real>::RoundedScratch {
  explicit RoundedScratch(const Head& head) : tile(head) {}
  WeightTile<Real> tile;
  int64_t stride, column_stride, panel_stride;
  Buffer<Real> block, weight_rows, row;
  Buffer<uint16_t> by_column;
  Buffer<uint32_t> by_row, panel;
  mutable std::vector<LargeElement> exact;  // columns from the block's first
};

template <class Real> void GradientStream<Real>::run_rounded_slot(const Chunk& chunk, int64_t slot) const {
  RoundedScratch scratch(head_);
  scratch.stride = chunk.logits.kept ? chunk.logits.stride : line_stride<Real>(chunk.padded_count);
  scratch.column_stride = line_stride<uint16_t>(chunk.padded_count);
  scratch.panel_stride = kRoundedColumns / 2 * kernels_.lanes;
  if (!chunk.logits.kept) scratch.block = Buffer<Real>(kBlockColumns * scratch.stride);
  if (out_.weight && !weight_sums_) scratch.weight_rows = Buffer<Real>(kRoundedColumns * head_.width);
  scratch.row = Buffer<Real>(head_.width);
  scratch.by_column = Buffer<uint16_t>(kRoundedColumns * scratch.column_stride);
  scratch.by_row = Buffer<uint32_t>(kRoundedColumns / 2 * chunk.padded_count);
  scratch.panel = Buffer<uint32_t>(scratch.panel_stride);
  const int64_t begin = slot_begin(slot, blocks_) * kBlockColumns;
  const int64_t end = std::min(slot_begin(slot + 1, blocks_) * kBlockColumns, head_.vocabulary);
  for (int64_t first = begin; first < end; first += kRoundedColumns) {
    const int64_t columns = std::min(kRoundedColumns, end - first);
    round_block(chunk, scratch, first, columns);
    if (out_.weight) multiply_weight(chunk, scratch, first, columns);
    if (out_.hidden) multiply_hidden(chunk, scratch, slot, first, columns, first == begin);
  }
}

// Gradients of the entries, and what is large beside them: a quarter of what the other elements of the row sum up to. With fewer than four
// larger ones, those that are rounded have less than a fifth of the sum of squares.
template <class Real> void GradientStream<Real>::take_entries(Chunk& chunk) const {
  const auto& entries = chunk.coefficients->entries;
  chunk.bounds = Buffer<Real>(chunk.padded_count);
  std::fill_n(chunk.bounds.get(), chunk.padded_count, Real{0});
  chunk.exact.resize(entries.size());
  parallel_for(static_cast<int64_t>(entries.size()), options_.threads, [&](int64_t i) {
    const auto& entry = entries[static_cast<size_t>(i)];
    double z = entry.logit;
    if (std::isnan(z) && chunk.panels.pairs) {   // with kept logits it is one that is not a number
      const int64_t panel = entry.row / kernels_.lanes, lane = entry.row % kernels_.lanes;
      const WeightTile<Real> weight(head_);
      const Buffer<Real> rows(kernels_.lanes);
      stream_logits<Real>(head_, chunk.panels, panel, lane + 1, entry.column, 1, weight, rows.get(), kernels_.lanes, false, nullptr);
      z = static_cast<double>(rows[lane]);
    }
    const size_t row = static_cast<size_t>(entry.row);
    const double a = chunk.coefficients->a[row], p = std::exp(z - chunk.coefficients->lse[row]);
    chunk.exact[static_cast<size_t>(i)] = {entry.column, entry.row, static_cast<float>((a * p + entry.value) * head_.scale)};
    chunk.bounds[entry.row] = static_cast<Real>(std::abs(a * (1 - p) * head_.scale) / 4);
  });
}

// Gradients by the logits of some columns, rounded, and those of entries apart.
template <class Real>
void GradientStream<Real>::round_block(const Chunk& chunk, const RoundedScratch& scratch, int64_t first, int64_t columns) const {
  const PairKernels& pairs = *pair_kernels(head_);
  scratch.exact.clear();
  for (int64_t done = 0; done < columns; done += kBlockColumns) {
    const int64_t at = first + done, count = std::min(kBlockColumns, columns - done), stride = scratch.stride;
    Real* block = chunk.logits.kept ? chunk.logits.kept + at * stride : scratch.block.get();
    if (chunk.logits.coded && chunk.logits.coded->holds(at / kBlockColumns)) {
      if constexpr (sizeof(Real) == 4) pairs.decode(chunk.logits.coded->tile(at / kBlockColumns, count, block, stride));
    } else if (!chunk.logits.kept) {
      stream_logits<Real>(head_, chunk.panels, 0, chunk.count, at, count, scratch.tile, block, stride, false, nullptr);
    }
    form_gradient(chunk, block, stride, count);
    const size_t first_exact = scratch.exact.size();
    for (auto entry = std::lower_bound(chunk.exact.begin(), chunk.exact.end(), at, before<LargeElement>); entry != chunk.exact.end();
         ++entry) {
      if (entry->column >= at + count) break;
      block[(entry->column - at) * stride + entry->row] = 0;
      scratch.exact.push_back({entry->column - first, entry->row, entry->value});
    }
    if (bias_sums_) {
      for (int64_t v = 0; v < count; ++v) bias_sums_[at + v] += kernels_.sum(block + v * stride, chunk.count);
      for (size_t i = first_exact; i < scratch.exact.size(); ++i)
        bias_sums_[first + scratch.exact[i].column] += static_cast<double>(scratch.exact[i].value);
    }
    if constexpr (sizeof(Real) == 4) {
      const size_t known = scratch.exact.size(), most = static_cast<size_t>(kMostLarge * chunk.padded_count);
      scratch.exact.resize(known + most);
      const RoundedBlock rounded{block,
                                 stride,
                                 count,
                                 chunk.count,
                                 chunk.bounds.get(),
                                 scratch.exact.data() + known,
                                 static_cast<int64_t>(most),
                                 scratch.by_column.get() + done * scratch.column_stride,
                                 scratch.column_stride,
                                 scratch.by_row.get() + done / 2 * kernels_.lanes,
                                 scratch.panel_stride};
      scratch.exact.resize(known + static_cast<size_t>(pairs.round_gradient(rounded)));
      for (size_t i = known; i < scratch.exact.size(); ++i) scratch.exact[i].column += done;
    }
  }
}

template <class Real>
void GradientStream<Real>::multiply_weight(const Chunk& chunk, const RoundedScratch& scratch, int64_t first, int64_t columns) const {
  const int64_t width = head_.width, lanes = kernels_.lanes;
  Real* rows = weight_sums_ ? weight_sums_ + first * width : scratch.weight_rows.get();
  if constexpr (sizeof(Real) == 4) {
    Product<Pairs> product{};
    product.left = scratch.by_column.get();
    product.row_stride = scratch.column_stride;
    product.depth_stride = 2;
    product.rows = columns;
    product.depth = (chunk.count + 1) / 2;
    product.out_stride = width;
    product.add = weight_sums_ && !first_chunk_;
    for (int64_t panel = 0; panel < column_panels_; ++panel) {
      product.panel = chunk.column_pairs.get() + panel * lanes * product.depth;
      product.columns = std::min(lanes, width - panel * lanes);
      product.out = rows + panel * lanes;
      pair_kernels(head_)->product(product);
    }
  }
  for (const auto& exact : scratch.exact) {
    kernels_.widen(hidden_source(head_, chunk.rows + exact.row), 1, width, Real{1}, scratch.row.get());
    kernels_.add_scaled(scratch.row.get(), exact.value, width, rows + exact.column * width);
  }
  if (!weight_sums_) write_weight(rows, first, columns);
}

template <class Real>
void GradientStream<Real>::multiply_hidden(const Chunk& chunk, const RoundedScratch& scratch, int64_t slot, int64_t first, int64_t columns,
                                           bool fresh) const {
  const int64_t width = head_.width, lanes = kernels_.lanes;
  Real* out = chunk.hidden.get() + slot * chunk.count * width;
  if constexpr (sizeof(Real) == 4) {
    const PairKernels& pairs = *pair_kernels(head_);
    Product<Pairs> product{};
    product.row_stride = 2;
    product.depth_stride = 2 * lanes;
    product.depth = (columns + 1) / 2;
    product.out_stride = width;
    product.add = !fresh;
    product.panel = scratch.panel.get();
    for (int64_t panel = 0; panel < column_panels_; ++panel) {
      product.columns = std::min(lanes, width - panel * lanes);
      pairs.pack_columns(weight_source(head_, first), columns, panel * lanes, product.columns, scratch.panel.get());
      for (int64_t row = 0; row < chunk.count; row += lanes) {
        product.left = reinterpret_cast<const uint16_t*>(scratch.by_row.get() + row / lanes * scratch.panel_stride);
        product.rows = std::min(lanes, chunk.count - row);
        product.out = out + row * width + panel * lanes;
        pairs.product(product);
      }
    }
  }
  for (const auto& exact : scratch.exact) {
    kernels_.widen(weight_source(head_, first + exact.column), 1, width, Real{1}, scratch.row.get());
    kernels_.add_scaled(scratch.row.get(), exact.value, width, out + exact.row * width);
  }
}

// ---- the ends ---------------------------------------------------------------------------------------------------------------------------------

template <class Real> const std::vector<double>& GradientStream<Real>::weight_sum() {
  if (!column_sum_.empty() || head_.width == 0) return column_sum_;
  const int64_t width = head_.width;
  std::vector<double> slots(static_cast<size_t>(kSlots * width), 0.0);
  parallel_for(kSlots, options_.threads, [&](int64_t slot) {
    const Buffer<Real> row(width);
    double* sums = slots.data() + slot * width;
    for (int64_t v = slot * head_.vocabulary / kSlots, end = (slot + 1) * head_.vocabulary / kSlots; v < end; ++v) {
      kernels_.widen(weight_source(head_, v), 1, width, Real{1}, row.get());
      for (int64_t k = 0; k < width; ++k) sums[k] += static_cast<double>(row[k]);
    }
  });
  column_sum_.assign(static_cast<size_t>(width), 0.0);
  for (size_t i = 0; i < slots.size(); ++i) column_sum_[i % static_cast<size_t>(width)] += slots[i];
  return column_sum_;
}

// Adds the slots and writes the chunk's rows; with a filter, what was dropped goes to all classes evenly.
template <class Real> void GradientStream<Real>::finish_hidden(const Chunk& chunk) {
  const int64_t width = head_.width;
  const double* column_sum = filtered_ ? weight_sum().data() : nullptr;
  parallel_for(chunk.count, chunk.count * width < 1 << 14 ? 1 : options_.threads, [&](int64_t n) {
    Real* sum = chunk.hidden.get() + n * width;
    for (int64_t slot = 1; slot < kSlots; ++slot) kernels_.add_scaled(sum + slot * chunk.count * width, Real{1}, width, sum);
    double even = 0;
    if (filtered_) {
      for (int64_t slot = 0; slot < kSlots; ++slot) even += chunk.dropped[slot * chunk.padded_count + n];
      even /= static_cast<double>(head_.vocabulary);
      if (!chunk.coefficients->d.empty()) even += chunk.coefficients->d[static_cast<size_t>(n)];
    }
    for (int64_t k = 0; k < width; ++k) {
      if (filtered_) sum[k] += static_cast<Real>(even * column_sum[k]);
      sum[k] *= chunk.scale;
    }
    kernels_.narrow(sum, width, head_.format, static_cast<char*>(out_.hidden) + chunk.rows[n] * width * element_bytes(head_.format));
  });
}

template <class Real> void GradientStream<Real>::spread_dropped(const Chunk& chunk) {
  for (int64_t n = 0; n < chunk.count; ++n) {
    double dropped = 0;
    for (int64_t slot = 0; slot < kSlots; ++slot) dropped += chunk.dropped[slot * chunk.padded_count + n];
    if (options_.dropped) options_.dropped[chunk.rows[n]] = dropped;
    double even = dropped / static_cast<double>(head_.vocabulary);
    if (!chunk.coefficients->d.empty()) even += chunk.coefficients->d[static_cast<size_t>(n)];
    tail_bias_ += even * head_.scale;
    const Real* row = chunk.row_major.get() + n * head_.width;
    for (int64_t k = 0; k < head_.width; ++k) tail_hidden_[static_cast<size_t>(k)] += even * static_cast<double>(row[k]);
  }
}

template <class Real> void GradientStream<Real>::finish() {
  const int64_t width = head_.width;
  if (out_.weight && first_chunk_) {   // no rows
    std::fill_n(static_cast<char*>(out_.weight), head_.vocabulary * width * element_bytes(head_.format), char{0});
  } else if (out_.weight && weight_sums_) {
    Buffer<Real> tail(filtered_ ? width : 0);
    for (int64_t k = 0; filtered_ && k < width; ++k) tail[k] = static_cast<Real>(tail_hidden_[static_cast<size_t>(k)]);
    if (filtered_ || weight_buffer_) {
      parallel_for(blocks_, options_.threads, [&](int64_t block) {
        const int64_t first = block * kBlockColumns, columns = std::min(kBlockColumns, head_.vocabulary - first);
        Real* rows = weight_sums_ + first * width;
        for (int64_t v = 0; filtered_ && v < columns; ++v) kernels_.add_scaled(tail.get(), Real{1}, width, rows + v * width);
        if (weight_buffer_) write_weight(rows, first, columns);
      });
    }
  }
  if (!out_.bias) return;
  for (int64_t v = 0; v < head_.vocabulary; ++v) static_cast<Real*>(out_.bias)[v] = static_cast<Real>(bias_sums_[v] + tail_bias_);
}

template class GradientStream<float>;
template class GradientStream<double>;

}  // namespace slipstick::losses
