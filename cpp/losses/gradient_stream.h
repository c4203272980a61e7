// The one streamed backward: chunks of rows go in with their coefficients, gradients come out.
//
// Jobs are kSlots fixed ranges of the vocabulary. A job walks its range in blocks of kBlockColumns columns; for each it has the logits (kept,
// or computed again by the forward's own kernel, hence the same bits), turns them into gradients in place, finishes the block's rows of the weight
// gradient, and adds to its own partial gradient of hidden; the partial ones are added in the order of the slots.
//
// Rounded gradients, whose products are twice as fast, go through the vocabulary once, in groups of columns that all threads share: jobs of a
// block each form the group's gradients in the layouts of both products, then other jobs own a block of the weight gradient or a tile of the one
// gradient of hidden. Without partial ones there is workspace for logits, and what is not kept is computed twice.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "losses/coded_logits.h"
#include "losses/plan.h"

namespace slipstick::losses {

constexpr int64_t kSlots = 8;
inline int64_t slot_begin(int64_t slot, int64_t blocks) { return slot * blocks / kSlots; }
void check_options(const char* where, const BackwardOptions& options);
// Gradients of hidden and dropped sums of all rows to 0, for those that are skipped.
void clear(const Head& head, const Gradients& out, const BackwardOptions& options);

// More rows in a chunk without kept logits push its blocks out of the second cache.
constexpr int64_t kMostRows = 1024;
// Rows of a chunk without kept logits: as many as the workspace holds. Where the weight gradient has no sum of its own, one chunk avoids a
// buffer of its size.
template <class Real> int64_t recomputed_rows(int64_t bytes, int64_t rows, int64_t row_bytes, bool sum_apart) {
  const int64_t lanes = head_kernels<Real>().lanes;
  const int64_t most = std::max(lanes, bytes / row_bytes / lanes * lanes);
  return std::min(std::max<int64_t>(rows, 1), sum_apart && most >= rows ? most : std::min(most, round_up(kMostRows, lanes)));
}

// Coefficients of a chunk of rows, one number a row; see Coefficients. Entries are sorted by column, then row.
struct ChunkCoefficients {
  struct Entry {
    int64_t column, row;
    double value;
    double logit;  // NaN where it is not known
  };
  std::vector<double> lse, a, b, c, d;  // b, c, d empty for zeros
  std::vector<Entry> entries;
  void sort();
};

// An element of the gradient by the logits that a filter left.
struct Survivor {
  int32_t column, row;
  float value;
};

// What a chunk has beside its coefficients.
template <class Real> struct ChunkLogits {
  Real* kept = nullptr;  // the mapped logits [vocabulary][stride], destroyed
  int64_t stride = 0;
  const CodedLogits* coded = nullptr;
  // Gradients by logits may be rounded to bf16, except those of the entries, which are taken apart: products of pairs then.
  bool rounded = false;
};

template <class Real> class GradientStream {
 public:
  // more_chunks: whether add() is called more than once. Memory of the stream itself: see bytes_per_row() and accumulator_bytes().
  GradientStream(const Head& head, const Gradients& out, const BackwardOptions& options, bool more_chunks);

  // rows: `count` rows of hidden.
  void add(const int64_t* rows, int64_t count, const ChunkCoefficients& coefficients, const ChunkLogits<Real>& logits);
  void finish();

  // What add() does where the gradients by the logits come from elsewhere: open a chunk, open every slot, add the slot's blocks of
  // kBlockColumns in order, close the chunk.
  struct Chunk;
  struct Scratch;
  std::shared_ptr<Chunk> open(const int64_t* rows, int64_t count) const;
  // Null if the slot has no blocks.
  std::shared_ptr<Scratch> open_slot(const Chunk& chunk, int64_t slot, int64_t stride) const;
  void add_block(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t block, const Real* gradients) const;
  void close(const Chunk& chunk);

  // Bytes of buffers for each row of a chunk, those of one thread among them, without kept logits.
  static int64_t bytes_per_row(const Head& head, bool rounded);
  // Bytes of rounded gradients beyond that, where there are few rows.
  static int64_t group_bytes(const BackwardOptions& options);
  // Bytes of the sum of the weight gradient where it cannot be taken in the output itself.
  static int64_t accumulator_bytes(const Head& head);
  // Bytes of what is held from one chunk to the next: that sum, or with a filter a list of what it left. (Where the list is full, or a block
  // too full for one, there is a sum, too, beyond all budgets.)
  static int64_t held_bytes(const Head& head, const Gradients& out, const BackwardOptions& options);

 private:
  struct RoundedGroup;
  void lay_out(Chunk& chunk, const int64_t* rows, int64_t count, bool rounded) const;
  struct SlotRun;
  void run_slot(const Chunk& chunk, int64_t slot, SlotRun& run) const;
  void form_gradient(const Chunk& chunk, Real* block, int64_t stride, int64_t columns, int64_t first_row, int64_t rows) const;
  Real* block_at(const Chunk& chunk, const Scratch& scratch, int64_t block) const;
  bool form_block(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t block) const;
  void multiply(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t first, int64_t columns, const Real* block, int64_t stride,
                bool fresh) const;
  void run_rounded(const Chunk& chunk) const;
  void take_entries(Chunk& chunk) const;
  void round_block(const Chunk& chunk, RoundedGroup& group, int64_t block) const;
  void multiply_weight(const Chunk& chunk, const RoundedGroup& group, int64_t block) const;
  void multiply_hidden(const Chunk& chunk, const RoundedGroup& group, int64_t first_row, int64_t end_row, int64_t panel) const;
  void write_weight(const Real* rows, int64_t first, int64_t columns) const;
  void sum_bias(int64_t first, int64_t columns, const Real* block, int64_t rows, int64_t stride) const;
  int64_t filter(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t columns, Real* block, int64_t stride) const;
  void apply_sparse(const Chunk& chunk, const Scratch& scratch, int64_t slot, int64_t first, int64_t columns, const Real* block,
                    int64_t stride, std::vector<Survivor>* list) const;
  void add_listed(int64_t block, Real* rows) const;
  void list_to_sum();
  void finish_hidden(const Chunk& chunk);
  void spread_dropped(const Chunk& chunk);
  const std::vector<double>& weight_sum();

  const Head& head_;
  const Gradients out_;
  const BackwardOptions options_;
  const HeadKernels<Real>& kernels_;
  const int64_t blocks_, column_panels_;
  const bool filtered_;
  Real* weight_sums_ = nullptr;  // [vocabulary][width], null where blocks are written at once or listed
  bool listing_ = false;  // the weight's gradient is to be taken from lists_
  std::vector<std::vector<Survivor>> lists_;  // kSlots of each chunk, in the order of columns, then rows
  int64_t listed_ = 0;  // elements in them
  Buffer<Real> weight_buffer_;
  Buffer<double> bias_sums_;
  std::vector<double> column_sum_;  // sum of the weight's rows
  std::vector<double> tail_hidden_;  // sum over rows of dropped / V * hidden
  double tail_bias_ = 0;
  bool first_chunk_ = true;
};

}  // namespace slipstick::losses
