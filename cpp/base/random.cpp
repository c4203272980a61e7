// Philox4x32-10, written for clarity: the reference that any vectorised or device copy must equal bit for bit.
#include "slipstick/random.h"

#include <algorithm>
#include <string>

#include "slipstick/error.h"
#include "slipstick/threads.h"

namespace slipstick {
namespace {

// Constants of the paper: its authors searched for the multipliers; the key increments are fractions of the golden ratio and of sqrt(3).
constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kKeyIncrement0 = 0x9E3779B9, kKeyIncrement1 = 0xBB67AE85;
constexpr int kRounds = 10;

constexpr int64_t kBlocksPerTask = 1 << 14;  // some 100 us of work: well above the cost of waking a worker

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kKeyIncrement0;
    key[1] += kKeyIncrement1;
  }
  return counter;
}

void RandomStream::fill(uint64_t first_block, int64_t blocks, uint32_t* out, int threads) const {
  if (blocks < 0) throw Error(ErrorKind::invalid_argument, "RandomStream: blocks is " + std::to_string(blocks) + "; expected 0 or more");
  const int64_t tasks = blocks / kBlocksPerTask + (blocks % kBlocksPerTask != 0);
  parallel_for(tasks, threads, [&](int64_t task) {
    const int64_t end = std::min(blocks - task * kBlocksPerTask, kBlocksPerTask) + task * kBlocksPerTask;
    for (int64_t i = task * kBlocksPerTask; i < end; ++i) {
      const std::array<uint32_t, 4> four = words(first_block + static_cast<uint64_t>(i));
      std::copy(four.begin(), four.end(), out + 4 * i);
    }
  });
}

}  // namespace slipstick
