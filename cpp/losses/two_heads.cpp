// Divergences of two heads, and one head's logits added to the other's: the tiles of both weights are streamed side by side.
//
// The forward has the grid of row_statistics, and its sums merge in the order of the grid. The backward computes both tiles again, turns them
// into gradients in place, and hands each to the stream of its head; see gradient_stream.h.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "losses/gradient_stream.h"
#include "slipstick/threads.h"

namespace slipstick::losses {
namespace {

// Packed rows of both heads are held for so many bytes at once, as in row_statistics.
constexpr int64_t kPackedBytes = int64_t{8} << 20;
// Rows whose logits are sorted out together: a cache line of floats.
constexpr int64_t kSelectedRows = 16;

void check_two_heads(const char* where, const TwoHeads& heads) {
  check_head(where, heads.first);
  check_head(where, heads.second);
  const std::string name = where;
  if (heads.first.rows != heads.second.rows || heads.first.vocabulary != heads.second.vocabulary)
    throw_invalid(name + ": the second head has " + std::to_string(heads.second.rows) + " rows and " +
                  std::to_string(heads.second.vocabulary) + " classes; expected " + std::to_string(heads.first.rows) + " and " +
                  std::to_string(heads.first.vocabulary) + ", as the first");
  if ((heads.first.format == Format::f64) != (heads.second.format == Format::f64))
    throw_invalid(name + ": one head alone is float64; expected both or none");
}

void check_divergence(const char* where, const TwoHeads& heads, const Divergence& divergence) {
  check_two_heads(where, heads);
  if (!(divergence.mixture > 0 && divergence.mixture < 1))
    throw_invalid(std::string(where) + ": mixture is " + std::to_string(divergence.mixture) + "; expected a number between 0 and 1");
}

void check_exact(const char* where, const BackwardOptions& options) {
  check_options(where, options);
  if (options.filter_eps != 0) throw_invalid(std::string(where) + ": filter_eps is not 0; expected exact gradients of two heads");
}

template <class Function> void in_real(const TwoHeads& heads, const Function& function) {
  if (heads.first.format == Format::f64) {
    function(double{});
  } else {
    function(float{});
  }
}

// f(chunk of columns, first row, first column of the tile, tiles) for all tiles of a grid of jobs, those of a job in order.
template <class Real, class Function>
void for_each_tile(const TwoHeads& heads, const int64_t* rows, int64_t count, int threads, const Function& function) {
  const int64_t lanes = head_kernels<Real>().lanes, block = kBlockPanels * lanes, vocabulary = heads.first.vocabulary;
  const HiddenPanels<Real> first_panels = pack_hidden<Real>(heads.first, rows, count, threads),
                           second_panels = pack_hidden<Real>(heads.second, rows, count, threads);
  const int64_t blocks = round_up(count, block) / block, chunks = round_up(vocabulary, kChunkColumns) / kChunkColumns;
  parallel_for(blocks * chunks, threads, [&](int64_t job) {
    const int64_t chunk = job / blocks, row = job % blocks * block, end = std::min((chunk + 1) * kChunkColumns, vocabulary);
    TwoTiles<Real> tiles{};
    tiles.rows = round_up(std::min(block, count - row), lanes);
    tiles.stride = line_stride<Real>(tiles.rows);
    const WeightTile<Real> first_weight(heads.first), second_weight(heads.second);
    const Buffer<Real> first(kTileColumns * tiles.stride), second(kTileColumns * tiles.stride);
    tiles.first = first.get();
    tiles.second = second.get();
    for (int64_t column = chunk * kChunkColumns; column < end; column += kTileColumns) {
      tiles.columns = std::min(kTileColumns, end - column);
      stream_logits<Real>(heads.first, first_panels, row / lanes, tiles.rows, column, tiles.columns, first_weight, tiles.first,
                          tiles.stride, false, nullptr);
      stream_logits<Real>(heads.second, second_panels, row / lanes, tiles.rows, column, tiles.columns, second_weight, tiles.second,
                          tiles.stride, false, nullptr);
      function(chunk, row, column, tiles);
    }
  });
}

// Rows that are taken at once in a forward: packed, and with what they collect for each chunk of columns.
template <class Real> int64_t forward_rows(const TwoHeads& heads) {
  const int64_t block = kBlockPanels * head_kernels<Real>().lanes, width = std::max<int64_t>(heads.first.width + heads.second.width, 64);
  return std::max(block, kPackedBytes / (width * static_cast<int64_t>(sizeof(Real))) / block * block);
}

// f(first, count) for the blocks of rows of a forward.
template <class Real, class Function> void for_each_block(const TwoHeads& heads, int64_t total, const Function& function) {
  const int64_t step = forward_rows<Real>(heads);
  for (int64_t first = 0; first < total; first += step) function(first, std::min(step, total - first));
}

std::vector<double> picked(const double* values, const int64_t* rows, int64_t count) {
  std::vector<double> out(static_cast<size_t>(count), 0.0);
  for (int64_t n = 0; values && n < count; ++n) out[static_cast<size_t>(n)] = values[rows[n]];
  return out;
}

// ---- divergences ------------------------------------------------------------------------------------------------------------------------------

// log-sum-exps of some rows as kernels read them.
template <class Real> struct SoftmaxRows {
  Buffer<Real> first_high, first_low, second_high, second_low, shift;

  SoftmaxRows(const DivergenceRows& from, const int64_t* rows, int64_t count, int64_t size) {
    const std::vector<double> first = picked(from.first_lse, rows, count), second = picked(from.second_lse, rows, count);
    std::vector<double> between = second;
    for (size_t n = 0; n < between.size(); ++n) between[n] -= first[n];
    split(first, size, first_high, first_low);
    split(second, size, second_high, second_low);
    shift = padded<Real>(between, size, 0);
  }
  TwoSoftmaxes<Real> at(int64_t row) const {
    return {first_high.get() + row, first_low.get() + row, second_high.get() + row, second_low.get() + row, shift.get() + row};
  }
};

// One head's sums of e^(logit - maximum), and of that times d, of every chunk of columns.
template <class Real> struct SoftmaxSums {
  Buffer<Real> maximum;
  Buffer<double> sum, moment;

  explicit SoftmaxSums(int64_t slots) : maximum(slots), sum(slots), moment(slots) {
    std::fill_n(maximum.get(), slots, -std::numeric_limits<Real>::infinity());
    std::fill_n(sum.get(), slots, 0.0);
    std::fill_n(moment.get(), slots, 0.0);
  }
  // lse, and the mean of d.
  std::pair<double, double> merged(int64_t row, int64_t chunks, int64_t stride) const {
    double top = held(-std::numeric_limits<Real>::infinity()), total = 0, weighted = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) top = std::max(top, held(maximum[chunk * stride + row]));
    bool empty = true;
    for (int64_t slot = row; slot < chunks * stride; slot += stride) {
      const double factor = std::exp(held(maximum[slot]) - top);
      empty = empty && maximum[slot] == -std::numeric_limits<Real>::infinity();
      total += factor * sum[slot];
      if (factor > 0) weighted += factor * moment[slot];
    }
    if (empty) return {std::isnan(total) ? total : -std::numeric_limits<double>::infinity(), std::nan("")};
    const double largest = top >= held(std::numeric_limits<Real>::infinity()) ? std::numeric_limits<double>::infinity() : top;
    return {largest + std::log(total), weighted / total};
  }
};

template <class Real>
void sum_kl(const TwoHeads& heads, const std::vector<int64_t>& rows, const DivergenceRows& out, int threads) {
  const int64_t chunks = round_up(heads.first.vocabulary, kChunkColumns) / kChunkColumns;
  for_each_block<Real>(heads, static_cast<int64_t>(rows.size()), [&](int64_t first, int64_t count) {
    const int64_t size = round_up(count, head_kernels<Real>().lanes);
    const SoftmaxSums<Real> of_first(chunks * size), of_second(chunks * size);
    for_each_tile<Real>(heads, rows.data() + first, count, threads, [&](int64_t chunk, int64_t row, int64_t, const TwoTiles<Real>& tiles) {
      const int64_t slot = chunk * size + row;
      DivergenceTile<Real> tile{};
      tile.tiles = tiles;
      tile.kind = DivergenceKind::kl;
      tile.first_maximum = of_first.maximum.get() + slot;
      tile.second_maximum = of_second.maximum.get() + slot;
      tile.first_sum = of_first.sum.get() + slot;
      tile.second_sum = of_second.sum.get() + slot;
      tile.reverse = of_first.moment.get() + slot;
      tile.forward = of_second.moment.get() + slot;
      two_head_kernels<Real>().add_divergence(tile);
    });
    for (int64_t n = 0; n < count; ++n) {
      const auto [first_lse, by_first] = of_first.merged(n, chunks, size);
      const auto [second_lse, by_second] = of_second.merged(n, chunks, size);
      const int64_t row = rows[static_cast<size_t>(first + n)];
      out.first_lse[row] = first_lse;
      out.second_lse[row] = second_lse;
      out.reverse[row] = by_first - (first_lse - second_lse);
      out.forward[row] = (first_lse - second_lse) - by_second;
    }
  });
}

// Sums of elements that need nothing but the log-sum-exps.
template <class Real>
void sum_elements(const TwoHeads& heads, const std::vector<int64_t>& rows, const Divergence& divergence, const DivergenceRows& out,
                  int threads) {
  const int64_t chunks = round_up(heads.first.vocabulary, kChunkColumns) / kChunkColumns;
  for_each_block<Real>(heads, static_cast<int64_t>(rows.size()), [&](int64_t first, int64_t count) {
    const int64_t size = round_up(count, head_kernels<Real>().lanes);
    const SoftmaxRows<Real> softmaxes(out, rows.data() + first, count, size);
    const Buffer<double> forward(chunks * size), reverse(chunks * size);
    std::fill_n(forward.get(), chunks * size, 0.0);
    std::fill_n(reverse.get(), chunks * size, 0.0);
    for_each_tile<Real>(heads, rows.data() + first, count, threads, [&](int64_t chunk, int64_t row, int64_t, const TwoTiles<Real>& tiles) {
      DivergenceTile<Real> tile{};
      tile.tiles = tiles;
      tile.kind = divergence.kind;
      tile.mixture = static_cast<Real>(divergence.mixture);
      tile.softmaxes = softmaxes.at(row);
      tile.forward = forward.get() + chunk * size + row;
      tile.reverse = reverse.get() + chunk * size + row;
      two_head_kernels<Real>().add_divergence(tile);
    });
    for (int64_t n = 0; n < count; ++n) {
      const int64_t row = rows[static_cast<size_t>(first + n)];
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        out.forward[row] += forward[chunk * size + n];
        out.reverse[row] += reverse[chunk * size + n];
      }
    }
  });
}

