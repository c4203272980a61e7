// Contract: a block that repeats what its predecessor ends with may continue it; then it decodes behind it and nowhere else, as a stream,
// at random, for any number of threads, and what is lost with a lost predecessor is told. Blocks that gain nothing stay independent.
// Oracle: the raw bytes. Archives of small blocks are put together from packed blocks, as FORMAT.md lays them out.
#include "check.h"
#include "logs/continued.h"
#include "logs/matcher.h"
#include "logs/pattern.h"
#include "logs/repeats.h"
#include "logs/trimmed.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20261126;

// Random lines that come again in each block, one log between them, and blocks that continue it.
std::vector<std::string> periodic_blocks() {
  Random random(kSeed);
  std::string lines;
  for (int i = 0; i < 400; ++i) lines += random.text("0123456789abcdef", 63) + "\n";
  std::vector<std::string> raws = {lines, lines, lines + "end\n", server_log(500, kSeed), lines, lines.substr(64) + lines.substr(0, 64)};
  return raws;
}

// A frame of zstd as RFC 8878 lays it out, of blocks whose contents are anything.
struct ZstdBlock {
  uint64_t kind, size;
  std::string body;
};

std::string frame_of(const std::vector<ZstdBlock>& blocks, const std::string& header) {
  std::string out = header;
  for (size_t i = 0; i < blocks.size(); ++i) {
    put_fixed(out, uint64_t{i + 1 == blocks.size()} | blocks[i].kind << 1 | blocks[i].size << 3, 3);
    out += blocks[i].body;
  }
  return out;
}

constexpr size_t kFrameRaw = 1 << 20;   // what the frames are told to hold
const std::string kZstdMagic("\x28\xB5\x2F\xFD", 4);
const std::string kWholeHeader = kZstdMagic + std::string("\xA0\x00\x00\x10\x00", 5);

std::vector<ZstdBlock> random_zstd_blocks(Random& random) {
  std::vector<ZstdBlock> blocks(1 + random.below(40));
  for (ZstdBlock& block : blocks) {
    block.kind = random.below(3);
    block.size = random.chance(3) ? 128 * 1024 : random.chance(2) ? random.below(2000) : random.below(3);
    block.body = random.bytes(block.kind == 1 ? 1 : block.size);
  }
  return blocks;
}

std::string joined(const std::vector<std::string>& raws) {
  std::string all;
  for (const std::string& raw : raws) all += raw;
  return all;
}

}  // namespace

TEST(repeats_are_what_stands_where_they_say) {
  Random random(kSeed);
  const std::string period = random.bytes(20000);
  for (const std::string& text : {period + period + "x" + period.substr(5000) + random.bytes(50) + period, std::string(50000, 'z'),
                                  random.bytes(40000), period, std::string(), std::string("short")}) {
    for (size_t begin : {size_t{0}, text.size() / 3, text.size()}) {
      size_t covered = begin;
      for (const Repeat& repeat : find_repeats(text, begin)) {
        CHECK(repeat.at >= covered && repeat.distance >= 1 && repeat.distance <= repeat.at);
        covered = repeat.at + repeat.length;
        CHECK(covered <= text.size());
        for (size_t i = repeat.at; i < covered; ++i) CHECK(text[i] == text[i - repeat.distance]);
      }
    }
  }
  const std::vector<Repeat> twice = find_repeats(period + period, 100);
  CHECK_EQUAL(twice.size(), 1u);
  CHECK_EQUAL(twice[0].at, period.size());
  CHECK_EQUAL(twice[0].length, period.size());
  CHECK(find_repeats(random.bytes(100000), 0).empty());
}

TEST(payloads_of_continued_blocks_come_back) {
  Random random(kSeed);
  RunCodec codec;
  const std::string prefix = random.bytes(30000);
  for (const std::string& raw : {prefix, prefix.substr(29000) + prefix, prefix.substr(0, 9000) + "new" + prefix.substr(100, 20000),
                                 prefix + prefix + prefix, std::string("a"), prefix.substr(29999) + std::string(70000, 'q')}) {
    const std::string payload = pack_continued(raw, prefix, raw.size() + 64, 9, 0, codec);
    CHECK(!payload.empty());
    CHECK(unpack_continued(payload, prefix, raw.size(), codec) == raw);
    CHECK(pack_continued(raw, prefix, payload.size() - 1, 9, 0, codec).empty());
  }
  CHECK(pack_continued(prefix, prefix, 200, 9, 0, codec).size() < 64);
}

