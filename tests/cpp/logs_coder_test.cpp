// Contract: what the encoders write the decoders read back, for any bits and any probabilities; damaged code gives some
// value or Error, never more; hash64 is XXH64; varints are LEB128 with no way past 64 bits. Oracles: the input itself,
// published vectors, and bytes written down by hand.
#include <string>
#include <vector>

#include "check.h"
#include "logs/bytes.h"
#include "logs/hash.h"
#include "logs/range_coder.h"
#include "logs/text_coder.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20240612;

struct Decision {
  bool bit;
  uint32_t one;
};

void check_decisions(const std::vector<Decision>& decisions) {
  Encoder encoder;
  for (const Decision& each : decisions) CHECK_EQUAL(encoder.code(each.bit, each.one), each.bit);
  std::string code = encoder.finish();
  CHECK(code.empty() || code.back() != '\0');   // the reader supplies zeros, so none is written
  Decoder decoder(code.data(), code.size());
  size_t wrong = 0;
  for (const Decision& each : decisions) wrong += decoder.code(false, each.one) != each.bit;
  CHECK_EQUAL(wrong, 0u);
}

}  // namespace

TEST(decisions_of_any_probability_come_back) {
  Random random(kSeed);
  check_decisions({});
  for (uint32_t one : {1u, 2u, 24u, 255u, 32768u, 65512u, 65534u, 65535u})
    for (bool bit : {false, true})
      for (size_t count : {1u, 2u, 7u, 8u, 9u, 1000u}) check_decisions(std::vector<Decision>(count, {bit, one}));
  for (int round = 0; round < 300; ++round) {
    std::vector<Decision> decisions(random.below(600));
    int kind = static_cast<int>(random.below(4));
    for (Decision& each : decisions) {
      uint32_t far = 1 + static_cast<uint32_t>(random.below(3));
      each.one = kind == 0   ? 1 + static_cast<uint32_t>(random.below(65535))
                 : kind == 1 ? (random.chance(2) ? far : 65536 - far)
                 : kind == 2 ? 32768 - static_cast<uint32_t>(random.below(3))
                             : 65536u >> (1 + random.below(16));
      each.bit = random.below(65536) < each.one;
      if (random.chance(8)) each.bit = !each.bit;   // surprises, also of 16 bits
    }
    check_decisions(decisions);
  }
}

TEST(code_is_as_short_as_the_decisions_are_probable) {
  // 14336 ones of probability 7/8 and 2048 zeros: (14336 * 0.192645 + 2048 * 3) / 8 = 1113.2 bytes.
  Encoder encoder;
  for (int i = 0; i < 16384; ++i) encoder.code(i % 8 != 5, 57344);
  size_t size = encoder.finish().size();
  CHECK(size >= 1112);
  CHECK(size <= 1116);
}

TEST(adaptive_bits_come_back_under_one_context_or_two) {
  Random random(kSeed + 1);
  for (int round = 0; round < 100; ++round) {
    std::vector<int> choices(2000);
    uint64_t odds = 1 + random.below(60);
    for (int& choice : choices) choice = static_cast<int>(random.below(8) * 2 + random.chance(odds));
    auto run = [&](auto& coder) {
      using Coder = std::decay_t<decltype(coder)>;
      Bit specific[8], general, alone[8];
      size_t wrong = 0;
      for (size_t i = 0; i < choices.size(); ++i) {
        int context = choices[i] / 2;
        bool bit = choices[i] & 1;
        bool in = Coder::kDecodes ? false : bit;
        bool got = i % 2 ? code_bit(coder, in, specific[context], general) : code_bit(coder, in, alone[context], 30);
        wrong += got != bit;
        for (const Bit& each : specific) wrong += each.count > static_cast<unsigned>(kBitLimit);
        for (const Bit& each : alone) wrong += each.count > 30;
      }
      CHECK_EQUAL(wrong, 0u);
    };
    Encoder encoder;
    run(encoder);
    std::string code = encoder.finish();
    Decoder decoder(code.data(), code.size());
    run(decoder);
  }
}