// ---- the backward -------------------------------------------------------------------------------------------------------------------------------

template <class Real> GradientBlock<Real> gradient_block(Real* block, int64_t stride, int64_t columns, int64_t rows) {
  GradientBlock<Real> out{};
  out.block = block;
  out.stride = stride;
  out.columns = columns;
  out.rows = rows;
  return out;
}

// Chunks of rows: `prepare(rows, count)` gives what turns the tiles of a chunk into gradients, called with the first column and the tiles.
template <class Real, class Prepare>
void stream_gradients(const TwoHeads& heads, const std::vector<int64_t>& rows, const TwoGradients& out, const BackwardOptions& options,
                      const Prepare& prepare) {
  using Stream = GradientStream<Real>;
  const int64_t row_bytes = Stream::bytes_per_row(heads.first, false) + Stream::bytes_per_row(heads.second, false);
  const bool sum_apart = Stream::accumulator_bytes(heads.first) + Stream::accumulator_bytes(heads.second) > 0;
  const int64_t total = static_cast<int64_t>(rows.size()),
                step = recomputed_rows<Real>(options.workspace_bytes, total, row_bytes, sum_apart);
  const int64_t vocabulary = heads.first.vocabulary, blocks = round_up(vocabulary, kBlockColumns) / kBlockColumns;
  struct Side {
    const Head& head;
    bool wanted;
    Stream stream;
    HiddenPanels<Real> panels;
    std::shared_ptr<typename Stream::Chunk> chunk;
  };
  const auto wanted = [](const Gradients& g) { return g.hidden || g.weight || g.bias; };
  Side first{heads.first, wanted(out.first), Stream(heads.first, out.first, options, total > step), {}, {}};
  Side second{heads.second, wanted(out.second), Stream(heads.second, out.second, options, total > step), {}, {}};
  for (int64_t begin = 0; begin < total; begin += step) {
    const int64_t count = std::min(step, total - begin), padded_count = round_up(count, head_kernels<Real>().lanes);
    const int64_t stride = line_stride<Real>(padded_count);
    const int64_t* chunk_rows = rows.data() + begin;
    const auto form = prepare(chunk_rows, count, padded_count);
    for (Side* side : {&first, &second}) {
      side->panels = pack_hidden<Real>(side->head, chunk_rows, count, options.threads);
      if (side->wanted) side->chunk = side->stream.open(chunk_rows, count);
    }
    parallel_for(kSlots, options.threads, [&](int64_t slot) {
      const auto first_slot = first.wanted ? first.stream.open_slot(*first.chunk, slot, stride) : nullptr;
      const auto second_slot = second.wanted ? second.stream.open_slot(*second.chunk, slot, stride) : nullptr;
      const WeightTile<Real> first_weight(heads.first), second_weight(heads.second);
      const Buffer<Real> first_tile(kBlockColumns * stride), second_tile(kBlockColumns * stride), third_tile(kBlockColumns * stride);
      for (int64_t block = slot_begin(slot, blocks); block < slot_begin(slot + 1, blocks); ++block) {
        const int64_t column = block * kBlockColumns, columns = std::min(kBlockColumns, vocabulary - column);
        stream_logits<Real>(heads.first, first.panels, 0, padded_count, column, columns, first_weight, first_tile.get(), stride, false,
                            nullptr);
        stream_logits<Real>(heads.second, second.panels, 0, padded_count, column, columns, second_weight, second_tile.get(), stride, false,
                            nullptr);
        form(column, TwoTiles<Real>{first_tile.get(), second_tile.get(), stride, columns, padded_count}, third_tile.get());
        if (first.wanted) first.stream.add_block(*first.chunk, *first_slot, slot, block, first_tile.get());
        if (second.wanted) second.stream.add_block(*second.chunk, *second_slot, slot, block, second_tile.get());
      }
    });
    for (Side* side : {&first, &second})
      if (side->wanted) side->stream.close(*side->chunk);
  }
  first.stream.finish();
  second.stream.finish();
}

