// Contract: what is taken out of a text comes back byte for byte, for any text; random digits cost the bits they have, and what stands in a
// text twice stays in it; of what an archive says of digits nothing is believed that its own bytes do not bear out. Oracles: the text
// itself, bits put together one at a time, and bytes written down by hand after FORMAT.md, section 3.3.
#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "logs/random_digits.h"
#include "logs/streams.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20261127;
constexpr std::string_view kLower = "0123456789abcdef", kUpper = "0123456789ABCDEF";
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kBase64Url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// Whether anything was taken out; what was must come back.
bool comes_back(const std::string& text) {
  DigitParts parts;
  if (!take_digits(text, parts)) return false;
  ByteReader in(parts.layouts);
  const DigitLayouts layouts(in);
  CHECK(in.done());
  CHECK(layouts.put_back(parts.rest, parts.digits, text.size()) == text);
  CHECK_THROWS(layouts.put_back(parts.rest, parts.digits + '\0', text.size()), corrupt_data, "another size than stated");
  CHECK_THROWS(layouts.put_back(parts.rest, parts.digits, text.size() + 1), corrupt_data, "another size than stated");
  return true;
}

// Digits of these alphabets as bits, lowest first, padded to bytes.
std::string bits_of(const std::vector<std::pair<std::string, std::string_view>>& runs) {
  std::vector<bool> bits;
  for (const auto& [run, alphabet] : runs)
    for (char c : run)
      for (size_t bit = 1; bit < alphabet.size(); bit *= 2) bits.push_back((alphabet.find(c) & bit) != 0);
  std::string bytes((bits.size() + 7) / 8, '\0');
  for (size_t i = 0; i < bits.size(); ++i)
    if (bits[i]) bytes[i / 8] = static_cast<char>(bytes[i / 8] | 1 << i % 8);
  return bytes;
}

// A stream of this codec with these packed bytes, read.
std::string read(const std::string& packed, size_t size, size_t most = 1000) {
  RunCodec codec;
  std::string bytes;
  put_stream(bytes, kStreamDigits, packed, size);
  ByteReader in(bytes);
  const Stream stream = get_stream(in, most, codec);
  CHECK(in.done());
  return std::string(stream.view());
}

std::string stored(const std::string& rest) {
  std::string bytes;
  put_stream(bytes, kStreamStored, rest, rest.size());
  return bytes;
}

}  // namespace

TEST(digests_become_their_bits_and_a_mark) {
  Random random(kSeed);
  std::string text, rest;
  std::vector<std::pair<std::string, std::string_view>> runs;
  const std::string again = random.text(kLower, 40);
  for (int i = 0; i < 50; ++i) {
    const std::string digest = random.text(kLower, 64), upper = random.text(kUpper, 32), key = random.text(kBase64, 86);
    const std::string uuid = random.text(kLower, 32);
    const std::string url_key = "A-" + random.text(kBase64Url, 62);
    text += "sha256:" + digest + " MD5=" + upper + " \"sha512-" + key + "==\" of " + again + " id " + uuid.substr(0, 8) + "-" +
            uuid.substr(8, 4) + "-" + uuid.substr(12, 4) + "-" + uuid.substr(16, 4) + "-" + uuid.substr(20) + " jwt " + url_key + "\n";
    runs.insert(runs.end(), {{digest, kLower}, {upper, kUpper}, {key, kBase64}, {uuid, kLower}, {url_key, kBase64Url}});
  }
  DigitParts parts;
  CHECK(take_digits(text, parts));
  CHECK(parts.digits == bits_of(runs));
  CHECK_EQUAL(parts.rest.size(), text.size() - 50 * (64 + 32 + 86 + 36 + 64) + 50 * 5);
  CHECK_EQUAL(parts.taken, size_t{50 * (64 + 32 + 86 + 36 + 64)});
  CHECK(parts.rest.find(again) != std::string::npos);
  CHECK(comes_back(text));
}

