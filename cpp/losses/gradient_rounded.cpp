// Rounded gradients of GradientStream: products of bf16 pairs.
#include <algorithm>
#include <cmath>

#include "losses/gradient_chunk.h"
#include "slipstick/threads.h"

namespace slipstick::losses {
namespace {

// Gradients in a group of rounded ones, where there are few rows: enough work between two waits of all threads for each other.
constexpr int64_t kGroupElements = int64_t{1} << 18;
// Workspaces from here on have room for that.
constexpr int64_t kGroupWorkspace = int64_t{16} << 20;
// Jobs of the gradient of hidden in a group, about: a job owns a panel of columns, and all rows if there are so many panels, as it packs the
// group's weights for them.
constexpr int64_t kHiddenJobs = 16;
// Panels of rows of a block between its logits and its rounded gradients: they stay in the first cache.
constexpr int64_t kStripPanels = 2;

}  // namespace

template <class Real> int64_t GradientStream<Real>::group_bytes(const BackwardOptions& options) {
  return options.workspace_bytes < kGroupWorkspace ? 0 : 4 * kGroupElements;
}

template <class Real> struct GradientStream<Real>::RoundedGroup {
  int64_t most_columns, column_stride;
  Buffer<uint16_t> by_column;  // see RoundedBlock
  Buffer<uint32_t> by_row;
  int64_t first, columns;  // where the group is
  std::vector<std::vector<LargeElement>> exact;  // of each block, columns from the group's first
  int64_t block_columns(int64_t block) const { return std::min(kBlockColumns, columns - block * kBlockColumns); }
};

template <class Real> void GradientStream<Real>::run_rounded(const Chunk& chunk) const {
  RoundedGroup group;
  const int64_t fitting = group_bytes(options_) / 4 / chunk.padded_count / kRoundedColumns;
  group.most_columns = kRoundedColumns * std::clamp<int64_t>(fitting, 1, round_up(blocks_, kRoundedBlocks) / kRoundedBlocks);
  group.column_stride = line_stride<uint16_t>(chunk.padded_count);
  group.by_column = Buffer<uint16_t>(group.most_columns * group.column_stride);
  group.by_row = Buffer<uint32_t>(group.most_columns / 2 * chunk.padded_count);
  group.exact.resize(static_cast<size_t>(group.most_columns / kBlockColumns));
  const int64_t parts = (kHiddenJobs + column_panels_ - 1) / std::max<int64_t>(column_panels_, 1);
  const int64_t job_rows = round_up(std::max<int64_t>(1, (chunk.count + parts - 1) / std::max<int64_t>(parts, 1)), kernels_.lanes);
  const int64_t hidden_jobs = out_.hidden ? round_up(chunk.count, job_rows) / job_rows * column_panels_ : 0;
  for (group.first = 0; group.first < head_.vocabulary; group.first += group.most_columns) {
    group.columns = std::min(group.most_columns, head_.vocabulary - group.first);
    const int64_t blocks = round_up(group.columns, kBlockColumns) / kBlockColumns, weight_jobs = out_.weight ? blocks : 0;
    for (auto& exact : group.exact) exact.clear();
    parallel_for(blocks, options_.threads, [&](int64_t block) { round_block(chunk, group, block); });
    parallel_for(weight_jobs + hidden_jobs, options_.threads, [&](int64_t job) {
      if (job < weight_jobs) return multiply_weight(chunk, group, job);
      const int64_t tile = job - weight_jobs;
      const int64_t first_row = tile / column_panels_ * job_rows;
      multiply_hidden(chunk, group, first_row, std::min(chunk.count, first_row + job_rows), tile % column_panels_);
    });
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

// Gradients by the logits of a block, rounded, and those of entries apart.
template <class Real> void GradientStream<Real>::round_block(const Chunk& chunk, RoundedGroup& group, int64_t number) const {
  const PairKernels& pairs = *pair_kernels(head_);
  const int64_t done = number * kBlockColumns, at = group.first + done, count = group.block_columns(number);
  const int64_t stride = chunk.logits.kept ? chunk.logits.stride : line_stride<Real>(chunk.padded_count);
  const Buffer<Real> buffer(chunk.logits.kept ? 0 : kBlockColumns * stride);
  Real* block = chunk.logits.kept ? chunk.logits.kept + at * stride : buffer.get();
  const int64_t row_steps = group.most_columns / 2;
  const bool coded = chunk.logits.coded && chunk.logits.coded->holds(at / kBlockColumns);
  if (!coded && !chunk.logits.kept) {
    const WeightTile<Real> tile(head_);
    stream_logits<Real>(head_, chunk.panels, 0, chunk.count, at, count, tile, block, stride, false, nullptr);
  }
  const auto begin = std::lower_bound(chunk.exact.begin(), chunk.exact.end(), at, before<LargeElement>);
  const auto end = std::lower_bound(begin, chunk.exact.end(), at + count, before<LargeElement>);
  std::vector<LargeElement>& exact = group.exact[static_cast<size_t>(number)];
  for (auto entry = begin; entry != end; ++entry) exact.push_back({entry->column - group.first, entry->row, entry->value});
  if constexpr (sizeof(Real) == 4) {
    const int64_t step = kStripPanels * kernels_.lanes, most = kMostLarge * step;
    const Buffer<LargeElement> large(most);
    for (int64_t row = 0; row < chunk.count; row += step) {
      const int64_t rows = std::min(step, chunk.count - row);
      if (coded) {
        CodedTile tile = chunk.logits.coded->tile(at / kBlockColumns, count, block, stride);
        tile.block += row;
        tile.rows = rows;
        tile.codes += row * kCodeBytes;
        tile.largest += row;
        pairs.decode(tile);
      }
      form_gradient(chunk, block, stride, count, row, rows);
      for (auto entry = begin; entry != end; ++entry) {
        if (entry->row >= row && entry->row < row + rows) block[(entry->column - at) * stride + entry->row] = 0;
      }
      for (int64_t v = 0; bias_sums_ && v < count; ++v) bias_sums_[at + v] += kernels_.sum(block + v * stride + row, rows);
      const RoundedBlock rounded{block + row,
                                 stride,
                                 count,
                                 rows,
                                 chunk.bounds.get() + row,
                                 large.get(),
                                 most,
                                 group.by_column.get() + done * group.column_stride + row,
                                 group.column_stride,
                                 group.by_row.get() + row * row_steps + done / 2 * pairs.vector_lanes,
                                 row_steps};
      const int64_t found = pairs.round_gradient(rounded);
      for (int64_t i = 0; i < found; ++i) exact.push_back({done + large[i].column, row + large[i].row, large[i].value});
    }
  }
  for (auto entry = begin; bias_sums_ && entry != end; ++entry) bias_sums_[entry->column] += static_cast<double>(entry->value);
}

// The rows of a block in the gradient of the weight.
template <class Real> void GradientStream<Real>::multiply_weight(const Chunk& chunk, const RoundedGroup& group, int64_t block) const {
  const int64_t width = head_.width, lanes = kernels_.lanes, done = block * kBlockColumns, at = group.first + done;
  const Buffer<Real> buffer(weight_sums_ ? 0 : kBlockColumns * width), row(width);
  Real* rows = weight_sums_ ? weight_sums_ + at * width : buffer.get();
  if constexpr (sizeof(Real) == 4) {
    Product<Pairs> product{};
    product.left = group.by_column.get() + done * group.column_stride;
    product.row_stride = group.column_stride;
    product.depth_stride = 2;
    product.rows = group.block_columns(block);
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
  for (const auto& exact : group.exact[static_cast<size_t>(block)]) {
    kernels_.widen(hidden_source(head_, chunk.rows + exact.row), 1, width, Real{1}, row.get());
    kernels_.add_scaled(row.get(), exact.value, width, rows + (exact.column - done) * width);
  }
  if (!weight_sums_) write_weight(rows, at, group.block_columns(block));
}

// A panel of columns of some rows in the gradient of hidden.
template <class Real>
void GradientStream<Real>::multiply_hidden(const Chunk& chunk, const RoundedGroup& group, int64_t first_row, int64_t end_row,
                                           int64_t panel) const {
  const int64_t width = head_.width, lanes = kernels_.lanes, first_column = panel * lanes, columns = std::min(lanes, width - first_column);
  Real* out = chunk.hidden.get() + first_column;
  if constexpr (sizeof(Real) == 4) {
    const PairKernels& pairs = *pair_kernels(head_);
    const int64_t step = pairs.vector_lanes, row_steps = group.most_columns / 2;
    const Buffer<uint32_t> weight(row_steps * lanes);
    pairs.pack_columns(weight_source(head_, group.first), group.columns, first_column, columns, weight.get());
    Product<Pairs> product{};
    product.row_stride = 2;
    product.depth_stride = 2 * step;
    product.depth = (group.columns + 1) / 2;
    product.out_stride = width;
    product.add = group.first > 0;
    product.panel = weight.get();
    product.columns = columns;
    for (int64_t row = first_row; row < end_row; row += step) {
      product.left = reinterpret_cast<const uint16_t*>(group.by_row.get() + row * row_steps);
      product.rows = std::min(step, end_row - row);
      product.out = out + row * width;
      pairs.product(product);
    }
  }
  const Buffer<Real> part(columns);
  for (const auto& of_block : group.exact) {
    for (const auto& exact : of_block) {
      if (exact.row < first_row || exact.row >= end_row) continue;
      Source weight = weight_source(head_, group.first + exact.column);
      weight.data = static_cast<const char*>(weight.data) + first_column * element_bytes(head_.format);
      kernels_.widen(weight, 1, columns, Real{1}, part.get());
      kernels_.add_scaled(part.get(), exact.value, columns, out + exact.row * width);
    }
  }
}

template int64_t GradientStream<float>::group_bytes(const BackwardOptions&);
template int64_t GradientStream<double>::group_bytes(const BackwardOptions&);
template void GradientStream<float>::run_rounded(const Chunk&) const;
template void GradientStream<double>::run_rounded(const Chunk&) const;
template void GradientStream<float>::take_entries(Chunk&) const;
template void GradientStream<double>::take_entries(Chunk&) const;

}  // namespace slipstick::losses