TEST(an_adaptive_bit_learns_and_stays_a_probability) {
  for (bool value : {false, true}) {
    Bit bit;
    CHECK_EQUAL(bit.one, 1u << 21);
    uint32_t before = bit.one;
    for (int i = 0; i < 5000; ++i) {
      learn(bit, value, kBitLimit);
      CHECK(value ? bit.one >= before : bit.one <= before);
      before = bit.one;
    }
    CHECK_EQUAL(clamp_probability(bit.one >> 6), value ? 65536 - kMinProbability : kMinProbability);
    for (int i = 0; i < 5000; ++i) learn(bit, !value, kBitLimit);
    CHECK_EQUAL(clamp_probability(bit.one >> 6), value ? kMinProbability : 65536 - kMinProbability);
  }
}

TEST(plain_bits_come_back_for_every_width) {
  Random random(kSeed + 2);
  Encoder encoder;
  std::vector<uint64_t> values;
  for (int bits = 0; bits <= 64; ++bits)
    for (int i = 0; i < 20; ++i) {
      values.push_back(bits == 0 ? 0 : random.next() >> (64 - bits));
      code_plain(encoder, values.back(), bits);
    }
  std::string code = encoder.finish();
  Decoder decoder(code.data(), code.size());
  size_t at = 0, wrong = 0;
  for (int bits = 0; bits <= 64; ++bits)
    for (int i = 0; i < 20; ++i) wrong += code_plain(decoder, 0, bits) != values[at++];
  CHECK_EQUAL(wrong, 0u);
}

TEST(a_decoder_reads_any_bytes) {
  Random random(kSeed + 3);
  for (size_t size : {0u, 1u, 7u, 8u, 9u, 100u}) {
    std::string code = random.bytes(size);
    Decoder decoder(code.data(), code.size());
    uint32_t ones = 0;
    for (int i = 0; i < 100000; ++i) ones += decoder.code(false, 1 + static_cast<uint32_t>(random.below(65535)));
    CHECK(ones <= 100000);
  }
}

TEST(texts_come_back) {
  Random random(kSeed + 4);
  std::vector<std::string> texts = {"",
                                    "a",
                                    std::string(1, '\0'),
                                    "\n",
                                    "\xff",
                                    "ab",
                                    std::string(7, 'x'),
                                    std::string(8, 'x'),
                                    std::string(9, '\n'),
                                    std::string(30000, 'a'),
                                    random.bytes(20000),
                                    server_log(400, kSeed)};
  std::string lines;   // the column of the text above is a context
  for (int i = 0; i < 300; ++i) lines += random.text("ab\n", 1 + random.below(40)) + '\n';
  texts.push_back(lines);
  for (int i = 0; i < 60; ++i) texts.push_back(random.text(i % 2 ? "ab \n" : "abcdefghij_0123456789\n\t =", random.below(300)));
  for (const std::string& text : texts) {
    std::string code = encode_text(text);
    CHECK(decode_text(code, text.size()) == text);
    CHECK(encode_text(text) == code);
  }
  CHECK(encode_text(texts[9]).size() < 100);
  CHECK(encode_text(texts[11]).size() * 4 < texts[11].size());
}

TEST(damaged_text_code_gives_some_text_of_the_asked_size) {
  Random random(kSeed + 5);
  std::string text = server_log(30, kSeed);
  std::string code = encode_text(text);
  for (int i = 0; i < 150; ++i) {
    std::string damaged = i < 20 ? random.bytes(random.below(300)) : code;
    if (!damaged.empty()) damaged[random.below(damaged.size())] ^= static_cast<char>(1u << random.below(8));
    if (random.chance(3)) damaged.resize(random.below(damaged.size() + 1));
    size_t size = random.chance(2) ? text.size() : random.below(3000);
    CHECK_EQUAL(decode_text(damaged, size).size(), size);
  }
}