// Rows with an upstream gradient that is not 0.
std::vector<int64_t> rows_with_gradient(const char* where, const TwoHeads& heads, const Targets& targets,
                                        std::initializer_list<const double*> upstream) {
  std::vector<int64_t> rows = kept_rows(where, heads.first, targets);
  const auto none = [&](int64_t row) {
    return std::none_of(upstream.begin(), upstream.end(), [&](const double* by) { return by && by[row] != 0; });
  };
  rows.erase(std::remove_if(rows.begin(), rows.end(), none), rows.end());
  return rows;
}

BackwardOptions resolved(const TwoHeads& heads, const TwoGradients& out, const BackwardOptions& options) {
  BackwardOptions result = options;
  result.threads = resolve_threads(options.threads);
  clear(heads.first, out.first, options);
  clear(heads.second, out.second, options);
  return result;
}

template <class Real> struct DivergenceForm {
  const TwoHeads& heads;
  DivergenceKind kind;
  Real mixture;
  SoftmaxRows<Real> softmaxes;
  Buffer<Real> by_forward, by_reverse, by_first_lse, by_second_lse, forward_mean, reverse_mean;

  void operator()(int64_t, const TwoTiles<Real>& tiles, Real*) const {
    DivergenceGradient<Real> gradient{};
    gradient.tiles = tiles;
    gradient.kind = kind;
    gradient.mixture = mixture;
    gradient.softmaxes = softmaxes.at(0);
    gradient.by_forward = by_forward.get();
    gradient.by_reverse = by_reverse.get();
    gradient.by_first_lse = by_first_lse.get();
    gradient.by_second_lse = by_second_lse.get();
    gradient.forward_mean = forward_mean.get();
    gradient.reverse_mean = reverse_mean.get();
    gradient.first_map = heads.first.map;
    gradient.second_map = heads.second.map;
    gradient.first_cap = static_cast<Real>(heads.first.cap);
    gradient.second_cap = static_cast<Real>(heads.second.cap);
    two_head_kernels<Real>().divergence_gradient(gradient);
  }
};

