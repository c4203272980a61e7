// Mixing predictions of one bit: the arithmetic under the level `max`. Integers only, the same bits on every machine.
//
// A prediction is a logit, ln(p / (1 - p)), in 1/128. A mixer weighs the logits of many contexts and learns from what
// came (gated linear mixing, Mattern 2012; the arrangement of Mahoney's paq, written anew); an Apm then corrects the
// answer by what came of such answers before. Weights of a decision are the sum of two sets: one that is shared by all
// and learns fast, one that belongs to the column or byte at hand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "logs/hash.h"
#include "logs/mixer_kernels.h"
#include "logs/range_coder.h"

namespace slipstick::logs {

constexpr int kLogitOne = 128;                  // a logit of 1
constexpr int kLogitLimit = 12 * kLogitOne - 1;   // 1 - p = 0.000006

// Both tables from one recurrence: odds(k + 1) = odds(k) * e^(1/128), in units of 2^-32.
struct LogitTables {
  uint16_t squash[2 * kLogitLimit + 1];   // of a logit + kLogitLimit: p of 65536, 1 to 65535
  int16_t stretch[4096];                  // of p of 4096
  constexpr LogitTables() : squash(), stretch() {
    constexpr uint64_t kOne = uint64_t{1} << 32;
    constexpr uint64_t kStep = 33685846;     // (e^(1/128) - 1) * 2^32
    uint64_t odds = kOne;                    // up to e^12 * 2^32: below 2^50
    for (int x = 0; x <= kLogitLimit; ++x) {
      uint64_t p = ((odds >> 8) << 16) / ((odds + kOne) >> 8);
      p = p > 65535 ? 65535 : p;
      squash[kLogitLimit + x] = static_cast<uint16_t>(p);
      squash[kLogitLimit - x] = static_cast<uint16_t>(65536 - p);
      odds += (odds >> 12) * kStep >> 20;
    }
    int x = -kLogitLimit;
    for (int p = 0; p < 4096; ++p) {
      while (x < kLogitLimit && squash[kLogitLimit + x] < p * 16 + 8) ++x;
      stretch[p] = static_cast<int16_t>(x);
    }
  }
};
extern const LogitTables kLogits;

inline int squash(int logit) { return kLogits.squash[std::clamp(logit, -kLogitLimit, kLogitLimit) + kLogitLimit]; }
inline int stretch_bit(Bit bit) { return kLogits.stretch[bit.one >> 10]; }

// How far a bit that was seen `count` times is believed, of 256: n / (n + 0.4).
struct TrustTable {
  uint16_t of[64];
  constexpr TrustTable() : of() {
    for (int n = 0; n < 64; ++n) of[n] = static_cast<uint16_t>(2560 * n / (10 * n + 4));
  }
};
inline constexpr TrustTable kTrust;
inline int trust(Bit bit) { return kTrust.of[std::min<uint32_t>(bit.count, 63)]; }

// The two inputs that a context gives: its logit, and its lean, which is nothing while the context is new.
inline void put_inputs(Bit bit, int16_t* inputs) {
  int belief = trust(bit);
  inputs[0] = static_cast<int16_t>(stretch_bit(bit) * belief >> 8);
  inputs[1] = static_cast<int16_t>(((static_cast<int>(bit.one >> 12) - 512) * belief) >> 8);
}

// Learns how far to follow each of kInputs inputs (a multiple of 8). Weights are 2^20 for 1, at most 7.99 in size.
template <int kInputs>
class Mixer {
  static_assert(kInputs % 8 == 0 && kInputs <= 40);

 public:
  Mixer(size_t shared_sets, size_t own_sets, int32_t first_weight)
      : shared_(shared_sets * kInputs, first_weight), own_(own_sets * kInputs, 0) {}

  int16_t inputs[kInputs] = {};

  int mix(size_t shared, size_t own) {
    a_ = &shared_[shared * kInputs];
    b_ = &own_[own * kInputs];
    logit_ = std::clamp(kernels_.dot(a_, b_, inputs, kInputs) >> 12, -kLogitLimit, kLogitLimit);
    return logit_;
  }
  // `rate` of 16: how fast, 16 for 1/64 a step.
  void learn(bool bit, int rate) {
    int32_t error = (((bit ? 65535 : 0) - squash(logit_)) * rate) >> 5;
    if (error > -kSmallError && error < kSmallError) return;   // most decisions of a log teach nothing
    kernels_.train(a_, b_, inputs, std::clamp(error, -32767, 32767), kInputs);
  }

 private:
  static constexpr int32_t kSmallError = 8;
  const MixerKernels& kernels_ = active_mixer_kernels();
  std::vector<int32_t> shared_, own_;
  int32_t* a_ = nullptr;
  int32_t* b_ = nullptr;
  int logit_ = 0;
};

// Corrects a prediction by what came of such predictions under a context before.
class Apm {
 public:
  explicit Apm(size_t contexts) : cells_(contexts * kCells) {
    for (size_t i = 0; i < cells_.size(); ++i)
      cells_[i] = static_cast<uint16_t>(squash((static_cast<int>(i % kCells) - kCells / 2) * kLogitOne));
  }
  // p of 65536.
  int refine(int logit, size_t context) {
    int position = std::clamp(logit, -kLogitLimit, kLogitLimit) + (kCells / 2) * kLogitOne;
    size_t low = context * kCells + static_cast<size_t>(position / kLogitOne);
    int weight = position % kLogitOne;
    at_ = low + (weight >= kLogitOne / 2);
    return (cells_[low] * (kLogitOne - weight) + cells_[low + 1] * weight) / kLogitOne;
  }
  void learn(bool bit, int shift) {
    int target = bit ? 65535 : 0;
    cells_[at_] = static_cast<uint16_t>(cells_[at_] + (target - cells_[at_]) / (1 << shift));
  }

 private:
  static constexpr int kCells = 25;   // one a logit, -12 to 12
  std::vector<uint16_t> cells_;
  size_t at_ = 0;
};

inline uint32_t clamp_mixed(int p) { return static_cast<uint32_t>(std::clamp(p, 2, 65534)); }

}  // namespace slipstick::logs
