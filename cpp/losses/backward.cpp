// Gradients of any function of the statistics, and of cross-entropy together with its value.
#include <algorithm>
#include <cmath>
#include <limits>

#include "losses/gradient_stream.h"
#include "slipstick/threads.h"

namespace slipstick::losses {
namespace {

// Fewer rows than this in a chunk of kept logits cost more in reads of the weight and its gradient than computing the logits twice.
constexpr int64_t kLeastKeptRows = 48;
template <class Real>
ChunkCoefficients pick(const Coefficients& from, const int64_t* rows, int64_t count) {
  ChunkCoefficients out;
  const auto take = [&](const double* values, std::vector<double>& to) {
    if (!values) return;
    bool any = false;
    for (int64_t n = 0; n < count; ++n) any = any || values[rows[n]] != 0;
    for (int64_t n = 0; any && n < count; ++n) to.push_back(values[rows[n]]);
  };
  out.a.assign(static_cast<size_t>(count), 0.0);
  out.lse = out.a;
  for (int64_t n = 0; n < count; ++n) {
    if (from.a) out.a[static_cast<size_t>(n)] = from.a[rows[n]];
    if (from.lse) out.lse[static_cast<size_t>(n)] = from.lse[rows[n]];
  }
  take(from.b, out.b);
  take(from.c, out.c);
  take(from.d, out.d);
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t k = rows[n] * from.entries, end = k + from.entries; k < end; ++k)
      if (from.index[k] >= 0 && from.value[k] != 0) out.entries.push_back({from.index[k], n, from.value[k], std::nan("")});
  }
  out.sort();
  return out;
}

// Where gradients by logits may be rounded to bf16 for the last products. Rounding the results alone takes 1.7 of the 2 thousandths that they may
// be off, so what is rounded must be a small part of a row's sum of squares. It is where the row has one entry, taken exactly, and a p sums up
// to about as much as that: then the rest of the row either spreads over many elements or has a few large ones, which are taken exactly, too.
constexpr double kMostImbalance = 1.0 / 16;
// z_loss unbalances by 2 z_loss lse.
constexpr double kMostZLoss = 1e-3;

bool may_round(const Head& head, const BackwardOptions& options) {
  return pair_kernels(head) && options.filter_eps == 0 && head.map == LogitMap::none;
}

bool balanced(const ChunkCoefficients& coefficients) {
  if (!coefficients.b.empty() || !coefficients.c.empty() || !coefficients.d.empty()) return false;
  std::vector<double> rest = coefficients.a;
  std::vector<int64_t> entries(rest.size());
  for (const auto& entry : coefficients.entries) {
    rest[static_cast<size_t>(entry.row)] += entry.value;
    ++entries[static_cast<size_t>(entry.row)];
  }
  for (size_t n = 0; n < rest.size(); ++n)
    if (entries[n] > 1 || !(std::abs(rest[n]) <= kMostImbalance * std::abs(coefficients.a[n]))) return false;
  return true;
}

// What the workspace leaves for a chunk of rows without kept logits. (A sum of the weight's gradient is beyond it: with chunks there is no other
// place.)
template <class Real> int64_t bytes_for_rows(const Head& head, const Gradients& out, const BackwardOptions& options) {
  return options.workspace_bytes - (options.filter_eps > 0 ? GradientStream<Real>::held_bytes(head, out, options) : 0);
}

bool has_gradient(const Coefficients& from, int64_t row) {
  for (const double* values : {from.a, from.b, from.c, from.d})
    if (values && values[row] != 0) return true;
  for (int64_t k = row * from.entries; k < (row + 1) * from.entries; ++k)
    if (from.index[k] >= 0 && from.value[k] != 0) return true;
  return false;
}

