// What the tests of the logs room share: seeded random choices, a small byte codec in zstd's place, logs made on the
// spot, and the container taken apart and put together again by its layout alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "logs/block.h"
#include "logs/bytes.h"
#include "logs/continued.h"
#include "logs/hash.h"
#include "logs/lexer.h"
#include "slipstick/logs.h"

namespace logs_test {

using slipstick::Error;
using slipstick::ErrorKind;
using namespace slipstick::logs;

// SplitMix64 (Steele, Lea and Flood 2014): tests need speed and a seed, not quality.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
  }
  uint64_t below(uint64_t count) { return next() % count; }
  bool chance(uint64_t one_in) { return below(one_in) == 0; }
  template <class T>
  const T& of(const std::vector<T>& choices) {
    return choices[below(choices.size())];
  }
  char of(std::string_view choices) { return choices[below(choices.size())]; }
  std::string text(std::string_view alphabet, size_t size) {
    std::string out;
    while (out.size() < size) out.push_back(of(alphabet));
    return out;
  }
  std::string bytes(size_t size) {
    std::string out;
    while (out.size() < size) out.push_back(static_cast<char>(next()));
    return out;
  }

 private:
  uint64_t state_;
};

// Runs of bytes behind a size and a checksum; behind a prefix also copies of its parts; without repeats a frame of zstd, of raw blocks and
// runs. As strict as the product asks a codec to be, and nothing more.
class RunCodec : public ByteCodec {
 public:
  std::string compress(std::string_view data, int level) override {
    if (level == kLiteralsOnly) return frame(data);
    std::string out;
    put_varint(out, data.size());
    put_fixed(out, hash64(data.data(), data.size()), 4);
    for (size_t at = 0; at < data.size();) {
      size_t run = 1;
      while (run < 255 && at + run < data.size() && data[at + run] == data[at]) ++run;
      out.push_back(static_cast<char>(run));
      out.push_back(data[at]);
      at += run;
    }
    return out;
  }
  std::string decompress(std::string_view data, size_t raw_size) override {
    if (data.substr(0, kFrameStart.size()) == kFrameStart) return frame_content(data, raw_size);
    ByteReader in(data);
    if (in.varint() != raw_size) in.fail("states another size");
    uint64_t checksum = in.fixed(4);
    std::string out;
    while (!in.done()) {
      size_t run = in.byte();
      if (run == 0 || run > raw_size - out.size()) in.fail("has an illegal run");
      out.append(run, static_cast<char>(in.byte()));
    }
    if (out.size() != raw_size) in.fail("is short");
    if ((hash64(out.data(), out.size()) & UINT32_MAX) != checksum) in.fail("is damaged");
    return out;
  }

  // Literals behind their count, and behind a count of 0 a place in the prefix and a length.
  std::string compress_below(std::string_view data, std::string_view prefix, int level, size_t limit, size_t uncounted, size_t) override {
    std::string out;
    if (prefix.empty()) {
      out = compress(data, level);
    } else {
      std::string rest;
      std::unordered_map<std::string_view, size_t> places;
      for (size_t at = 0; at + kLeastCopy <= prefix.size(); at += kLeastCopy) places.emplace(prefix.substr(at, kLeastCopy), at);
      put_varint(out, data.size());
      for (size_t at = 0; at < data.size();) {
        const auto place = places.find(data.substr(at, kLeastCopy));
        if (place == places.end()) {
          rest.push_back(data[at++]);
          continue;
        }
        const size_t found = place->second;
        size_t length = kLeastCopy;
        while (at + length < data.size() && found + length < prefix.size() && data[at + length] == prefix[found + length]) ++length;
        put_literals(out, rest);
        out.push_back('\0');
        put_varint(out, found);
        put_varint(out, length);
        at += length;
      }
      put_literals(out, rest);
    }
    return out.size() > limit + (uncounted == 0 ? 0 : std::min(out.size(), 2 * uncounted)) ? std::string() : out;
  }
  std::string decompress_behind(std::string_view data, std::string_view prefix, size_t raw_size) override {
    if (data.substr(0, kFrameStart.size()) == kFrameStart) return frame_content(data, raw_size);
    ByteReader in(data);
    if (in.varint() != raw_size) in.fail("states another size");
    std::string out;
    while (!in.done()) {
      size_t count = in.byte();
      if (count == 0) {
        const size_t at = in.varint(), length = in.varint();
        if (at > prefix.size() || length > prefix.size() - at || length > raw_size - out.size()) in.fail("has an illegal copy");
        out += prefix.substr(at, length);
      } else {
        if (count > raw_size - out.size()) in.fail("has an illegal run");
        out += in.take(count);
      }
    }
    if (out.size() != raw_size) in.fail("is short");
    return out;
  }

