// Which tiles of logits are kept in 16 bits, and where.
#include "losses/coded_logits.h"

#include <algorithm>

namespace slipstick::losses {

CodedLogits::CodedLogits(const Head& head, int64_t rows, void* weight_gradient, int64_t bytes)
    : blocks_(round_up(head.vocabulary, kBlockColumns) / kBlockColumns),
      rows_(rows),
      padded_rows_(round_up(rows, 32)),  // whole vectors
      vocabulary_(head.vocabulary),
      width_(head.width),
      weight_gradient_(static_cast<uint16_t*>(weight_gradient)) {
  const int64_t groups = round_up(blocks_, kRoundedBlocks) / kRoundedBlocks;
  const int64_t row_bytes = padded_rows_ * static_cast<int64_t>(sizeof(float)), lent_count = groups * lent(kRoundedColumns);
  const int64_t left = bytes - lent_count * row_bytes;
  any_ = left >= 0;
  if (!any_) return;
  own_count_ = std::min(left / (kBlockColumns * padded_rows_ * 2 + row_bytes), blocks_ - lent_count + kRoundedBlocks);
  lent_count_ = lent_count;
  codes_ = Buffer<uint16_t>(own_count_ * padded_rows_ * kBlockColumns);
  largest_ = Buffer<float>((lent_count_ + own_count_) * padded_rows_);
}

// Blocks whose codes fit the gradient of the weight for so many columns.
int64_t CodedLogits::lent(int64_t columns) const {
  return weight_gradient_ ? std::min(kRoundedBlocks, columns * width_ / (kBlockColumns * padded_rows_)) : 0;
}

CodedLogits::Place CodedLogits::place(int64_t block) const {
  if (!any_) return {};
  const int64_t group = block / kRoundedBlocks, within = block % kRoundedBlocks, first = group * kRoundedColumns;
  const int64_t lent_full = lent(kRoundedColumns), lent_here = lent(std::min(kRoundedColumns, vocabulary_ - first));
  if (within < lent_here)
    return {weight_gradient_ + first * width_ + within * kBlockColumns * padded_rows_,
            largest_.get() + (group * lent_full + within) * padded_rows_};
  const int64_t own = group * (kRoundedBlocks - lent_full) + within - lent_here;
  if (own >= own_count_) return {};
  return {codes_.get() + own * kBlockColumns * padded_rows_, largest_.get() + (lent_count_ + own) * padded_rows_};
}

CodedTile CodedLogits::tile(int64_t block, int64_t columns, float* logits, int64_t stride) const {
  const Place at = place(block);
  return {logits, stride, columns, rows_, at.codes, at.largest};
}

}  // namespace slipstick::losses