template <class Real>
void run_backward(const Head& head, const std::vector<int64_t>& rows, const Coefficients& coefficients, const Gradients& out,
                  const BackwardOptions& options) {
  const bool may = may_round(head, options);
  const int64_t row_bytes =
      std::max(GradientStream<Real>::bytes_per_row(head, false), may ? GradientStream<Real>::bytes_per_row(head, true) : 0);
  const int64_t total = static_cast<int64_t>(rows.size()),
                step = recomputed_rows<Real>(bytes_for_rows<Real>(head, out, options), total, row_bytes,
                                             GradientStream<Real>::accumulator_bytes(head) > 0);
  GradientStream<Real> stream(head, out, options, total > step);
  for (int64_t first = 0; first < total; first += step) {
    const int64_t count = std::min(step, total - first);
    const ChunkCoefficients picked = pick<Real>(coefficients, rows.data() + first, count);
    ChunkLogits<Real> logits;
    logits.rounded = may && balanced(picked);
    stream.add(rows.data() + first, count, picked, logits);
  }
  stream.finish();
}

// Coefficients and value of cross-entropy for some rows; lse, target and mean are over all rows.
struct CrossEntropyRows {
  const Targets& targets;
  const CrossEntropy& loss;
  int64_t vocabulary;
  const double *lse, *target, *mean;
  double weight_sum;  // what weights are divided by

  double weight(int64_t row) const { return (loss.row_weight ? loss.row_weight[row] : 1) / weight_sum; }
  double value(int64_t row) const {
    const double smooth = loss.label_smoothing > 0 ? loss.label_smoothing * mean[row] : 0;
    return weight(row) * (lse[row] - (1 - loss.label_smoothing) * target[row] - smooth + loss.z_loss * lse[row] * lse[row]);
  }
  ChunkCoefficients coefficients(const int64_t* rows, int64_t count) const {
    ChunkCoefficients out;
    for (int64_t n = 0; n < count; ++n) {
      const double w = weight(rows[n]);
      out.lse.push_back(lse[rows[n]]);
      out.a.push_back(w * (1 + 2 * loss.z_loss * lse[rows[n]]));
      if (loss.label_smoothing > 0) out.d.push_back(-w * loss.label_smoothing / static_cast<double>(vocabulary));
      out.entries.push_back({targets.index[rows[n]], n, -w * (1 - loss.label_smoothing), target[rows[n]]});
    }
    out.sort();
    return out;
  }
};

// Statistics of all rows, and the logits of some columns in 12 bits.
template <class Real>
void code_logits(const Head& head, const Targets& targets, const std::vector<int64_t>& rows, const Statistics& want,
                 const CodedLogits& coded, int threads) {
  const int64_t count = static_cast<int64_t>(rows.size()), stride = line_stride<Real>(round_up(count, head_kernels<Real>().lanes));
  const PartialGrid<Real> grid(head, targets, rows.data(), count, want);
  const HiddenPanels<Real> panels = pack_hidden<Real>(head, rows.data(), count, threads);
  parallel_for(grid.chunks(), threads, [&](int64_t chunk) {
    const WeightTile<Real> weight(head);
    const Buffer<Real> tile(kBlockColumns * stride);
    const Partial<Real> partial = grid.at(chunk, 0);
    const int64_t end = std::min((chunk + 1) * kChunkColumns, head.vocabulary);
    for (int64_t first = chunk * kChunkColumns; first < end; first += kBlockColumns) {
      const int64_t columns = std::min(kBlockColumns, end - first);
      stream_logits<Real>(head, panels, 0, count, first, columns, weight, tile.get(), stride, false, &partial);
      if constexpr (sizeof(Real) == 4) {
        if (!coded.holds(first / kBlockColumns)) continue;
        // Targets are taken apart; codes are finest near the largest of the other logits.
        for (int64_t n = 0; n < count; ++n) {
          const int64_t column = targets.index[rows[static_cast<size_t>(n)]] - first;
          if (column >= 0 && column < columns) tile[column * stride + n] = -std::numeric_limits<Real>::infinity();
        }
        pair_kernels(head)->encode(coded.tile(first / kBlockColumns, columns, tile.get(), stride));
      }
    }
  });
  grid.merge(want);
}