TEST(outer_groups_that_are_alike_stay) {
  Random random(kSeed);
  std::string text, digits;
  for (int i = 0; i < 200; ++i) {
    const std::string trace = random.text(kLower, 32), span = random.text(kLower, 16);
    text += "00-" + trace + "-" + span + "-01 2026/11/" + std::to_string(10 + i / 20) + "/" + trace.substr(5, 8) + span + "\n";
    digits += trace + span + trace.substr(5, 8) + span;
  }
  DigitParts parts;
  CHECK(take_digits(text, parts));
  CHECK(parts.digits == bits_of({{digits, kLower}}));
  CHECK_EQUAL(parts.rest.substr(0, 20), std::string("00-\xFF-01 2026/11/10/\xFE").substr(0, 20));
  CHECK(comes_back(text));
}

TEST(what_does_not_look_random_stays) {
  Random random(kSeed + 1);
  std::string numbers, words, dumps, mixed, repeats, short_ones, paths;
  for (int i = 0; i < 200; ++i) {
    numbers += "at " + random.text("0123456789", 24) + "\n";
    words += "deadbeef-feed-face-cafe-" + std::string(i % 9 + 4, 'a') + "\n";
    dumps += random.text("01f", 64) + "\n";
    mixed += random.text(kLower, 7) + "G" + random.text(kUpper, 7) + "-x ";
    short_ones += random.text(kLower, 8) + "-" + random.text(kLower, 7) + " x\n";
    paths += "/Users/Name/Library2/Application/Support/Files/" + std::to_string(i) + "\n";
  }
  for (int i = 0; i < 20; ++i) repeats += "layer " + random.text(kLower, 64) + "\n";
  repeats += repeats;
  for (const std::string& text : {numbers, words, dumps, mixed, repeats, short_ones, paths, server_log(200, kSeed), std::string()})
    CHECK(!comes_back(text));
}

TEST(hostile_texts_come_back) {
  Random random(kSeed + 2);
  const auto hex = [&](size_t size) { return random.text(kLower, size); };
  CHECK(comes_back(hex(1000000)));  // one run is the whole text
  CHECK(comes_back(hex(999999)));
  CHECK(comes_back(random.text(kBase64, 1000001)));
  CHECK(comes_back(hex(164) + random.text(kUpper, 164) + hex(165)));  // runs that touch: of two alphabets
  CHECK(comes_back(random.text(kUpper, 301) + "=" + hex(303) + "+" + hex(305)));
  comes_back(random.text("0123456789abcdefABCDEF", 100000));  // mixed case
  comes_back(std::string(1000000, 'a'));
  comes_back(std::string(1000000, '0'));
  std::string all(256, '\0');
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
  CHECK(!comes_back(hex(1000) + all));  // no byte is left for a mark
  all.erase(200, 1);
  CHECK(comes_back(hex(1000) + all + hex(100) + "." + hex(1000)));  // one is
  std::string lengths, groups, touching, many;
  for (size_t i = 16; i < 300; ++i) lengths += hex(i) + " ";  // more layouts than there may be
  CHECK(comes_back(lengths));
  for (int i = 0; i < 3000; ++i) {
    for (uint64_t left = 1 + random.below(40); left > 0; --left) groups += hex(random.below(20)) + random.of("-/:- x");
    touching += hex(16) + random.of("-/:");
  }
  comes_back(groups);
  comes_back(groups.substr(3));
  CHECK(comes_back(touching));
  while (many.size() < 17000000) many += hex(16) + "\n";  // a million runs
  CHECK(comes_back(many));
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    while (random.chance(10) == false) {
      const std::string_view alphabet = random.of(std::vector<std::string_view>{kLower, kUpper, kBase64, kBase64Url, "-/:", "xyz \n"});
      text += random.text(alphabet, random.below(70));
    }
    comes_back(text);
  }
}

