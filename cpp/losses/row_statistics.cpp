// The forward: a grid of jobs, (block of rows) x (chunk of columns), each with sums of its own, merged in the order of the grid.
#include <algorithm>

#include "losses/plan.h"
#include "slipstick/threads.h"

namespace slipstick::losses {
namespace {

// Packed hidden rows are held for so many bytes at once: within the promised 16 MiB with the sums, and enough rows to read weight seldom.
constexpr int64_t kPackedBytes = int64_t{8} << 20;

template <class Real> void run(const Head& head, const Targets& targets, const std::vector<int64_t>& rows, const Statistics& out,
                               int threads) {
  const int64_t lanes = head_kernels<Real>().lanes, block = kBlockPanels * lanes;
  const int64_t width = std::max<int64_t>(head.width, 64), total = static_cast<int64_t>(rows.size());
  // What a row takes: its packed part of hidden, and what the largest logits of each chunk of columns are collected in.
  const int64_t packed = width * static_cast<int64_t>(sizeof(Real)), chunks = round_up(head.vocabulary, kChunkColumns) / kChunkColumns;
  const int64_t collected = chunks * out.topk * static_cast<int64_t>(sizeof(Real) + sizeof(int64_t));
  const int64_t step = std::max(block, kPackedBytes / std::max(packed, collected) / block * block);
  for (int64_t first = 0; first < total; first += step) {
    const int64_t count = std::min(step, total - first);
    const PartialGrid<Real> grid(head, targets, rows.data() + first, count, out);
    const HiddenPanels<Real> panels = pack_hidden<Real>(head, rows.data() + first, count, threads);
    const int64_t blocks = round_up(count, block) / block;
    // Blocks of rows come first, so that threads that run together read the same weights.
    parallel_for(blocks * grid.chunks(), threads, [&](int64_t job) {
      const int64_t chunk = job / blocks, row = job % blocks * block, column = chunk * kChunkColumns;
      const int64_t job_rows = std::min(block, count - row), stride = round_up(job_rows, lanes);
      const WeightTile<Real> weight(head);
      const Buffer<Real> tile(kTileColumns * stride);
      const Partial<Real> partial = grid.at(chunk, row);
      stream_logits<Real>(head, panels, row / lanes, job_rows, column, std::min(kChunkColumns, head.vocabulary - column), weight,
                          tile.get(), stride, true, &partial);
    });
    grid.merge(out);
  }
}

}  // namespace

void row_statistics(const Head& head, const Targets& targets, const Statistics& out, int threads) {
  check_head("row_statistics", head);
  check_statistics("row_statistics", head, targets, out);
  threads = threads_for(head, threads);
  const std::vector<int64_t> rows = kept_rows("row_statistics", head, targets);
  clear_statistics(head, out);
  if (head.format == Format::f64) {
    run<double>(head, targets, rows, out, threads);
  } else {
    run<float>(head, targets, rows, out, threads);
  }
}

double multiply_add_flops(int64_t steps) { return active_kernels().multiply_add_chains(steps); }

}  // namespace slipstick::losses