TEST(hash64_gives_the_published_answers) {
  // XXH64, seed 0: the xxHash project's own sanity checks (tests/sanity_test_vectors.h: lengths 0, 1, 4, 14 and 222 of
  // its generated buffer) and the strings in the README of python-xxhash.
  std::string buffer;
  uint64_t generator = 2654435761u;
  while (buffer.size() < 222) {
    buffer.push_back(static_cast<char>(generator >> 56));
    generator *= 11400714785074694797u;
  }
  CHECK_EQUAL(hash64(buffer.data(), 0), 0xEF46DB3751D8E999u);
  CHECK_EQUAL(hash64(buffer.data(), 1), 0xE934A84ADB052768u);
  CHECK_EQUAL(hash64(buffer.data(), 4), 0x9136A0DCA57457EEu);
  CHECK_EQUAL(hash64(buffer.data(), 14), 0x8282DCC4994E35C8u);
  CHECK_EQUAL(hash64(buffer.data(), 222), 0xB641AE8CB691C174u);
  auto of = [](std::string_view text) { return hash64(text.data(), text.size()); };
  CHECK_EQUAL(of("a"), 0xD24EC4F1A98C6E5Bu);
  CHECK_EQUAL(of("xxhash"), 0x32DD38952C4BC720u);
  CHECK_EQUAL(of("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
}

TEST(hash64_does_not_depend_on_alignment) {
  Random random(kSeed + 6);
  std::string bytes = random.bytes(200);
  for (size_t size = 0; size < 100; ++size) {
    std::string first = bytes.substr(0, size);
    for (size_t shift = 1; shift < 9; ++shift) {
      std::string moved = std::string(shift, '?') + first;
      CHECK_EQUAL(hash64(moved.data() + shift, size), hash64(first.data(), size));
    }
  }
}

TEST(varints_are_leb128) {
  auto bytes = [](uint64_t value) {
    std::string out;
    put_varint(out, value);
    return out;
  };
  CHECK_EQUAL(bytes(0), std::string(1, '\0'));
  CHECK_EQUAL(bytes(127), "\x7f");
  CHECK_EQUAL(bytes(128), std::string("\x80\x01"));
  CHECK_EQUAL(bytes(300), std::string("\xac\x02"));
  CHECK_EQUAL(bytes(~uint64_t{0}), std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
  for (int shift = 0; shift < 64; ++shift)
    for (uint64_t around : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
      uint64_t value = (uint64_t{1} << shift) + around;
      std::string out = bytes(value);
      ByteReader in(out);
      CHECK_EQUAL(in.varint(), value);
      CHECK(in.done());
    }
}

TEST(readers_refuse_what_is_too_long_and_wait_for_what_is_short) {
  auto varint = [](std::string_view data) { ByteReader(data).varint(); };
  CHECK_THROWS(varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), corrupt_data, "more than 64 bits at byte 10");
  CHECK_THROWS(varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), corrupt_data, "more than 64 bits");
  for (std::string_view data : {"", "\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"}) {
    bool short_input = false;
    try {
      varint(data);
    } catch (const ShortInput&) {
      short_input = true;
    }
    CHECK(short_input);
  }
  ByteReader in("12345678");
  CHECK_EQUAL(in.fixed(4), 0x34333231u);
  CHECK_THROWS(in.fixed(8), corrupt_data, "ends early, at byte 8");
  CHECK_THROWS(in.take(~uint64_t{0}), corrupt_data, "ends early");
  CHECK_EQUAL(in.take(4), "5678");
  CHECK(in.done());
  CHECK_THROWS(in.byte(), corrupt_data, "ends early");
}

TEST(the_test_codec_itself_comes_back_and_refuses_damage) {
  RunCodec codec;
  Random random(kSeed + 7);
  for (const std::string& raw : {std::string(), std::string(1000, 'x'), random.bytes(300)}) {
    std::string packed = codec.compress(raw, 3);
    CHECK(codec.decompress(packed, raw.size()) == raw);
    CHECK_THROWS(codec.decompress(packed, raw.size() + 1), corrupt_data, "another size");
    packed.back() ^= 1;
    CHECK_THROWS(codec.decompress(packed, raw.size()), corrupt_data, "data");
  }
}