TEST(trimmed_frames_are_smaller_and_come_back) {
  Random random(kSeed);
  const std::vector<std::string> headers = {
      kWholeHeader,
      kZstdMagic + std::string("\x00\x58", 2),                                   // window
      kZstdMagic + std::string("\x20\x07", 2),                                   // one segment, size of one byte
      kZstdMagic + std::string("\x40\x58\x01\x02", 4),                           // window, size of two
      kZstdMagic + std::string("\xC0\x58\x00\x00\x10\x00\x00\x00\x00\x00", 10),  // window, size of eight
  };
  for (int i = 0; i < 30; ++i) {
    const std::vector<ZstdBlock> blocks = random_zstd_blocks(random);
    for (const std::string& header : headers) {
      const std::string frame = frame_of(blocks, header), trimmed = trim_frame(frame, kFrameRaw);
      if (blocks.size() > 20) CHECK(!trimmed.empty());
      if (trimmed.empty()) continue;
      CHECK(trimmed.size() < frame.size());
      CHECK(whole_frame(trimmed, kFrameRaw) == frame_of(blocks, kWholeHeader));
    }
  }
  // A constant gigabyte, and blocks of about the same size: most of what is in front of them goes.
  const std::string runs = frame_of(std::vector<ZstdBlock>(8192, {1, 128 * 1024, "\1"}), kWholeHeader);
  CHECK(trim_frame(runs, size_t{1} << 30).size() < 8192 + 100);
  std::vector<ZstdBlock> alike(256);
  for (ZstdBlock& block : alike) block = {2, 98310 + random.below(30), {}}, block.body = std::string(block.size, 'x');
  const std::string frame = frame_of(alike, kWholeHeader);
  CHECK(trim_frame(frame, kBlockBytes).size() + 400 < frame.size());
}

TEST(blocks_are_trimmed_frames_where_zstd_alone_is_better) {
  const std::string raw(3 * kBlockBytes, '\1');
  RunCodec codec;
  for (Level level : all_levels()) {
    const PackedBlock block = pack_block(std::string_view(raw).substr(0, kBlockBytes), level, codec);
    CHECK(block.method == Method::trimmed);
    CHECK(block.payload.size() < 300);   // the frame has four bytes for each of 256 blocks
    CHECK(unpack_block(block.method, block.payload, 0, kBlockBytes, codec) == raw.substr(0, kBlockBytes));
  }
  const std::string archive = pack(raw, Level::fast, 2);
  CHECK(archive.size() < 600);
  for (int threads : {1, 2}) CHECK(unpack(archive, threads) == raw);
  CHECK(unpack_at_random(archive) == raw);
}

TEST(frames_that_are_not_trimmed_stay_whole) {
  Random random(kSeed);
  const std::vector<ZstdBlock> blocks(30, {2, 100, random.bytes(100)});
  const std::string frame = frame_of(blocks, kWholeHeader);
  CHECK(!trim_frame(frame, kFrameRaw).empty());
  for (char flag : {'\x10', '\x08', '\x04', '\x01'}) {   // unused, reserved, checksum, dictionary
    std::string other = frame;
    other[4] = static_cast<char>(other[4] | flag);
    CHECK(trim_frame(other, kFrameRaw).empty());
  }
  for (size_t size = 0; size < frame.size(); ++size) CHECK(trim_frame(frame.substr(0, size), kFrameRaw).empty());
  CHECK(trim_frame(frame + "x", kFrameRaw).empty());
  CHECK(trim_frame(frame + frame, kFrameRaw).empty());
  CHECK(trim_frame("x" + frame, kFrameRaw).empty());
  CHECK(trim_frame(frame_of(blocks, kWholeHeader), 256 * 27).empty());   // 29 blocks at most
  CHECK(trim_frame(frame_of({{2, 128 * 1024 + 1, std::string(128 * 1024 + 1, 'x')}}, kWholeHeader), kFrameRaw).empty());
  CHECK(trim_frame(frame_of({{3, 10, std::string(10, 'x')}}, kWholeHeader), kFrameRaw).empty());
}

