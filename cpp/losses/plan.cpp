// Checks, packing of operands, and the merge of partial statistics in the order of the grid.
#include "losses/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "slipstick/error.h"
#include "slipstick/threads.h"

namespace slipstick::losses {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

template <class T> Buffer<T> filled(bool wanted, int64_t size, T value) {
  if (!wanted) return {};
  Buffer<T> buffer(size);
  std::fill_n(buffer.get(), size, value);
  return buffer;
}

template <class T> void fill(T* values, int64_t count, T value) {
  if (values) std::fill_n(values, count, value);
}

}  // namespace

void throw_invalid(const std::string& message) { throw Error(ErrorKind::invalid_argument, message); }

void check_head(const char* where, const Head& head) {
  const std::string name = where;
  if (head.rows < 0 || head.width < 0 || head.vocabulary < 0) throw_invalid(name + ": a size is negative; expected 0 or more");
  if (head.rows > 0 && head.vocabulary == 0) throw_invalid(name + ": weight has 0 rows; expected at least one class");
  if (head.map == LogitMap::softcap && !(head.cap > 0 && head.cap < kInfinite))
    throw_invalid(name + ": softcap is " + std::to_string(head.cap) + "; expected a positive finite number");
  if (!(std::abs(head.scale) < kInfinite)) throw_invalid(name + ": scale is " + std::to_string(head.scale) + "; expected a finite number");
}

void check_statistics(const char* where, const Head& head, const Targets& targets, const Statistics& out) {
  const std::string name = where;
  if (out.target && !targets.index && head.rows > 0) throw_invalid(name + ": targets is None; expected targets, as 'target' is wanted");
  if (out.topk < 0 || out.topk > std::min(kMaxTopk, std::max<int64_t>(head.vocabulary, 0)))
    throw_invalid(name + ": topk is " + std::to_string(out.topk) + "; expected 0 to " +
                  std::to_string(std::min(kMaxTopk, head.vocabulary)) + ", the least of " + std::to_string(kMaxTopk) +
                  " and the vocabulary");
}

void clear_statistics(const Head& head, const Statistics& out) {
  for (double* values : {out.target, out.lse, out.mean, out.second_moment, out.expected, out.maximum}) fill(values, head.rows, 0.0);
  fill(out.argmax, head.rows, int64_t{-1});
  fill(out.top_values, head.rows * out.topk, 0.0);
  fill(out.top_indices, head.rows * out.topk, int64_t{-1});
}

std::vector<int64_t> kept_rows(const char* where, const Head& head, const Targets& targets) {
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(head.rows));
  for (int64_t row = 0; row < head.rows; ++row) {
    if (targets.index) {
      const int64_t target = targets.index[row];
      if (target == targets.ignore) continue;
      if (target < 0 || target >= head.vocabulary)
        throw_invalid(std::string(where) + ": targets[" + std::to_string(row) + "] is " + std::to_string(target) + "; expected 0 to " +
                      std::to_string(head.vocabulary - 1) + " or ignore_index (" + std::to_string(targets.ignore) + ")");
    }
    rows.push_back(row);
  }
  return rows;
}

template <class Real> HiddenPanels<Real> pack_hidden(const Head& head, const int64_t* rows, int64_t count, int threads) {
  const HeadKernels<Real>& kernels = head_kernels<Real>();
  const PairKernels* of_pairs = pair_kernels(head);
  const int64_t step = kernels.lanes, pairs = (head.width + 1) / 2;
  HiddenPanels<Real> panels;
  if (of_pairs) {
    panels.pairs = Buffer<uint32_t>(round_up(count, step) * pairs);
  } else {
    panels.values = Buffer<Real>(round_up(count, step) * head.width);
  }
  parallel_for(round_up(count, step) / step, count * head.width < 1 << 16 ? 1 : threads, [&](int64_t panel) {
    const int64_t first = panel * step, left = std::min(step, count - first);
    const Source source = hidden_source(head, rows + first);
    if (of_pairs) {
      of_pairs->pack_rows(source, left, head.width, panels.pairs.get() + first * pairs);
    } else {
      kernels.pack_rows(source, left, head.width, static_cast<Real>(head.scale), panels.values.get() + first * head.width);
    }
  });
  return panels;
}

template <class Real> WeightTile<Real>::WeightTile(const Head& head) {
  if (pair_kernels(head)) {
    if (head.width % 2 != 0) halves = Buffer<uint16_t>(kTileColumns * (head.width + 1));
  } else if (element_bytes(head.format) != sizeof(Real)) {
    values = Buffer<Real>(kTileColumns * head.width);
  }
}

