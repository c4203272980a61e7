// Random bits for vectors of elements, in the namespace of the level. Included by .simd.cpp files alone.
//
// Philox4x32-10 (cpp/base/random.cpp is the reference) with the seed as key and the counter {block, block's upper half, purpose, stream}.
// Element i of the array: with k = 32 / bits numbers a word, tile = i / (64 k) and e = i % (64 k), it takes block 16 tile + e % 16, word
// e / 16 % 4, and of that word the bits from bits * (e / 64) on. So a vector of 16, 8 or 4 elements takes one word of as many blocks.
#pragma once
#include "lowbit/kernels.h"
#include "simd/vec.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {

constexpr uint32_t kPurpose = 0x6c6f7762;  // "lowb": of this room, see RandomStream
constexpr int kGroups = 16 / static_cast<int>(simd::U32::lanes);
// Each round is a chain of a product, a shift and logic. Four halves of vectors hide it, where two took 10 % more time (lowbit.py: stochastic).
constexpr int kTilesAtOnce = kGroups == 1 ? 2 : 1;

// The keys of all rounds in registers' width, so that a tile need not make them again.
struct RoundKeys {
  simd::U64 first[10], second[10];
  explicit RoundKeys(uint64_t seed) {
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      first[round] = simd::U64::all(key0);
      second[round] = simd::U64::all(key1);
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
  }
};

// words[word][group]: of the 16 blocks of a tile, behind them those of the next tile if there are kTilesAtOnce. Two halves of a vector go as 64-bit
// lanes, whose upper words are whatever the products leave: the next product reads only the lower ones. That takes 16 operations a round where
// 32-bit lanes would take 20.
inline void random_words(const RoundKeys& keys, uint32_t stream, uint64_t tile, simd::U32 (&words)[4][kTilesAtOnce * kGroups]) {
  using simd::U32;
  using simd::U64;
  constexpr int kHalves = 2 * kTilesAtOnce * kGroups;
  U64 c0[kHalves], c1[kHalves], c2[kHalves], c3[kHalves];
  for (int h = 0; h < kHalves; ++h) {  // even blocks of a group, then odd ones
    const uint64_t block = 16 * tile + static_cast<uint64_t>(h / 2 * U32::lanes);
    const U32 lane = U32::count_up() + U32::all(static_cast<uint32_t>(block));
    c0[h] = h % 2 ? as_u64(lane) >> 32 : as_u64(lane);
    c1[h] = U64::all(block >> 32);
    c2[h] = U64::all(kPurpose);
    c3[h] = U64::all(stream);
  }
  const U32 multiplier0 = U32::all(0xD2511F53u), multiplier1 = U32::all(0xCD9E8D57u);
  for (int round = 0; round < 10; ++round) {
    for (int h = 0; h < kHalves; ++h) {
      const U64 product0 = multiply_even(as_u32(c0[h]), multiplier0), product1 = multiply_even(as_u32(c2[h]), multiplier1);
      c0[h] = (product1 >> 32) ^ c1[h] ^ keys.first[round];
      c1[h] = product1;
      c2[h] = (product0 >> 32) ^ c3[h] ^ keys.second[round];
      c3[h] = product0;
    }
  }
  const U64 low = U64::all(0xffffffffu);
  for (int g = 0; g < kTilesAtOnce * kGroups; ++g) {
    words[0][g] = as_u32((c0[2 * g] & low) | (c0[2 * g + 1] << 32));
    words[1][g] = as_u32((c1[2 * g] & low) | (c1[2 * g + 1] << 32));
    words[2][g] = as_u32((c2[2 * g] & low) | (c2[2 * g + 1] << 32));
    words[3][g] = as_u32((c3[2 * g] & low) | (c3[2 * g + 1] << 32));
  }
}

// Calls body(offset, word, part) for every vector of elements offset .. offset + lanes that begins before count; the last may reach beyond. Its
// random numbers are the random.bits bits of word from part * random.bits on. whole: count is a multiple of kTilesAtOnce * kTile.
template <bool whole, typename Body> inline void for_each_random_word(const RandomAt& random, int64_t count, Body body) {
  using simd::U32;
  const int parts = 32 / random.bits;
  const int64_t tile_elements = 64 * parts;
  const RoundKeys keys(random.seed);
  uint64_t tile = random.position / static_cast<uint64_t>(tile_elements);
  for (int64_t start = 0; start < count; start += kTilesAtOnce * tile_elements, tile += kTilesAtOnce) {
    U32 words[4][kTilesAtOnce * kGroups];
    random_words(keys, random.stream, tile, words);
    for (int t = 0; t < kTilesAtOnce; ++t) {
      for (int part = 0; part < parts; ++part) {
        for (int word = 0; word < 4; ++word) {
          for (int g = 0; g < kGroups; ++g) {
            const int64_t offset = start + t * tile_elements + 64 * part + 16 * word + g * U32::lanes;
            if (whole || offset < count) body(offset, words[word][t * kGroups + g], part);
          }
        }
      }
    }
  }
}

// The random numbers of a word that for_each_random_word gives.
struct RandomNumbers {
  int bits;
  simd::U32 mask;
  explicit RandomNumbers(int bits_) : bits(bits_), mask(simd::U32::all(bits_ == 32 ? 0xffffffffu : (1u << bits_) - 1)) {}
  simd::U32 of(simd::U32 word, int part) const { return (word >> (part * bits)) & mask; }
};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