template <class Real>
DivergenceForm<Real> divergence_form(const TwoHeads& heads, const Divergence& divergence, const DivergenceRows& from,
                                     const DivergenceUpstream& upstream, const int64_t* rows, int64_t count, int64_t size) {
  std::vector<double> forward = picked(from.forward, rows, count), reverse = picked(from.reverse, rows, count);
  const double b = divergence.mixture;
  for (size_t n = 0; n < forward.size(); ++n) {
    const double shift = from.first_lse[rows[n]] - from.second_lse[rows[n]];
    if (divergence.kind == DivergenceKind::kl) {
      forward[n] = shift - forward[n];
      reverse[n] = shift + reverse[n];
    } else if (divergence.kind == DivergenceKind::jensen_shannon) {
      forward[n] = (forward[n] - (1 - b) * reverse[n]) / b;
    }
  }
  return {heads,
          divergence.kind,
          static_cast<Real>(b),
          SoftmaxRows<Real>(from, rows, count, size),
          padded<Real>(picked(upstream.forward, rows, count), size, 0),
          padded<Real>(picked(upstream.reverse, rows, count), size, 0),
          padded<Real>(picked(upstream.first_lse, rows, count), size, 0),
          padded<Real>(picked(upstream.second_lse, rows, count), size, 0),
          padded<Real>(forward, size, 0),
          padded<Real>(reverse, size, 0)};
}

