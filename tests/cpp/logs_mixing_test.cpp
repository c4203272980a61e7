// Contract: squash is the logistic function within 2/65536 and stretch its inverse; the mixer's kernels are equal on every
// level; text of the level `max` comes back; an ablation measures the block that is packed. Oracles: exp in double, a plain
// loop, the input itself.
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"
#include "logs/mixed_text.h"
#include "logs/mixing.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20261125;

int32_t any_weight(Random& random) { return static_cast<int32_t>(random.below(1u << 23)) - (1 << 22) + 1; }

}  // namespace

TEST(squash_is_the_logistic_function_and_stretch_its_inverse) {
  for (int x = -kLogitLimit; x <= kLogitLimit; ++x) {
    double p = 65536 / (1 + std::exp(-static_cast<double>(x) / kLogitOne));
    CHECK(std::abs(squash(x) - p) <= 2);
    CHECK(squash(x) >= 1 && squash(x) <= 65535);
    if (x > -kLogitLimit) CHECK(squash(x) >= squash(x - 1));
  }
  CHECK_EQUAL(squash(100000), squash(kLogitLimit));
  for (int p = 1; p < 4096; ++p) {
    CHECK(squash(kLogits.stretch[p]) >= std::min(p * 16 + 8, 65535));
    CHECK(squash(kLogits.stretch[p] - 1) < p * 16 + 8);
  }
}

TEST(mixer_kernels_are_the_plain_loops) {
  Random random(kSeed);
  const MixerKernels& kernels = active_mixer_kernels();
  for (int round = 0; round < 300; ++round) {
    int count = 8 * (1 + static_cast<int>(random.below(5)));
    bool extreme = random.chance(4);
    std::vector<int32_t> a, b;
    std::vector<int16_t> inputs;
    for (int i = 0; i < count; ++i) {
      a.push_back(extreme ? (1 << 22) - 1 : any_weight(random));
      b.push_back(extreme ? (1 << 22) - 1 : any_weight(random));
      inputs.push_back(static_cast<int16_t>(extreme ? kLogitLimit : static_cast<int>(random.below(2 * kLogitLimit)) - kLogitLimit));
    }
    int64_t sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += static_cast<int64_t>((a[i] + b[i]) >> 8) * inputs[i];
    CHECK_EQUAL(static_cast<int64_t>(kernels.dot(a.data(), b.data(), inputs.data(), count)), sum);
    int32_t step = static_cast<int32_t>(random.below(65535)) - 32767;
    std::vector<int32_t> wanted[2] = {a, b};
    for (std::vector<int32_t>& weights : wanted)
      for (size_t i = 0; i < weights.size(); ++i)
        weights[i] = std::clamp(weights[i] + ((inputs[i] * step + 128) >> 8), -((1 << 22) - 1), (1 << 22) - 1);
    kernels.train(a.data(), b.data(), inputs.data(), step, count);
    CHECK(a == wanted[0]);
    CHECK(b == wanted[1]);
  }
}

TEST(mixed_texts_come_back) {
  Random random(kSeed + 1);
  std::vector<std::string> texts = {
      "", "\n", "a", std::string(3000, 'x'), random.bytes(2000), server_log(100, kSeed), std::string(vocabulary())};
  for (int i = 0; i < 10; ++i) texts.push_back(random.text(i % 2 ? "ab \n" : "abcdefghij_0123456789\n\t =&?/", random.below(300)));
  for (const std::string& text : texts) {
    std::string code = encode_mixed_text(text);
    CHECK(decode_mixed_text(code, text.size()) == text);
    CHECK(encode_mixed_text(text) == code);
  }
  CHECK(encode_mixed_text(std::string(3000, 'x')).size() < 100);
  CHECK(encode_mixed_text(vocabulary()).size() * 20 < vocabulary().size());   // the model has read it before
}

TEST(ablations_measure_the_block_that_is_packed) {
  RunCodec codec;
  std::string raw = server_log(600, kSeed + 2);
  for (Level level : {Level::standard, Level::max}) {
    size_t whole = size_without(raw, level, {}, codec);
    CHECK_EQUAL(whole, pack_block(raw, level, codec).payload.size());
    size_t different = 0;
    for (const std::string& technique : technique_names(level)) different += size_without(raw, level, {technique}, codec) != whole;
    CHECK(different * 2 > technique_names(level).size());
  }
  CHECK(technique_names(Level::fast).empty());
  CHECK_THROWS(size_without(raw, Level::standard, {"vocabulary"}, codec), invalid_argument, "techniques has 'vocabulary'");
}
