// Contract: philox4x32 is Philox4x32-10 of Salmon et al. 2011, exactly. The oracle are the known answers that its authors publish with Random123
// (file tests/kat_vectors of the library, lines "philox4x32 10"): counter and key all zero, all one, and digits of pi.
#include "slipstick/random.h"

#include <set>
#include <vector>

#include "check.h"

using slipstick::philox4x32;
using slipstick::RandomStream;
using Block = std::array<uint32_t, 4>;
using Key = std::array<uint32_t, 2>;

TEST(philox_gives_the_published_known_answers) {
  constexpr uint32_t kOnes = 0xffffffff;
  CHECK(philox4x32(Block{0, 0, 0, 0}, Key{0, 0}) == (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK(philox4x32(Block{kOnes, kOnes, kOnes, kOnes}, Key{kOnes, kOnes}) == (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK(philox4x32(Block{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, Key{0xa4093822, 0x299f31d0}) ==
        (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(stream_words_come_from_position_purpose_and_seed) {
  const RandomStream stream(0x1122334455667788, 0xabcdef01);
  CHECK(stream.words(0x99aabbccddeeff00) == philox4x32(Block{0xddeeff00, 0x99aabbcc, 0xabcdef01, 0}, Key{0x55667788, 0x11223344}));
}

TEST(streams_of_near_seeds_purposes_and_blocks_all_differ) {
  std::set<Block> seen;
  for (uint64_t seed : {0ull, 1ull, 1ull << 32, ~0ull})
    for (uint32_t purpose : {0u, 1u, ~0u})
      for (uint64_t block : {0ull, 1ull, 1ull << 32, ~0ull}) CHECK(seen.insert(RandomStream(seed, purpose).words(block)).second);
}

TEST(filling_equals_single_blocks_for_any_thread_count_and_wraps) {
  const RandomStream stream(7, 9);
  const uint64_t first = ~uint64_t{0} - 40000;  // the range passes 2^64
  for (int64_t blocks : {0, 1, 16383, 16384, 16385, 100000})
    for (int threads : {1, 2, 3, 7}) {
      std::vector<uint32_t> out(4 * blocks + 4, 0xdeadbeef);  // four words behind the end must stay
      stream.fill(first, blocks, out.data(), threads);
      int64_t wrong = 0;
      for (int64_t i = 0; i < blocks; ++i) {
        const Block want = stream.words(first + static_cast<uint64_t>(i));
        for (int word = 0; word < 4; ++word) wrong += out[4 * i + word] != want[word];
      }
      for (int word = 0; word < 4; ++word) wrong += out[4 * blocks + word] != 0xdeadbeef;
      CHECK_EQUAL(wrong, 0);
    }
}

TEST(filling_refuses_a_negative_count) {
  CHECK_THROWS(RandomStream(1, 1).fill(0, -1, nullptr, 1), invalid_argument, "RandomStream: blocks is -1; expected 0 or more");
}
