// What the parts of GradientStream share.
#pragma once
#include <vector>

#include "losses/gradient_stream.h"

namespace slipstick::losses {

// Large elements of a block of columns, for each row: there are fewer than four in all blocks.
constexpr int64_t kMostLarge = 4;

template <class Entry> bool before(const Entry& entry, int64_t column) { return entry.column < column; }

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
  int64_t sums;                // gradients of hidden that are to be added
  Buffer<Real> hidden;         // [sums][count][width]
  Buffer<double> dropped;      // [kSlots][padded_count]
  ChunkLogits<Real> logits;
  Real scale;  // what the sums are still to be multiplied by
};

}  // namespace slipstick::losses