// ---- combined logits ------------------------------------------------------------------------------------------------------------------------------

template <class Real>
CombinedTile<Real> combined_tile(const TwoHeads& heads, double coefficient, const TwoTiles<Real>& tiles, const Real* least,
                                 Real* combined) {
  CombinedTile<Real> tile{};
  tile.tiles = tiles;
  tile.coefficient = static_cast<Real>(coefficient);
  tile.least = least;
  tile.combined = combined;
  tile.first_map = heads.first.map;
  tile.second_map = heads.second.map;
  tile.first_cap = static_cast<Real>(heads.first.cap);
  tile.second_cap = static_cast<Real>(heads.second.cap);
  return tile;
}

template <class Real> Buffer<Real> least_of(const Combination& combination, const int64_t* rows, int64_t count, int64_t size) {
  if (!combination.least) return {};
  return padded<Real>(picked(combination.least, rows, count), size, 0);
}

template <class Real>
void sum_combined(const TwoHeads& heads, const Targets& targets, const std::vector<int64_t>& rows, const Combination& combination,
                  const Statistics& out, int threads) {
  for_each_block<Real>(heads, static_cast<int64_t>(rows.size()), [&](int64_t first, int64_t count) {
    const int64_t* block_rows = rows.data() + first;
    const PartialGrid<Real> grid(heads.first, targets, block_rows, count, out);
    const Buffer<Real> least = least_of<Real>(combination, block_rows, count, round_up(count, head_kernels<Real>().lanes));
    for_each_tile<Real>(heads, block_rows, count, threads, [&](int64_t chunk, int64_t row, int64_t column, const TwoTiles<Real>& tiles) {
      const Real* from = least ? least.get() + row : nullptr;
      const TwoHeadKernels<Real>& kernels = two_head_kernels<Real>();
      kernels.combine(combined_tile(heads, combination.coefficient, tiles, from, tiles.first));
      kernels.statistics(tiles.first, tiles.stride, tiles.columns, tiles.rows, column, grid.at(chunk, row));
    });
    grid.merge(out);
  });
}