// Rows whose logits fit the workspace beside the other buffers; 0 if too few to be worth it.
template <class Real>
int64_t kept_rows_fitting(const Head& head, const Gradients& out, const BackwardOptions& options, int64_t rows, bool rounded) {
  const int64_t lanes = head_kernels<Real>().lanes;
  const int64_t per_row = head.vocabulary * static_cast<int64_t>(sizeof(Real)) + GradientStream<Real>::bytes_per_row(head, rounded);
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(Real));
  const int64_t group_bytes = rounded ? GradientStream<Real>::group_bytes(options) : 0;
  const auto fitting = [&](int64_t bytes) { return std::max<int64_t>(0, (bytes - group_bytes) / per_row - 2 * kLine) / lanes * lanes; };
  int64_t most = fitting(options.workspace_bytes);
  if (most < rows || options.filter_eps > 0) most = fitting(options.workspace_bytes - GradientStream<Real>::held_bytes(head, out, options));
  if (most >= rows) return round_up(rows, lanes);
  if (most < kLeastKeptRows) return 0;
  // Chunks of equal size: the last would otherwise be a small one.
  const int64_t chunks = (rows + most - 1) / most;
  return round_up((rows + chunks - 1) / chunks, lanes);
}

double weight_sum(const std::vector<int64_t>& rows, const CrossEntropy& loss) {
  if (!loss.mean) return 1;
  if (!loss.row_weight) return static_cast<double>(rows.size());
  double sum = 0;
  for (const int64_t row : rows) sum += loss.row_weight[row];
  return sum;
}

template <class Real>
double run_cross_entropy(const Head& head, const Targets& targets, const std::vector<int64_t>& rows, const CrossEntropy& loss,
                         const Gradients& out, const BackwardOptions& options, double* losses, double* lse) {
  const int64_t total = static_cast<int64_t>(rows.size());
  std::vector<double> target(static_cast<size_t>(head.rows)), mean(static_cast<size_t>(loss.label_smoothing > 0 ? head.rows : 0));
  Statistics want;
  want.lse = lse;
  want.target = target.data();
  want.mean = mean.empty() ? nullptr : mean.data();
  const CrossEntropyRows of_rows{targets, loss, head.vocabulary, lse, target.data(), mean.data(), weight_sum(rows, loss)};
  const bool gradients = out.hidden || out.weight || out.bias;
  const bool rounded = may_round(head, options) && loss.label_smoothing == 0 && std::abs(loss.z_loss) <= kMostZLoss;
  const int64_t kept = gradients ? kept_rows_fitting<Real>(head, out, options, total, rounded) : 0;
  const int64_t row_bytes = GradientStream<Real>::bytes_per_row(head, rounded),
                step = recomputed_rows<Real>(bytes_for_rows<Real>(head, out, options), total, row_bytes,
                                             GradientStream<Real>::accumulator_bytes(head) > 0);
  std::unique_ptr<CodedLogits> coded;
  if (gradients && rounded && total > kept && total <= step) {
    const int64_t padded = round_up(total, head_kernels<Real>().lanes);
    const int64_t left = options.workspace_bytes - padded * row_bytes - GradientStream<Real>::group_bytes(options);
    coded = std::make_unique<CodedLogits>(head, total, out.weight, left);
    if (kept > 0 && !coded->holds_all())
      coded.reset();  // codes of all logits cost less than chunks that share a sum of the weight's gradient
  }
  if (kept == 0 || coded) {
    ChunkLogits<Real> chunk;
    chunk.rounded = rounded;
    chunk.coded = coded.get();
    if (coded) {
      code_logits<Real>(head, targets, rows, want, *coded, options.threads);
    } else {
      row_statistics(head, targets, want, options.threads);
    }
    if (gradients) {
      GradientStream<Real> stream(head, out, options, total > step);
      for (int64_t first = 0; first < total; first += step) {
        const int64_t count = std::min(step, total - first);
        stream.add(rows.data() + first, count, of_rows.coefficients(rows.data() + first, count), chunk);
      }
      stream.finish();
    }
  } else {
    GradientStream<Real> stream(head, out, options, total > kept);
    ChunkLogits<Real> chunk;
    chunk.stride = line_stride<Real>(round_up(std::min(kept, total), head_kernels<Real>().lanes));
    const Buffer<Real> logits(head.vocabulary * chunk.stride);
    chunk.kept = logits.get();
    chunk.rounded = rounded;
    for (int64_t first = 0; first < total; first += kept) {
      const int64_t count = std::min(kept, total - first);
      keep_logits<Real>(head, targets, rows.data() + first, count, want, chunk.kept, chunk.stride, options.threads);
      stream.add(rows.data() + first, count, of_rows.coefficients(rows.data() + first, count), chunk);
    }
    stream.finish();
  }
  double sum = rows.empty() && loss.mean ? std::nan("") : 0;
  for (const int64_t row : rows) {
    const double value = of_rows.value(row);
    sum += value;
    if (losses) losses[row] = value;
    if (!options.dropped) continue;
    const double a = of_rows.weight(row) * (1 + 2 * loss.z_loss * lse[row]);
    options.dropped[row] = a == 0 ? 0 : options.dropped[row] / a;
  }
  return sum;
}

}  // namespace