TEST(mutated_trimmed_frames_are_read_or_refused) {
  Random random(kSeed + 2);
  const std::string trimmed = trim_frame(frame_of(random_zstd_blocks(random), kWholeHeader), kFrameRaw);
  size_t came_through = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = trimmed.substr(0, random.chance(2) ? trimmed.size() : random.below(trimmed.size()));
    for (uint64_t edits = 1 + random.below(3); edits > 0; --edits)
      damaged[random.below(std::min<size_t>(damaged.size(), 60))] = static_cast<char>(random.next());
    try {
      CHECK(whole_frame(damaged, kFrameRaw).size() <= damaged.size() + 3 * (kFrameRaw / 256 + 2) + 9);
      ++came_through;
    } catch (const Error&) {
    }
  }
  CHECK(came_through > 0);
  CHECK_THROWS(whole_frame(std::string("\0\0", 2), kFrameRaw), corrupt_data, "illegal number of zstd blocks");
  CHECK_THROWS(whole_frame(std::string("\5\0", 2), 256), corrupt_data, "illegal number of zstd blocks");
  CHECK_THROWS(whole_frame(trimmed + "x", kFrameRaw), corrupt_data, "goes on after the last zstd block");
}

TEST(continued_blocks_decode_in_every_way) {
  const std::vector<std::string> raws = periodic_blocks();
  const std::string archive = archive_of(raws), all = joined(raws);
  RunCodec codec;
  const Archive opened(archive, codec);
  const std::vector<bool> continued = {false, true, true, false, false, true};
  for (size_t i = 0; i < raws.size(); ++i) {
    CHECK_EQUAL(opened.block(i).continued, continued[i]);
    CHECK_EQUAL(opened.block(i).method == "continued", continued[i]);
  }
  for (int threads : {1, 2, 3, 7}) CHECK(unpack(archive, threads) == all);
  for (size_t i : {size_t{5}, size_t{2}, size_t{1}, size_t{2}, size_t{0}, size_t{3}, size_t{5}})
    CHECK(opened.decompress_block(i) == raws[i]);
  CHECK(unpack_at_random(archive) == all);
  CHECK_EQUAL(opened.contents().templates.empty(), false);
  // One thread is given a byte at a time what others get at once.
  Decompressor slow(1, 0, 0, codec);
  std::string got, part;
  for (char byte : archive) {
    slow.feed(std::string_view(&byte, 1));
    while (slow.next(part)) got += part;
  }
  slow.finish();
  CHECK(got == all);
}

TEST(grep_finds_in_continued_blocks) {
  const std::vector<std::string> raws = periodic_blocks();
  const std::string archive = archive_of(raws), all = joined(raws);
  RunCodec codec;
  const Archive opened(archive, codec);
  for (const char* pattern : {"end", "00", "sshd", "ab.*ba"}) {
    std::string wanted;
    const Pattern compiled = compile_pattern(pattern, PatternSyntax::extended, false);
    Matcher matcher(compiled);
    for (size_t at = 0; at < all.size();) {
      const size_t end = all.find('\n', at) + 1;
      Span span;
      const std::string line = all.substr(at, end - at);
      if (matcher.next_line(line, 0, span)) wanted += line;
      at = end;
    }
    for (int threads : {1, 2, 3}) {
      GrepQuery query;
      query.pattern = pattern;
      query.syntax = PatternSyntax::extended;
      Grep grep(opened, query, threads);
      std::string found;
      for (GrepBatch batch; grep.next(batch);)
        for (const GrepLine& line : batch.lines) found += batch.text.substr(line.begin, line.end - line.begin);
      CHECK(found == wanted);
    }
  }
}