template <class Real> struct CombinedForm {
  const TwoHeads& heads;
  double coefficient;
  Buffer<Real> least, lse_high, lse_low, by_lse;
  std::vector<double> by_target;
  std::vector<int64_t> target;

  void operator()(int64_t first, const TwoTiles<Real>& tiles, Real* combined) const {
    const CombinedTile<Real> tile = combined_tile(heads, coefficient, tiles, least.get(), combined);
    two_head_kernels<Real>().combine(tile);
    GradientBlock<Real> gradient = gradient_block(combined, tiles.stride, tiles.columns, tiles.rows);
    gradient.lse_high = lse_high.get();
    gradient.lse_low = lse_low.get();
    gradient.a = by_lse.get();
    head_kernels<Real>().form_gradient(gradient);
    for (size_t n = 0; n < target.size(); ++n) {
      const int64_t column = target[n] - first;
      if (column >= 0 && column < tiles.columns)
        combined[column * tiles.stride + static_cast<int64_t>(n)] += static_cast<Real>(by_target[n]);
    }
    two_head_kernels<Real>().divide(tile);
  }
};

template <class Real>
CombinedForm<Real> combined_form(const TwoHeads& heads, const Targets& targets, const Combination& combination, const double* lse,
                                 const double* by_lse, const double* by_target, const int64_t* rows, int64_t count, int64_t size) {
  CombinedForm<Real> form{heads, combination.coefficient, least_of<Real>(combination, rows, count, size), {}, {}, {}, {}, {}};
  split(picked(lse, rows, count), size, form.lse_high, form.lse_low);
  form.by_lse = padded<Real>(picked(by_lse, rows, count), size, 0);
  if (!by_target) return form;
  form.by_target = picked(by_target, rows, count);
  for (int64_t n = 0; n < count; ++n) form.target.push_back(targets.index[rows[n]]);
  return form;
}

// ---- the k-th largest ---------------------------------------------------------------------------------------------------------------------------

template <class Real>
void select_kth(const Head& head, const Targets& targets, const std::vector<int64_t>& rows, int64_t k, double* maximum, double* kth,
                int64_t workspace, int threads) {
  const int64_t lanes = head_kernels<Real>().lanes, total = static_cast<int64_t>(rows.size()), vocabulary = head.vocabulary;
  const int64_t fitting = workspace / (vocabulary * static_cast<int64_t>(sizeof(Real))) / lanes * lanes;
  const int64_t step = std::min(std::max(lanes, fitting), round_up(std::max<int64_t>(total, 1), lanes)), stride = line_stride<Real>(step);
  const Buffer<Real> kept(vocabulary * stride);
  for (int64_t first = 0; first < total; first += step) {
    const int64_t count = std::min(step, total - first);
    keep_logits<Real>(head, targets, rows.data() + first, count, {}, kept.get(), stride, threads);
    parallel_for(round_up(count, kSelectedRows) / kSelectedRows, threads, [&](int64_t group) {
      const int64_t begin = group * kSelectedRows, members = std::min(kSelectedRows, count - begin);
      const Buffer<Real> values(members * vocabulary);
      for (int64_t v = 0; v < vocabulary; ++v)
        for (int64_t n = 0; n < members; ++n) values[n * vocabulary + v] = kept[v * stride + begin + n];
      for (int64_t n = 0; n < members; ++n) {
        Real *from = values.get() + n * vocabulary, *end = from + vocabulary;
        const int64_t row = rows[static_cast<size_t>(first + begin + n)];
        const bool ordered = std::none_of(from, end, [](Real x) { return std::isnan(x); });
        if (ordered) std::nth_element(from, from + (k - 1), end, std::greater<Real>());
        kth[row] = ordered ? static_cast<double>(from[k - 1]) : std::nan("");
        maximum[row] = ordered ? static_cast<double>(*std::max_element(from, from + k)) : std::nan("");
      }
    });
  }
}

}  // namespace

void divergence(const TwoHeads& heads, const Targets& targets, const Divergence& kind, const DivergenceRows& out, int threads) {
  check_divergence("divergence", heads, kind);
  threads = resolve_threads(threads);
  const std::vector<int64_t> rows = kept_rows("divergence", heads.first, targets);
  for (double* values : {out.forward, out.reverse, out.first_lse, out.second_lse}) std::fill_n(values, heads.first.rows, 0.0);
  if (kind.kind == DivergenceKind::jensen_shannon) {
    for (const auto& [head, lse] : {std::pair(&heads.first, out.first_lse), std::pair(&heads.second, out.second_lse)}) {
      Statistics want;
      want.lse = lse;
      row_statistics(*head, targets, want, threads);
    }
  }
  in_real(heads, [&](auto real) {
    using Real = decltype(real);
    if (kind.kind == DivergenceKind::kl) {
      sum_kl<Real>(heads, rows, out, threads);
    } else {
      sum_elements<Real>(heads, rows, kind, out, threads);
    }
  });
}

