// The streamed backward; gradient_stream.h has the plan.
#include "losses/gradient_stream.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "losses/gradient_chunk.h"
#include "slipstick/threads.h"

namespace slipstick::losses {
namespace {

// Above this share of survivors in a block the dense products are faster.
constexpr int64_t kDenseShare = 8;  // one in so many
// The share of the workspace that is for a list of what a filter leaves.
constexpr int64_t kListShare = 4;  // one in so many

double map_slope(LogitMap map, double z, double cap) {
  if (map == LogitMap::softcap) return (1 - z / cap) * (1 + z / cap);
  return map == LogitMap::stablemax ? std::exp(-std::abs(z)) : 1;
}

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

void ChunkCoefficients::sort() {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& x, const Entry& y) { return x.column != y.column ? x.column < y.column : x.row < y.row; });
}

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
  // The sum, pairs in two layouts, those of a group's gradients, a block of logits, and large elements.
  constexpr int64_t kBlock = 4 * kRoundedColumns + kReal * kBlockColumns + kMostLarge * static_cast<int64_t>(sizeof(LargeElement));
  return 2 * head.width * kReal + kBlock + 256;
}

template <class Real> int64_t GradientStream<Real>::accumulator_bytes(const Head& head) {
  return element_bytes(head.format) == sizeof(Real) ? 0 : head.vocabulary * head.width * static_cast<int64_t>(sizeof(Real));
}

template <class Real>
int64_t GradientStream<Real>::held_bytes(const Head& head, const Gradients& out, const BackwardOptions& options) {
  const int64_t sum = out.weight ? accumulator_bytes(head) : 0;
  return sum > 0 && options.filter_eps > 0 ? options.workspace_bytes / kListShare : sum;
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
    } else if (filtered_ && std::max(head.rows, head.vocabulary) <= std::numeric_limits<int32_t>::max()) {
      listing_ = true;
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
  chunk.sums = rounded ? 1 : kSlots;
  if (out_.hidden) chunk.hidden = Buffer<Real>(chunk.sums * count * head_.width);
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
  if (logits.rounded) {
    take_entries(chunk);
    run_rounded(chunk);
    return close(chunk);
  }
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
  std::vector<SlotRun> runs(kSlots);
  const auto run_all = [&] {
    parallel_for(kSlots, options_.threads, [&](int64_t slot) { run_slot(chunk, slot, runs[static_cast<size_t>(slot)]); });
  };
  run_all();
  if (listing_) {
    bool waiting = false;
    for (SlotRun& run : runs) {
      waiting = waiting || run.waits;
      run.list.shrink_to_fit();
      listed_ += static_cast<int64_t>(run.list.size());
      lists_.push_back(std::move(run.list));
    }
    if (waiting) {
      list_to_sum();
      run_all();
    }
  }
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
  if (out_.weight && !weight_sums_ && !listing_) scratch->weight_rows = Buffer<Real>(kBlockColumns * head_.width);
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

// Where a slot is. It waits before a block that cannot be listed, which is formed then.
template <class Real> struct GradientStream<Real>::SlotRun {
  std::shared_ptr<Scratch> scratch;
  int64_t done = 0;  // blocks
  bool waits = false, sparse = false;
  std::vector<Survivor> list;
};

template <class Real> void GradientStream<Real>::run_slot(const Chunk& chunk, int64_t slot, SlotRun& run) const {
  const int64_t begin = slot_begin(slot, blocks_), end = slot_begin(slot + 1, blocks_), width = head_.width;
  if (begin + run.done == end && begin < end) return;
  if (!run.scratch) {
    run.scratch = open_slot(chunk, slot, chunk.logits.kept ? chunk.logits.stride : line_stride<Real>(chunk.padded_count));
    if (!run.scratch) return;
    if (!chunk.logits.kept) run.scratch->block = Buffer<Real>(kBlockColumns * run.scratch->stride);
    if (filtered_) {
      if (accumulator_bytes(head_) > 0) run.scratch->weight = Buffer<Real>(kBlockColumns * width);
      run.scratch->indices = Buffer<int32_t>(chunk.padded_count);
      run.scratch->dropped = Buffer<Real>(chunk.padded_count);
    }
  }
  const Scratch& scratch = *run.scratch;
  // All slots together stay within what is left, so that no block waits for the speed of others.
  const int64_t room = options_.workspace_bytes / kListShare / static_cast<int64_t>(sizeof(Survivor)) - listed_;
  for (; begin + run.done < end; ++run.done) {
    const int64_t block = begin + run.done, first = block * kBlockColumns, columns = std::min(kBlockColumns, head_.vocabulary - first);
    if (!run.waits) run.sparse = form_block(chunk, scratch, slot, block);
    run.waits = listing_ && !(run.sparse && static_cast<int64_t>(run.list.size()) < room / kSlots);
    if (run.waits) return;
    const Real* gradients = block_at(chunk, scratch, block);
    const bool fresh = run.done == 0;
    if (run.sparse) {
      if (fresh && out_.hidden) std::fill_n(chunk.hidden.get() + slot * chunk.count * width, chunk.count * width, Real{0});
      apply_sparse(chunk, scratch, slot, first, columns, gradients, scratch.stride, listing_ ? &run.list : nullptr);
    } else {
      multiply(chunk, scratch, slot, first, columns, gradients, scratch.stride, fresh);
    }
  }
  run.scratch.reset();
}

template <class Real>
void GradientStream<Real>::form_gradient(const Chunk& chunk, Real* block, int64_t stride, int64_t columns, int64_t first_row,
                                         int64_t rows) const {
  const auto from = [&](const Buffer<Real>& values) { return values ? values.get() + first_row : nullptr; };
  GradientBlock<Real> gradient{};
  gradient.block = block + first_row;
  gradient.stride = stride;
  gradient.columns = columns;
  gradient.rows = rows;
  gradient.lse_high = from(chunk.lse_high);
  gradient.lse_low = from(chunk.lse_low);
  gradient.a = from(chunk.a);
  gradient.b = from(chunk.b);
  gradient.c = from(chunk.c);
  gradient.d = from(chunk.d);
  gradient.map = head_.map;
  gradient.cap = static_cast<Real>(head_.cap);
  kernels_.form_gradient(gradient);
}

template <class Real> Real* GradientStream<Real>::block_at(const Chunk& chunk, const Scratch& scratch, int64_t block) const {
  return chunk.logits.kept ? chunk.logits.kept + block * kBlockColumns * scratch.stride : scratch.block.get();
}

// Gradients by the logits of a block. Returns whether few are left.
template <class Real>
bool GradientStream<Real>::form_block(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t number) const {
  const int64_t first = number * kBlockColumns, columns = std::min(kBlockColumns, head_.vocabulary - first), stride = scratch.stride;
  Real* block = block_at(chunk, scratch, number);
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

  form_gradient(chunk, block, stride, columns, 0, chunk.count);

  const bool sparse = filtered_ && filter(chunk, scratch, slot, columns, block, stride) * kDenseShare < columns * chunk.count;
  for (auto entry = begin; entry != end; ++entry)
    block[(entry->column - first) * stride + entry->row] += values[static_cast<size_t>(entry - begin)];
  sum_bias(first, columns, block, chunk.count, stride);
  return sparse;
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

// To the slot's gradient of hidden, and to that of the weight or a list.
template <class Real>
void GradientStream<Real>::apply_sparse(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t first, int64_t columns,
                                        const Real* block, int64_t stride, std::vector<Survivor>* list) const {
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
      if (list) list->push_back({static_cast<int32_t>(first + v), static_cast<int32_t>(chunk.rows[n]), static_cast<float>(g)});
      if (out_.hidden) kernels_.add_scaled(weight + v * weight_stride, g, width, chunk.hidden.get() + (slot * chunk.count + n) * width);
    }
  }
}

