// Random numbers that depend on nothing but (seed, purpose, position): Philox4x32-10 of Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011, doi:10.1145/2063384.2063405. The generator has no state, so a stream is the same for
// any number of threads, chunks, instruction sets and devices. Exact: integers only.
#pragma once
#include <array>
#include <cstdint>

namespace slipstick {

// Ten rounds of Philox on one block: 128 bits of counter and 64 bits of key give 128 random bits. A bijection of the counter for each key.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// One stream of random words. Streams of one seed and different purposes never share a block, so that two uses of a seed stay independent.
// The seed is the whole key; the purpose, a constant of the place that draws, is word 2 of the counter; the block is words 0 and 1.
class RandomStream {
 public:
  RandomStream(uint64_t seed, uint32_t purpose) : seed_(seed), purpose_(purpose) {}

  // Words 4 * block .. 4 * block + 3 of the stream.
  std::array<uint32_t, 4> words(uint64_t block) const {
    return philox4x32({low(block), high(block), purpose_, 0}, {low(seed_), high(seed_)});
  }

  // words() of blocks [first_block, first_block + blocks) into out [4 * blocks], on `threads` threads as in parallel_for; block numbers wrap
  // at 2^64. Bitwise equal for any number of threads. Throws Error{invalid_argument} on negative blocks and as parallel_for does.
  void fill(uint64_t first_block, int64_t blocks, uint32_t* out, int threads) const;

 private:
  static uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
  static uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

  uint64_t seed_;
  uint32_t purpose_;
};

}  // namespace slipstick