 private:
  static constexpr size_t kLeastCopy = 24;
  static constexpr std::string_view kFrameStart{"\x28\xB5\x2F\xFD\xA0", 5};   // of a single segment, with a size of four bytes
  static std::string frame(std::string_view data) {
    std::string out(kFrameStart);
    put_fixed(out, data.size(), 4);
    for (size_t at = 0; at < data.size(); at += 128 * 1024) {
      const std::string_view part = data.substr(at, 128 * 1024);
      const bool run = part.find_first_not_of(part[0]) == std::string_view::npos;
      put_fixed(out, uint64_t{at + part.size() == data.size()} | uint64_t{run} << 1 | part.size() << 3, 3);
      out += run ? part.substr(0, 1) : part;
    }
    return out;
  }
  static std::string frame_content(std::string_view data, size_t raw_size) {
    ByteReader in(data, kFrameStart.size());
    if (in.fixed(4) != raw_size) in.fail("states another size");
    std::string out;
    for (bool last = false; !last;) {
      const uint64_t header = in.fixed(3), kind = header >> 1 & 3, size = header >> 3;
      last = (header & 1) != 0;
      if (kind > 1 || size > 128 * 1024 || size > raw_size - out.size()) in.fail("has an illegal block");
      if (kind == 1) {
        out.append(size, static_cast<char>(in.byte()));
      } else {
        out += in.take(size);
      }
    }
    if (!in.done() || out.size() != raw_size) in.fail("is not as long as stated");
    return out;
  }
  static void put_literals(std::string& out, std::string& rest) {
    for (size_t at = 0; at < rest.size(); at += 255) {
      const size_t count = std::min<size_t>(255, rest.size() - at);
      out.push_back(static_cast<char>(count));
      out.append(rest, at, count);
    }
    rest.clear();
  }
};

inline const std::vector<LexerOptions>& all_options() {
  static const std::vector<LexerOptions> all = {{false, false}, {true, false}, {false, true}, {true, true}};
  return all;
}

inline const std::vector<Level>& all_levels() {
  static const std::vector<Level> all = [] {
    std::vector<Level> levels;
    for (const std::string& name : level_names()) levels.push_back(level_of(name));
    return levels;
  }();
  return all;
}

// Those that are fast enough for hundreds of archives or for many megabytes.
inline std::vector<Level> quick_levels() { return {Level::fast, Level::standard}; }

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char buffer[512];
  int size = std::snprintf(buffer, sizeof buffer, pattern, values...);
  return std::string(buffer, static_cast<size_t>(size));
}

// A server's log of many kinds of values, `lines` lines.
inline std::string server_log(size_t lines, uint64_t seed) {
  Random random(seed);
  std::string out;
  unsigned second = 3600;
  for (size_t i = 0; i < lines; ++i) {
    second += static_cast<unsigned>(random.below(3));
    out += format("Jun %2u %02u:%02u:%02u combo ", static_cast<unsigned>(1 + i * 20 / lines), second / 3600 % 24, second / 60 % 60,
                  second % 60);
    unsigned process = static_cast<unsigned>(1000 + random.below(4));
    unsigned number = static_cast<unsigned>(random.below(5000));
    const char* user = random.of(std::vector<const char*>{"root", "guest", "alice", "bob", "carol", "dave"});
    switch (random.below(5)) {
      case 0:
        out += format("sshd[%u]: Accepted password for %s from 10.0.%u.%u port %u ssh2", process, user, number % 4, number % 250,
                      40000 + number);
        break;
      case 1: out += format("kernel: request %08x took %u.%06u s", number * 2654435761u, number / 1000, number); break;
      case 2: out += format("web[%u]: \"GET /static/%u/index.html?id=%u HTTP/1.1\" 200 %u", process, number % 7, number, number * 3); break;
      case 3:
        out += format("job[%u]: {\"id\": %u, \"state\": \"%s\", \"session\": \"%08X-0000-4000-8000-%012x\"}", process, number,
                      number % 3 ? "done" : "failed", number * 40503u, number);
        break;
      default: out += format("disk sd%c: %u%% of /var/lib/data/%u used\r", "abc"[number % 3], number % 100, number % 12);
    }
    out.push_back('\n');
  }
  return out;
}

// Digests and keys, each behind a path, an identifier or a name; every fifth comes again.
inline std::string digest_log(size_t lines, uint64_t seed) {
  constexpr std::string_view kHex = "0123456789abcdef";
  Random random(seed);
  std::string out, digest;
  for (size_t i = 0; i < lines; ++i) {
    if (i % 5 != 4) digest = random.text(kHex, 60);
    out += format("layer %u sha256:", static_cast<unsigned>(i)) + digest + " from /packages/" + random.text(kHex, 2) + "/" +
           random.text(kHex, 2) + "/" + random.text(kHex, 60) + "/part.whl, key " +
           random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 86) + "==\n";
  }
  return out;
}