TEST(what_a_lost_block_takes_with_it_is_told) {
  const std::vector<std::string> raws = periodic_blocks();
  const std::string archive = archive_of(raws);
  RunCodec codec;
  const Archive opened(archive, codec);
  const std::vector<size_t> orphans = {2, 0, 0, 0, 1, 0};   // the second block is as the first: either does for the third
  for (size_t lost = 0; lost < raws.size(); ++lost) {
    std::string damaged = archive;
    damaged[opened.block(lost).offset + opened.block(lost).archive_bytes - 3] ^= 1;
    std::string wanted;
    for (size_t i = 0; i < raws.size(); ++i)
      if (i < lost || i > lost + orphans[lost]) wanted += raws[i];
    for (int threads : {1, 2}) {
      const Archive recovered = Archive::recovered(damaged, codec, threads);
      std::string got;
      for (size_t i = 0; i < recovered.block_count(); ++i) got += recovered.decompress_block(i);
      CHECK(got == wanted);
      CHECK_EQUAL(recovered.orphans(), orphans[lost]);
    }
  }
  CHECK_EQUAL(Archive::recovered(archive, codec, 1).orphans(), 0u);
}

TEST(a_continued_block_is_never_the_first) {
  const std::string archive = archive_of(periodic_blocks());
  Parts parts = Parts::read(archive);
  parts.blocks.erase(parts.blocks.begin());
  RunCodec codec;
  CHECK_THROWS(unpack(parts.written()), corrupt_data, "continues the block before it, but is the first of its archive");
  CHECK_THROWS(Archive(parts.written(), codec), corrupt_data, "continues the block before it, but is the first of its archive");
  // Nor does the last block of an archive in front of it serve.
  CHECK_THROWS(unpack(archive + parts.written()), corrupt_data, "is the first of its archive");
  CHECK_THROWS(Archive(archive + parts.written(), codec), corrupt_data, "is the first of its archive");
}

TEST(a_block_behind_another_than_its_own_is_refused) {
  Parts parts = Parts::read(archive_of(periodic_blocks()));
  parts.blocks.erase(parts.blocks.begin() + 4);   // the last one continues it
  CHECK_THROWS(unpack(parts.written()), corrupt_data, "");
  CHECK_THROWS(unpack_at_random(parts.written()), corrupt_data, "");
}

TEST(long_runs_are_packed_alike_by_any_number_of_threads) {
  Random random(kSeed);
  std::string period, raw;   // in runs, for which the codec has a sense
  while (period.size() < 1500000) period += std::string(3, random.bytes(1)[0]);
  while (raw.size() < 3 * kBlockBytes) raw += period;
  const std::string archive = pack(raw, Level::fast, 1);
  CHECK(archive.size() < kBlockBytes);
  for (int threads : {2, 3}) {
    CHECK(pack(raw, Level::fast, threads) == archive);
    CHECK(unpack(archive, threads) == raw);
  }
  RunCodec codec;
  const Archive opened(archive, codec);
  for (size_t i = 0; i < opened.block_count(); ++i) CHECK_EQUAL(opened.block(i).continued, i > 0);
}

TEST(mutated_continued_payloads_are_read_or_refused) {
  Random random(kSeed + 1);
  RunCodec codec;
  const std::string prefix = random.bytes(9000);
  const std::string raw = prefix.substr(4000) + "some text that is new" + prefix + prefix.substr(10, 100);
  const std::string payload = pack_continued(raw, prefix, raw.size(), 9, 0, codec);
  size_t came_through = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = payload;
    for (uint64_t edits = 1 + random.below(3); edits > 0 && !damaged.empty(); --edits) {
      const size_t at = random.below(damaged.size());
      if (random.chance(3))
        damaged[at] = static_cast<char>(random.next());
      else if (random.chance(2))
        damaged.erase(at, 1 + random.below(4));
      else
        damaged.insert(at, random.bytes(1 + random.below(3)));
    }
    const size_t size = random.chance(2) ? raw.size() : random.below(2 * raw.size());
    try {
      CHECK_EQUAL(unpack_continued(damaged, random.chance(2) ? prefix : prefix.substr(0, random.below(9000)), size, codec).size(), size);
      ++came_through;
    } catch (const Error&) {
    }
  }
  CHECK(came_through > 0);
}