void backward(const Head& head, const Targets& targets, const Coefficients& coefficients, const Gradients& out,
              const BackwardOptions& options) {
  check_head("backward", head);
  check_options("backward", options);
  BackwardOptions resolved = options;
  resolved.threads = threads_for(head, options.threads);
  std::vector<int64_t> rows = kept_rows("backward", head, targets);
  rows.erase(std::remove_if(rows.begin(), rows.end(), [&](int64_t row) { return !has_gradient(coefficients, row); }), rows.end());
  for (const int64_t row : rows) {
    const bool dense =
        (coefficients.c && coefficients.c[row] != 0) || (head.map != LogitMap::none && coefficients.d && coefficients.d[row] != 0);
    if (dense) resolved.filter_eps = 0;
    for (int64_t k = row * coefficients.entries; k < (row + 1) * coefficients.entries; ++k)
      if (coefficients.index[k] >= head.vocabulary)
        throw_invalid("backward: an entry of row " + std::to_string(row) + " has index " + std::to_string(coefficients.index[k]) +
                      "; expected less than " + std::to_string(head.vocabulary));
  }
  clear(head, out, options);
  if (head.format == Format::f64) {
    run_backward<double>(head, rows, coefficients, out, resolved);
  } else {
    run_backward<float>(head, rows, coefficients, out, resolved);
  }
}

double cross_entropy(const Head& head, const Targets& targets, const CrossEntropy& loss, const Gradients& out,
                     const BackwardOptions& options, double* losses, double* lse) {
  check_head("cross_entropy", head);
  check_options("cross_entropy", options);
  if (!targets.index && head.rows > 0) throw_invalid("cross_entropy: targets is None; expected one class a row");
  if (!(loss.label_smoothing >= 0 && loss.label_smoothing <= 1))
    throw_invalid("cross_entropy: label_smoothing is " + std::to_string(loss.label_smoothing) + "; expected 0 to 1");
  if (!std::isfinite(loss.z_loss)) throw_invalid("cross_entropy: z_loss is " + std::to_string(loss.z_loss) + "; expected a finite number");
  BackwardOptions resolved = options;
  resolved.threads = threads_for(head, options.threads);
  const std::vector<int64_t> rows = kept_rows("cross_entropy", head, targets);
  std::vector<double> own_lse(static_cast<size_t>(lse ? 0 : head.rows));
  if (!lse) lse = own_lse.data();
  if (losses) std::fill_n(losses, head.rows, 0.0);
  std::fill_n(lse, head.rows, 0.0);
  if (loss.label_smoothing > 0 && head.map != LogitMap::none) resolved.filter_eps = 0;
  clear(head, out, options);
  if (head.format == Format::f64) return run_cross_entropy<double>(head, targets, rows, loss, out, resolved, losses, lse);
  return run_cross_entropy<float>(head, targets, rows, loss, out, resolved, losses, lse);
}

}  // namespace slipstick::losses
