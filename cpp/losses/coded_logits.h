// Logits that the forward leaves for a rounded backward.
#pragma once
#include "losses/plan.h"

namespace slipstick::losses {

// Columns of the least group of rounded gradients: long enough sums for the gradient of hidden, which is read and written once for each.
constexpr int64_t kRoundedBlocks = 8, kRoundedColumns = kRoundedBlocks * kBlockColumns;

// Logits coded in 12 bits, see CodedTile, of as many blocks as there is room for.
// Codes are lent the memory of the gradient of the weight, too: the rows of a group of kRoundedColumns columns are written when the group's codes
// have been read, so those of a block lie there or further on.
class CodedLogits {
 public:
  // weight_gradient: null, or [vocabulary, width] of bf16, not written before the codes of its group are read. bytes: for all buffers.
  CodedLogits(const Head& head, int64_t rows, void* weight_gradient, int64_t bytes);
  bool holds(int64_t block) const { return places_[static_cast<size_t>(block)] != nullptr; }
  bool holds_all() const { return std::find(places_.begin(), places_.end(), nullptr) == places_.end(); }
  // `logits` are to be coded, or come back.
  CodedTile tile(int64_t block, int64_t columns, float* logits, int64_t stride) const;

 private:
  int64_t rows_, padded_rows_;
  Buffer<uint8_t> own_;
  std::vector<uint8_t*> places_;  // of each block's codes and largest logits, null for none
};

}  // namespace slipstick::losses
