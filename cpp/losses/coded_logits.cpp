// Which tiles of logits are kept in 12 bits, and where.
#include "losses/coded_logits.h"

#include <algorithm>

namespace slipstick::losses {
namespace {

constexpr int64_t kLine = 64;

}  // namespace

CodedLogits::CodedLogits(const Head& head, int64_t rows, void* weight_gradient, int64_t bytes)
    : rows_(rows),
      padded_rows_(round_up(rows, 32)),  // whole vectors
      places_(static_cast<size_t>(round_up(head.vocabulary, kBlockColumns) / kBlockColumns)) {
  const int64_t blocks = static_cast<int64_t>(places_.size()),
                block_bytes = padded_rows_ * (kCodeBytes + static_cast<int64_t>(sizeof(float)));
  int64_t left = blocks;
  if (weight_gradient) {
    // From the last block down, each as far on as it goes.
    const int64_t row_bytes = head.width * element_bytes(head.format), all = head.vocabulary * row_bytes;
    uint8_t* const begin = static_cast<uint8_t*>(weight_gradient);
    int64_t end = std::max<int64_t>(0, all - (reinterpret_cast<intptr_t>(begin) + all) % kLine);
    for (int64_t block = blocks - 1; block >= 0; --block) {
      if (end - block_bytes < block / kRoundedBlocks * kRoundedColumns * row_bytes) continue;
      end -= block_bytes;
      places_[static_cast<size_t>(block)] = begin + end;
      --left;
    }
  }
  const int64_t own = std::clamp<int64_t>(bytes / block_bytes, 0, left);
  own_ = Buffer<uint8_t>(own * block_bytes);
  int64_t taken = 0;
  for (uint8_t*& place : places_)
    if (!place && taken < own) place = own_.get() + taken++ * block_bytes;
}

CodedTile CodedLogits::tile(int64_t block, int64_t columns, float* logits, int64_t stride) const {
  uint8_t* codes = places_[static_cast<size_t>(block)];
  return {logits, stride, columns, rows_, codes, reinterpret_cast<float*>(codes + padded_rows_ * kCodeBytes)};
}

}  // namespace slipstick::losses