namespace {

// What both kinds of operands have alike.
template <class Of, class Real>
LogitsBlock<Of> logits_block(const Head& head, int64_t rows, int64_t first, int64_t columns, Real* out, int64_t out_stride,
                             const Partial<Real>* partial) {
  LogitsBlock<Of> block{};
  block.rows = rows;
  block.columns = columns;
  block.first_column = first;
  block.bias = head.bias ? static_cast<const Real*>(head.bias) + first : nullptr;
  block.scale = static_cast<Real>(head.scale);
  block.map = head.map;
  block.cap = static_cast<Real>(head.cap);
  block.out = out;
  block.out_stride = out_stride;
  block.partial = partial;
  return block;
}

// Rows of whole pairs.
void pad_rows(const Source& source, int64_t rows, int64_t width, uint16_t* out) {
  const uint16_t* from = static_cast<const uint16_t*>(source.data);
  for (int64_t row = 0; row < rows; ++row) {
    std::copy_n(from + row * source.stride, width, out + row * (width + 1));
    out[row * (width + 1) + width] = 0;
  }
}

}  // namespace

template <class Real>
void stream_logits(const Head& head, const HiddenPanels<Real>& panels, int64_t first_panel, int64_t rows, int64_t first, int64_t columns,
                   const WeightTile<Real>& tile, Real* out, int64_t out_stride, bool reuse_out, const Partial<Real>* partial) {
  const HeadKernels<Real>& kernels = head_kernels<Real>();
  const int64_t first_row = first_panel * kernels.lanes;
  for (int64_t column = 0; column < columns; column += kTileColumns) {
    const int64_t count = std::min(kTileColumns, columns - column);
    const Source weight = weight_source(head, first + column);
    Real* at = out + (reuse_out ? 0 : column * out_stride);
    if constexpr (sizeof(Real) == 4) {
      if (panels.pairs) {
        auto block = logits_block<Pairs, Real>(head, rows, first + column, count, at, out_stride, partial);
        block.steps = (head.width + 1) / 2;
        block.hidden = panels.pairs.get() + first_row * block.steps;
        block.weight = static_cast<const uint16_t*>(weight.data);
        block.weight_stride = weight.stride;
        if (tile.halves) {
          pad_rows(weight, count, head.width, tile.halves.get());
          block.weight = tile.halves.get();
          block.weight_stride = head.width + 1;
        }
        block.product_scale = block.scale;
        pair_kernels(head)->logits(block);
        continue;
      }
    }
    auto block = logits_block<Operands<Real>, Real>(head, rows, first + column, count, at, out_stride, partial);
    block.steps = head.width;
    block.hidden = panels.values.get() + first_row * head.width;
    block.weight = static_cast<const Real*>(weight.data);
    block.weight_stride = weight.stride;
    if (tile.values) {
      kernels.widen(weight, count, head.width, Real{1}, tile.values.get());
      block.weight = tile.values.get();
      block.weight_stride = head.width;
    }
    block.product_scale = 1;
    kernels.logits(block);
  }
}

template <class Real>
PartialGrid<Real>::PartialGrid(const Head& head, const Targets& targets, const int64_t* rows, int64_t count, const Statistics& want)
    : head_(head),
      rows_(rows),
      count_(count),
      padded_(round_up(count, head_kernels<Real>().lanes)),
      chunks_(round_up(head.vocabulary, kChunkColumns) / kChunkColumns),
      topk_(want.topk) {
  const int64_t slots = padded_ * chunks_;
  maximum_ = filled<Real>(true, slots, -std::numeric_limits<Real>::infinity());
  target_ = filled<Real>(want.target, slots, 0);
  sum_ = filled<double>(want.lse || want.expected || want.maximum, slots, 0);
  weighted_ = filled<double>(want.expected, slots, 0);
  first_ = filled<double>(want.mean || want.second_moment, slots, 0);
  second_ = filled<double>(want.mean || want.second_moment, slots, 0);
  argmax_ = filled<int64_t>(want.argmax, slots, 0);
  top_values_ = filled<Real>(topk_ > 0, slots * topk_, 0);
  top_indices_ = filled<int64_t>(topk_ > 0, slots * topk_, -1);
  target_index_ = filled<int64_t>(true, padded_, -1);
  if (targets.index)
    for (int64_t n = 0; n < count; ++n) target_index_[n] = targets.index[rows[n]];
}

template <class Real> Partial<Real> PartialGrid<Real>::at(int64_t chunk, int64_t first_row) const {
  const int64_t slot = chunk * padded_ + first_row;
  const auto part = [&](const auto& buffer, int64_t each) { return buffer ? buffer.get() + slot * each : nullptr; };
  Partial<Real> partial{};
  partial.maximum = part(maximum_, 1);
  partial.sum = part(sum_, 1);
  partial.weighted = part(weighted_, 1);
  partial.first = part(first_, 1);
  partial.second = part(second_, 1);
  partial.target = part(target_, 1);
  partial.target_index = target_index_.get() + first_row;
  partial.argmax = part(argmax_, 1);
  partial.topk = topk_;
  partial.top_values = part(top_values_, topk_);
  partial.top_indices = part(top_indices_, topk_);
  return partial;
}

