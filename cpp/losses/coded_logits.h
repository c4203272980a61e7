// Logits that the forward leaves for a rounded backward.
#pragma once
#include "losses/plan.h"

namespace slipstick::losses {

// Columns of the least group of rounded gradients: long enough sums for the gradient of hidden, which is read and written once for each.
constexpr int64_t kRoundedBlocks = 8, kRoundedColumns = kRoundedBlocks * kBlockColumns;

// Logits coded in 16 bits, see CodedTile, of as many blocks as there is room for; what is lost is less than rounding the gradient to bf16 loses.
// Codes are lent the memory of the gradient of the weight, too: those of kRoundedColumns columns lie in the rows of these, to be written later.
class CodedLogits {
 public:
  // weight_gradient: null, or [vocabulary, width] of bf16, not written before the codes of its block are read. bytes: for all buffers.
  CodedLogits(const Head& head, int64_t rows, void* weight_gradient, int64_t bytes);
  bool holds(int64_t block) const { return place(block).codes != nullptr; }
  // `logits` are to be coded, or come back.
  CodedTile tile(int64_t block, int64_t columns, float* logits, int64_t stride) const;

 private:
  struct Place {
    uint16_t* codes = nullptr;
    float* largest = nullptr;
  };
  Place place(int64_t block) const;
  int64_t lent(int64_t columns) const;
  int64_t blocks_, rows_, padded_rows_, vocabulary_, width_;
  int64_t lent_count_ = 0, own_count_ = 0;  // blocks
  bool any_;
  uint16_t* weight_gradient_;
  Buffer<uint16_t> codes_;
  Buffer<float> largest_;
};

}  // namespace slipstick::losses
