// What the drivers of the room share: checked heads, the rows that take part, buffers, and logits of a block of rows.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/large_pages.h"
#include "losses/kernels.h"
#include "slipstick/losses.h"
#include "slipstick/threads.h"

namespace slipstick::losses {

// Uninitialised, aligned to a cache line. First touches of large ones would cost 3 % of a backward in pages of 4 KiB.
template <class T> class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T) + 1, kAlignment))) {
    prefer_large_pages(data_.get(), static_cast<size_t>(size) * sizeof(T));
  }
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(static_cast<void*>(p), kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
};

// Numbers of rows as kernels read them, `fill` up to `size`; null for none.
template <class Real> Buffer<Real> padded(const std::vector<double>& values, int64_t size, Real fill) {
  if (values.empty()) return {};
  Buffer<Real> out(size);
  for (int64_t i = 0; i < size; ++i)
    out[i] = i < static_cast<int64_t>(values.size()) ? static_cast<Real>(values[static_cast<size_t>(i)]) : fill;
  return out;
}
// Their parts in Real, whose sum they are; the lower ones of infinite values are 0.
template <class Real> void split(const std::vector<double>& values, int64_t size, Buffer<Real>& high, Buffer<Real>& low) {
  high = padded<Real>(values, size, 0);
  std::vector<double> rest = values;
  for (double& value : rest) {
    value -= static_cast<double>(static_cast<Real>(value));
    if (!std::isfinite(value)) value = 0;
  }
  low = padded<Real>(rest, size, 0);
}

[[noreturn]] void throw_invalid(const std::string& message);

// Elements from a row to the next: an odd number of cache lines, so that the rows of a column do not fall on the same few sets of the cache.
template <class T> int64_t line_stride(int64_t count) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  return ((count + kLine - 1) / kLine | 1) * kLine;
}

// Infinite maxima held finite, as the kernels do, so that their differences are numbers.
template <class Real> double held(Real maximum) {
  return std::clamp(maximum, std::numeric_limits<Real>::lowest(), std::numeric_limits<Real>::max());
}

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
inline int64_t element_bytes(Format format) { return format == Format::f64 ? 8 : format == Format::f32 ? 4 : 2; }

// Columns of one job of the forward; the grid of jobs is part of the result.
constexpr int64_t kChunkColumns = 4096;
// Rows of one job, in panels.
constexpr int64_t kBlockPanels = 16;

void check_head(const char* where, const Head& head);
void check_statistics(const char* where, const Head& head, const Targets& targets, const Statistics& out);
// All rows as those that are skipped have them.
void clear_statistics(const Head& head, const Statistics& out);
// The rows that are not ignored. Throws on a target out of range, naming the first.
std::vector<int64_t> kept_rows(const char* where, const Head& head, const Targets& targets);

// As many threads as the head is work for: a small one is done before others have woken up.
inline int threads_for(const Head& head, int threads) {
  constexpr double kLeastSteps = 1 << 20;  // multiply-adds, some 20 us
  const double steps =
      static_cast<double>(head.rows) * static_cast<double>(head.vocabulary) * static_cast<double>(std::max<int64_t>(head.width, 32));
  threads = resolve_threads(threads);
  return steps < kLeastSteps ? 1 : threads;
}

inline Source hidden_source(const Head& head, const int64_t* rows) { return {head.format, head.hidden, head.hidden_stride, rows}; }
inline Source weight_source(const Head& head, int64_t first) {
  const char* at = static_cast<const char*>(head.weight) + first * head.weight_stride * element_bytes(head.format);
  return {head.format, at, head.weight_stride, nullptr};
}

// The kernels for the head's products in pairs, null where they are not taken so. Of this depend the layouts below.
inline const PairKernels* pair_kernels(const Head& head) { return head.format == Format::bf16 ? active_kernels().of_pairs : nullptr; }

// Rows of hidden in lanes: values multiplied by the head's scale, or pairs as they are.
template <class Real> struct HiddenPanels {
  Buffer<Real> values;
  Buffer<uint32_t> pairs;
};
template <class Real> HiddenPanels<Real> pack_hidden(const Head& head, const int64_t* rows, int64_t count, int threads);

// A tile of the weight where it cannot be read in place: other formats than Real, rows of pairs with half a pair at their end.
template <class Real> struct WeightTile {
  explicit WeightTile(const Head& head);
  Buffer<Real> values;
  Buffer<uint16_t> halves;
};

// Logits of `rows` rows from panel first_panel on, for columns first ... first + columns - 1, as LogitsBlock says. If `reuse_out`, every tile of kTileColumns
// starts at `out`.
template <class Real>
void stream_logits(const Head& head, const HiddenPanels<Real>& panels, int64_t first_panel, int64_t rows, int64_t first, int64_t columns,
                   const WeightTile<Real>& tile, Real* out, int64_t out_stride, bool reuse_out, const Partial<Real>* partial);

// Sums of every (row, chunk of columns) of a block of rows, merged into Statistics when all are there.
template <class Real> class PartialGrid {
 public:
  // rows: those of hidden, in the order of the block; they must outlive the grid. want: which pointers are not null.
  PartialGrid(const Head& head, const Targets& targets, const int64_t* rows, int64_t count, const Statistics& want);
  int64_t chunks() const { return chunks_; }
  Partial<Real> at(int64_t chunk, int64_t first_row) const;
  void merge(const Statistics& out) const;

 private:
  const Head& head_;
  const int64_t* rows_;
  int64_t count_, padded_, chunks_, topk_;
  Buffer<Real> maximum_, target_, top_values_;
  Buffer<double> sum_, weighted_, first_, second_;
  Buffer<int64_t> target_index_, argmax_, top_indices_;
};

// Logits of all columns for a chunk of rows, kept at [vocabulary][stride], with their statistics.
template <class Real>
void keep_logits(const Head& head, const Targets& targets, const int64_t* rows, int64_t count, const Statistics& want, Real* kept,
                 int64_t stride, int threads);

}  // namespace slipstick::losses