TEST(a_stream_by_hand_reads_as_the_format_says) {
  // A mark '!' for two digits, '-', three digits of upper case; '?' for one of base64.
  const std::string layouts(
      "\2"
      "!\1\2\2-\3"
      "?\3\1\1",
      11);
  // 1F-2A9 and '_': nibbles 1 F 2 A 9, then 63 in six bits: bytes F1 A2, then 9 | (63 & 15) << 4, then 63 >> 4.
  CHECK_EQUAL(read(layouts + stored("a!b?") + "\xF1\xA2\xF9\x03", 9), "a1F-2A9b_");
  CHECK_EQUAL(read(layouts + stored("") + "", 0), "");
  CHECK_EQUAL(read(layouts + stored("none"), 4), "none");
  CHECK_THROWS(read(layouts + stored("a!b?") + "\xF1\xA2\xF9\x07", 9), corrupt_data, "behind the last digit");
  CHECK_THROWS(read(layouts + stored("a!b?") + "\xF1\xA2\xF9", 9), corrupt_data, "another size than stated");
  CHECK_THROWS(read(layouts + stored("a!b?") + "\xF1\xA2\xF9\x03", 10), corrupt_data, "another size than stated");
  CHECK_THROWS(read(layouts + stored("a!b?") + "\xF1\xA2\xF9\x03", 9, 8), corrupt_data, "illegal size");
  CHECK_THROWS(read(layouts + stored("a!b?0123456"), 9), corrupt_data, "illegal size");
}

TEST(what_the_format_forbids_is_refused) {
  const std::string rest = stored("!");
  const auto refuse = [&](const std::string& packed, const char* why) { CHECK_THROWS(read(packed, 2), corrupt_data, why); };
  refuse(std::string("\0", 1) + rest, "illegal number of layouts");
  refuse("\x41" + rest, "illegal number of layouts");
  refuse(std::string("\1!\4\1\2", 5) + rest, "unknown alphabet");
  refuse(std::string("\1!\0\0", 4) + rest, "illegal number of groups");
  refuse(std::string("\1!\0\21", 4) + rest, "illegal number of groups");
  refuse(std::string("\1!\0\1\0", 5) + rest, "illegal number of digits");
  refuse(std::string("\1!\0\1\x81\x80\x80\x80\1", 9) + rest, "illegal number of digits");
  refuse(std::string("\2!\0\1\2!\0\1\2", 9) + rest, "mark of two layouts");
  refuse(std::string("\1!\0\1\2", 5), "ends early");
  refuse(std::string("\1!\0\1", 4), "ends early");
  refuse(std::string("\1!\0\1\x80\x80\x80\x80\1", 9) + rest, "another size than stated");  // 2^28 digits that are not there
  for (char codec : {'\4', '\5', '\6'}) {
    std::string other = rest;
    other[0] = codec;
    refuse(std::string("\1!\0\1\2", 5) + other + "1", "illegal codec");
  }
  CHECK_EQUAL(read(std::string("\1!\0\1\2", 5) + rest + "\x21", 2), "12");
}

TEST(archives_with_digests_come_back_and_tell_where_bytes_went) {
  RunCodec codec;
  const std::string raw = digest_log(300, kSeed);
  for (Level level : all_levels()) {
    const std::string packed = pack(raw, level);
    CHECK(unpack(packed) == raw);
    CHECK(unpack_at_random(packed) == raw);
    const Archive archive(packed, codec);
    CHECK(archive.contents().streams.size() > 1);
    bool told = false;
    for (const auto& stream : archive.contents().streams) told |= stream.name == "random digits" && stream.raw_bytes > 300 * 140;
    CHECK(told);
  }
}

TEST(mutated_streams_of_digits_are_read_or_refused) {
  Random random(kSeed + 3);
  const std::string text = digest_log(12, kSeed);
  DigitParts parts;
  CHECK(take_digits(text, parts));
  const std::string packed = parts.layouts + stored(parts.rest) + parts.digits;
  CHECK(read(packed, text.size(), text.size()) == text);
  size_t came_through = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = packed;
    for (uint64_t edits = 1 + random.below(3); edits > 0; --edits) {
      const size_t at = random.chance(2) ? random.below(parts.layouts.size() + 6) : random.below(damaged.size());
      if (random.chance(2))
        damaged[at] = static_cast<char>(random.next());
      else if (random.chance(2))
        damaged.erase(at, 1 + random.below(4));
      else
        damaged.insert(at, random.bytes(1 + random.below(3)));
    }
    try {
      CHECK_EQUAL(read(damaged, text.size(), text.size()).size(), text.size());
      ++came_through;
    } catch (const Error&) {
    }
  }
  CHECK(came_through > 0);
}