template <class Real> void PartialGrid<Real>::merge(const Statistics& out) const {
  for (int64_t n = 0; n < count_; ++n) {
    const int64_t row = rows_[n];
    Real maximum = -std::numeric_limits<Real>::infinity();
    double sum = 0, weighted = 0, first = 0, second = 0;
    int64_t argmax = 0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const int64_t slot = chunk * padded_ + n;
      if (!(maximum_[slot] > maximum)) continue;
      maximum = maximum_[slot];
      if (argmax_) argmax = argmax_[slot];
    }
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const int64_t slot = chunk * padded_ + n;
      const double shift = held(maximum_[slot]) - held(maximum), factor = std::exp(shift);
      if (sum_) sum += factor * sum_[slot];
      if (weighted_ && factor > 0) weighted += factor * (weighted_[slot] + shift * sum_[slot]);
      if (first_) first += first_[slot];
      if (second_) second += second_[slot];
    }
    const double top = maximum;
    if (out.lse) out.lse[row] = top + std::log(sum);
    if (out.expected) out.expected[row] = top + weighted / sum;
    if (out.maximum) out.maximum[row] = std::isnan(sum) ? sum : top;
    if (out.mean) out.mean[row] = first / static_cast<double>(head_.vocabulary);
    if (out.second_moment) out.second_moment[row] = second / static_cast<double>(head_.vocabulary);
    if (out.argmax) out.argmax[row] = argmax;
    if (out.target && target_index_[n] >= 0) out.target[row] = target_[target_index_[n] / kChunkColumns * padded_ + n];
    if (topk_ == 0) continue;
    // Chunks rise in columns and each list is sorted, so a stable sort keeps equal values by rising index.
    std::vector<std::pair<Real, int64_t>> best;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      for (int64_t i = (chunk * padded_ + n) * topk_, end = i + topk_; i < end; ++i)
        if (top_indices_[i] >= 0) best.emplace_back(top_values_[i], top_indices_[i]);
    }
    std::stable_sort(best.begin(), best.end(), [](const auto& x, const auto& y) { return x.first > y.first; });
    for (int64_t i = 0; i < topk_; ++i) {
      const bool there = i < static_cast<int64_t>(best.size());   // NaN logits may leave fewer
      out.top_values[row * topk_ + i] = there ? static_cast<double>(best[static_cast<size_t>(i)].first) : std::nan("");
      out.top_indices[row * topk_ + i] = there ? best[static_cast<size_t>(i)].second : -1;
    }
  }
}

template <class Real>
void keep_logits(const Head& head, const Targets& targets, const int64_t* rows, int64_t count, const Statistics& want, Real* kept,
                 int64_t stride, int threads) {
  const PartialGrid<Real> grid(head, targets, rows, count, want);
  const HiddenPanels<Real> panels = pack_hidden<Real>(head, rows, count, threads);
  parallel_for(grid.chunks(), threads, [&](int64_t chunk) {
    const int64_t column = chunk * kChunkColumns;
    const WeightTile<Real> weight(head);
    const Partial<Real> partial = grid.at(chunk, 0);
    stream_logits<Real>(head, panels, 0, count, column, std::min(kChunkColumns, head.vocabulary - column), weight, kept + column * stride,
                        stride, false, &partial);
  });
  grid.merge(want);
}

template class PartialGrid<float>;
template class PartialGrid<double>;
template struct WeightTile<float>;
template struct WeightTile<double>;
template HiddenPanels<float> pack_hidden<float>(const Head&, const int64_t*, int64_t, int);
template HiddenPanels<double> pack_hidden<double>(const Head&, const int64_t*, int64_t, int);
template void stream_logits<float>(const Head&, const HiddenPanels<float>&, int64_t, int64_t, int64_t, int64_t, const WeightTile<float>&,
                                   float*, int64_t, bool, const Partial<float>*);
template void stream_logits<double>(const Head&, const HiddenPanels<double>&, int64_t, int64_t, int64_t, int64_t, const WeightTile<double>&,
                                    double*, int64_t, bool, const Partial<double>*);
template void keep_logits<float>(const Head&, const Targets&, const int64_t*, int64_t, const Statistics&, float*, int64_t, int);
template void keep_logits<double>(const Head&, const Targets&, const int64_t*, int64_t, const Statistics&, double*, int64_t, int);

}  // namespace slipstick::losses