// Statistics of several parts, each with counters of its own pace behind the same text: columns by slot pay.
inline std::string wide_log(size_t lines, uint64_t seed) {
  Random random(seed);
  constexpr size_t kParts = 7;
  unsigned counters[kParts][3] = {};
  std::string out;
  for (size_t i = 0; i < lines; ++i) {
    out += format("{\"at\":%u,\"parts\":[", static_cast<unsigned>(1000000 + i * 5000 + random.below(9)));
    for (size_t part = 0; part < kParts; ++part) {
      for (size_t n = 0; n < 3; ++n)
        counters[part][n] += static_cast<unsigned>((part * part * 997 + n * 31 + 1) * (90 + random.below(20)) / 100);
      out += format("{\"received\":%u,\"delivered\":%u,\"abandoned\":%u},", counters[part][0], counters[part][1], counters[part][2]);
    }
    out.back() = ']';
    out += "}\n";
  }
  return out;
}

inline std::string pack(std::string_view raw, Level level, int threads = 1) {
  RunCodec codec;
  Compressor compressor(level, threads, codec);
  std::string out = compressor.write(raw);
  out += compressor.finish();
  return out;
}

inline std::string unpack(std::string_view archive, int threads = 1, uint64_t max_memory = 0, uint64_t max_output = 0) {
  RunCodec codec;
  Decompressor decompressor(threads, max_memory, max_output, codec);
  std::string raw, part;
  decompressor.feed(archive);
  while (decompressor.next(part)) raw += part;
  decompressor.finish();
  return raw;
}

inline std::string unpack_at_random(std::string_view data) {
  RunCodec codec;
  Archive archive(data, codec);
  std::string raw;
  for (size_t i = 0; i < archive.block_count(); ++i) raw += archive.decompress_block(i);
  return raw;
}

// An archive in parts, as FORMAT.md lays it out; written() fills in every checksum, so that what is behind them can be
// reached with damaged parts.
struct Parts {
  struct Block {
    uint8_t method = 0;
    uint64_t raw_bytes = 0, lines = 0, checksum = 0;
    uint64_t payload_bytes = 0;   // as stated
    std::string index;            // records
    std::string payload;
  };
  std::string header;   // magic, version, level
  std::vector<Block> blocks;

  static constexpr size_t kHeaderBytes = 10;

  static Parts read(std::string_view archive) {
    Parts parts;
    parts.header = std::string(archive.substr(0, kHeaderBytes));
    ByteReader in(archive, kHeaderBytes);
    while (in.byte() == 1) {
      size_t size = in.varint(), begin = in.at();
      Block block;
      block.method = in.byte();
      block.raw_bytes = in.varint();
      block.lines = in.varint();
      block.payload_bytes = in.varint();
      block.checksum = in.fixed(8);
      in.fixed(4);   // checksum of the payload
      block.index = std::string(in.take(size - (in.at() - begin)));
      in.fixed(4);   // checksum of the header
      block.payload = std::string(in.take(block.payload_bytes));
      parts.blocks.push_back(std::move(block));
    }
    return parts;
  }

  static std::string written(const Block& block) {
    std::string fields(1, static_cast<char>(block.method));
    put_varint(fields, block.raw_bytes);
    put_varint(fields, block.lines);
    put_varint(fields, block.payload_bytes);
    put_fixed(fields, block.checksum, 8);
    put_fixed(fields, hash64(block.payload.data(), block.payload.size()), 4);
    fields += block.index;
    return sealed(fields) + block.payload;
  }
  // A block header around these fields.
  static std::string sealed(const std::string& fields) {
    std::string out(1, '\1');
    put_varint(out, fields.size());
    out += fields;
    put_fixed(out, hash64(out.data(), out.size()), 4);
    return out;
  }

  std::string written() const {
    std::string out = header, footer(1, '\2');
    put_varint(footer, blocks.size());
    for (const Block& block : blocks) {
      std::string bytes = written(block);
      out += bytes;
      put_varint(footer, bytes.size());
      put_varint(footer, block.raw_bytes);
      put_varint(footer, block.lines);
    }
    return out + finished(footer);
  }
  // Checksum and trailer behind a footer.
  static std::string finished(std::string footer) {
    put_fixed(footer, hash64(footer.data(), footer.size()), 4);
    put_fixed(footer, footer.size() + 12, 8);
    return footer + "PILS";
  }
};

// An archive of these blocks, each packed behind the one before it.
inline std::string archive_of(const std::vector<std::string>& raws, Level level = Level::fast) {
  RunCodec codec;
  Parts parts;
  parts.header = archive_header(level);
  std::string before;
  for (const std::string& raw : raws) {
    PackedBlock packed = pack_block(raw, level, codec, prefix_of(before));
    const bool open = raw.back() != '\n';
    parts.blocks.push_back({static_cast<uint8_t>(packed.method), raw.size(), count_lines(raw) << 1 | static_cast<uint64_t>(open),
                            hash64(raw.data(), raw.size()), packed.payload.size(), packed.index, packed.payload});
    before = raw;
  }
  return parts.written();
}

}  // namespace logs_test
