// The mixer's loops, left to the compiler to vectorise. Exact.
#include "logs/mixer_kernels.h"

namespace slipstick::logs::SLIPSTICK_ISA_NAMESPACE {
namespace {

// 40 products of at most 2^15 * kLogitLimit stay in 32 bits.
int32_t dot(const int32_t* a, const int32_t* b, const int16_t* inputs, int count) {
  int32_t sum = 0;
  for (int i = 0; i < count; i += 8)
    for (int j = i; j < i + 8; ++j) sum += ((a[j] + b[j]) >> 8) * static_cast<int32_t>(inputs[j]);
  return sum;
}

constexpr int32_t kWeightLimit = (1 << 22) - 1;   // two sets together stay below 8

void train_set(int32_t* weights, const int16_t* inputs, int32_t step, int count) {
  for (int i = 0; i < count; i += 8)
    for (int j = i; j < i + 8; ++j) {
      int32_t weight = weights[j] + ((static_cast<int32_t>(inputs[j]) * step + 128) >> 8);
      weight = weight > kWeightLimit ? kWeightLimit : weight;
      weights[j] = weight < -kWeightLimit ? -kWeightLimit : weight;
    }
}

void train(int32_t* a, int32_t* b, const int16_t* inputs, int32_t step, int count) {
  train_set(a, inputs, step, count);
  train_set(b, inputs, step, count);
}

}  // namespace

const MixerKernels mixer_kernels{SLIPSTICK_ISA_NAME, dot, train};

}  // namespace slipstick::logs::SLIPSTICK_ISA_NAMESPACE