// The listed elements of a block, chunk by chunk, to the rows of the weight's gradient.
template <class Real> void GradientStream<Real>::add_listed(int64_t block, Real* rows) const {
  const int64_t width = head_.width, first = block * kBlockColumns;
  const Buffer<Real> hidden(width);
  int64_t slot = 0;
  while (slot_begin(slot + 1, blocks_) <= block) ++slot;
  for (size_t i = static_cast<size_t>(slot); i < lists_.size(); i += kSlots) {
    for (auto at = std::lower_bound(lists_[i].begin(), lists_[i].end(), first, before<Survivor>);
         at != lists_[i].end() && at->column < first + kBlockColumns; ++at) {
      const int64_t row = at->row;
      kernels_.widen(hidden_source(head_, &row), 1, width, static_cast<Real>(head_.scale), hidden.get());
      kernels_.add_scaled(hidden.get(), static_cast<Real>(at->value), width, rows + (at->column - first) * width);
    }
  }
}

// For what cannot be listed.
template <class Real> void GradientStream<Real>::list_to_sum() {
  const int64_t width = head_.width;
  weight_buffer_ = Buffer<Real>(head_.vocabulary * width);
  weight_sums_ = weight_buffer_.get();
  parallel_for(blocks_, options_.threads, [&](int64_t block) {
    Real* rows = weight_sums_ + block * kBlockColumns * width;
    std::fill_n(rows, std::min(kBlockColumns, head_.vocabulary - block * kBlockColumns) * width, Real{0});
    add_listed(block, rows);
  });
  lists_.clear();
  listing_ = first_chunk_ = false;
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
    for (int64_t i = 1; i < chunk.sums; ++i) kernels_.add_scaled(sum + i * chunk.count * width, Real{1}, width, sum);
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
  } else if (out_.weight && (filtered_ || weight_buffer_)) {
    Buffer<Real> tail(filtered_ ? width : 0);
    for (int64_t k = 0; filtered_ && k < width; ++k) tail[k] = static_cast<Real>(tail_hidden_[static_cast<size_t>(k)]);
    parallel_for(blocks_, options_.threads, [&](int64_t block) {
      const int64_t first = block * kBlockColumns, columns = std::min(kBlockColumns, head_.vocabulary - first);
      const Buffer<Real> listed(listing_ ? columns * width : 0);
      Real* rows = listing_ ? listed.get() : weight_sums_ + first * width;
      if (listing_) {
        std::fill_n(rows, columns * width, Real{0});
        add_listed(block, rows);
      }
      for (int64_t v = 0; filtered_ && v < columns; ++v) kernels_.add_scaled(tail.get(), Real{1}, width, rows + v * width);
      if (listing_ || weight_buffer_) write_weight(rows, first, columns);
    });
  }
  if (!out_.bias) return;
  for (int64_t v = 0; v < head_.vocabulary; ++v) static_cast<Real*>(out_.bias)[v] = static_cast<Real>(bias_sums_[v] + tail_bias_);
}

template class GradientStream<float>;
template class GradientStream<double>;

}  // namespace slipstick::losses