void divergence_backward(const TwoHeads& heads, const Targets& targets, const Divergence& kind, const DivergenceRows& rows,
                         const DivergenceUpstream& upstream, const TwoGradients& out, const BackwardOptions& options) {
  check_divergence("divergence_backward", heads, kind);
  check_exact("divergence_backward", options);
  if ((upstream.reverse || upstream.first_lse || upstream.second_lse) && kind.kind != DivergenceKind::kl)
    throw_invalid("divergence_backward: there is a gradient by another than forward; expected none, as the kind is not kl");
  const std::vector<int64_t> kept = rows_with_gradient("divergence_backward", heads, targets,
                                                       {upstream.forward, upstream.reverse, upstream.first_lse, upstream.second_lse});
  const BackwardOptions how = resolved(heads, out, options);
  in_real(heads, [&](auto real) {
    using Real = decltype(real);
    stream_gradients<Real>(heads, kept, out, how, [&](const int64_t* chunk, int64_t count, int64_t size) {
      return divergence_form<Real>(heads, kind, rows, upstream, chunk, count, size);
    });
  });
}

void combined_statistics(const TwoHeads& heads, const Targets& targets, const Combination& combination, const Statistics& out,
                         int threads) {
  check_two_heads("combined_statistics", heads);
  check_statistics("combined_statistics", heads.first, targets, out);
  threads = resolve_threads(threads);
  const std::vector<int64_t> rows = kept_rows("combined_statistics", heads.first, targets);
  clear_statistics(heads.first, out);
  in_real(heads, [&](auto real) { sum_combined<decltype(real)>(heads, targets, rows, combination, out, threads); });
}

void combined_backward(const TwoHeads& heads, const Targets& targets, const Combination& combination, const double* lse,
                       const double* by_lse, const double* by_target, const TwoGradients& out, const BackwardOptions& options) {
  check_two_heads("combined_backward", heads);
  check_exact("combined_backward", options);
  if (by_target && !targets.index && heads.first.rows > 0)
    throw_invalid("combined_backward: targets is None; expected targets, as there is a gradient by theirs");
  const std::vector<int64_t> kept = rows_with_gradient("combined_backward", heads, targets, {by_lse, by_target});
  const BackwardOptions how = resolved(heads, out, options);
  in_real(heads, [&](auto real) {
    using Real = decltype(real);
    stream_gradients<Real>(heads, kept, out, how, [&](const int64_t* chunk, int64_t count, int64_t size) {
      return combined_form<Real>(heads, targets, combination, lse, by_lse, by_target, chunk, count, size);
    });
  });
}

void kth_largest(const Head& head, const Targets& targets, int64_t k, double* maximum, double* kth, int64_t workspace_bytes, int threads) {
  check_head("kth_largest", head);
  BackwardOptions options;
  options.workspace_bytes = workspace_bytes;
  check_options("kth_largest", options);
  threads = resolve_threads(threads);
  if (head.rows > 0 && (k < 1 || k > head.vocabulary))
    throw_invalid("kth_largest: k is " + std::to_string(k) + "; expected 1 to " + std::to_string(head.vocabulary) + ", the vocabulary");
  const std::vector<int64_t> rows = kept_rows("kth_largest", head, targets);
  std::fill_n(maximum, head.rows, 0.0);
  std::fill_n(kth, head.rows, 0.0);
  if (rows.empty()) return;
  if (head.format == Format::f64) {
    select_kth<double>(head, targets, rows, k, maximum, kth, workspace_bytes, threads);
  } else {
    select_kth<float>(head, targets, rows, k, maximum, kth, workspace_bytes, threads);
  }
}

}  // namespace slipstick::losses
