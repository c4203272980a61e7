// Contract: an archive depends on the raw bytes and the level alone, not on threads or on how writes are cut; it comes
// back whole by stream in any cut, at random, and after others; what is damaged is refused with an Error that says where.
// Oracle: the raw bytes. The general codec is a small one of the tests' own: nothing here is about zstd.
#include <algorithm>

#include "check.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20240614;

// Several blocks that cost little: lines too long to be parsed, with some that are parsed between them.
const std::string& long_log() {
  static const std::string log = [] {
    Random random(kSeed);
    std::string out, lines = server_log(200, kSeed);
    out.reserve(kBlockBytes * 3);
    while (out.size() < kBlockBytes * 5 / 2) {
      out += std::string(100000 + random.below(1000000), random.of("abc"));
      out += '\n';
      if (random.chance(8)) out += lines;
    }
    return out;
  }();
  return log;
}

std::vector<std::string> small_logs() {
  Random random(kSeed + 1);
  std::vector<std::string> logs = {"",
                                   "x",
                                   "\n",
                                   "\n\n",
                                   "no line feed",
                                   "a\r\nb\r\n",
                                   "a\rb\r",
                                   std::string("\0\0\n\0", 4),
                                   "caf\xc3\xa9\n\xff\xfe\n",
                                   server_log(1, kSeed),
                                   server_log(300, kSeed),
                                   random.bytes(3000),
                                   std::string(3000, 'z'),
                                   std::string(3000, '\n')};
  std::string equal, unfinished = server_log(100, kSeed + 2), mixed;
  for (int i = 0; i < 500; ++i) equal += "the same line 17\n";
  for (int i = 0; i < 200; ++i) mixed += "line " + std::to_string(i) + (i % 3 ? "\n" : i % 2 ? "\r\n" : "\r");
  unfinished.pop_back();
  logs.insert(logs.end(), {equal, unfinished, mixed, std::string(70000, '7') + "\nshort 1\n"});
  return logs;
}

uint64_t lines_of(std::string_view raw) {
  return static_cast<uint64_t>(std::count(raw.begin(), raw.end(), '\n')) + (!raw.empty() && raw.back() != '\n');
}

}  // namespace

TEST(small_logs_come_back_at_every_level_by_stream_and_at_random) {
  for (Level level : all_levels())
    for (const std::string& raw : small_logs()) {
      std::string archive = pack(raw, level);
      CHECK(unpack(archive) == raw);
      CHECK(unpack_at_random(archive) == raw);
      CHECK(pack(raw, level) == archive);
      CHECK(archive.size() <= raw.size() + 100);   // the container's own bytes
    }
}

TEST(the_cut_of_writes_does_not_change_the_archive) {
  Random random(kSeed + 3);
  for (Level level : all_levels())
    for (const std::string& raw : {server_log(200, kSeed), std::string(), std::string("\n"), random.bytes(500)}) {
      std::string want = pack(raw, level);
      for (size_t most : {size_t{1}, size_t{2}, size_t{1000}}) {
        RunCodec codec;
        Compressor compressor(level, 1, codec);
        std::string got;
        for (size_t at = 0; at < raw.size();) {
          size_t size = most == 1 ? 1 : 1 + random.below(most);
          got += compressor.write(std::string_view(raw).substr(at, size));
          got += compressor.write({});
          at += size;
        }
        got += compressor.finish();
        CHECK(got == want);
        CHECK_EQUAL(compressor.raw_bytes(), raw.size());
        CHECK_EQUAL(compressor.archive_bytes(), want.size());
        CHECK_EQUAL(compressor.lines(), lines_of(raw));
      }
    }
}

TEST(the_cut_of_feeds_does_not_change_the_bytes) {
  Random random(kSeed + 4);
  for (Level level : all_levels()) {
    std::string raw = server_log(200, kSeed) + std::string(100, 'x');
    std::string archive = pack(raw, level) + pack("", level) + pack("second\n", level);
    for (size_t most : {size_t{1}, size_t{3}, size_t{500}, size_t{100000}}) {
      RunCodec codec;
      Decompressor decompressor(2, 0, 0, codec);
      std::string got, part;
      for (size_t at = 0; at < archive.size();) {
        size_t size = most == 1 ? 1 : 1 + random.below(most);
        decompressor.feed(std::string_view(archive).substr(at, size));
        at += size;
        while (decompressor.next(part)) got += part;
        CHECK(part.empty());
      }
      decompressor.finish();
      CHECK(got == raw + "second\n");
      CHECK_EQUAL(decompressor.raw_bytes(), got.size());
      CHECK_EQUAL(decompressor.archive_bytes(), archive.size());
    }
  }
}

TEST(threads_change_no_bit) {
  for (Level level : quick_levels()) {
    const std::string& raw = long_log();
    std::string want = pack(raw, level, 1);
    CHECK(unpack(want, 1) == raw);
    for (int threads : {2, 3, 7}) {
      CHECK(pack(raw, level, threads) == want);
      CHECK(unpack(want, threads) == raw);
    }
  }
}

TEST(blocks_end_at_line_ends_and_add_up) {
  const std::string& raw = long_log();
  std::string archive = pack(raw, Level::standard);
  RunCodec codec;
  Archive opened(archive, codec);
  CHECK(opened.block_count() >= 3);
  CHECK_EQUAL(opened.raw_bytes(), raw.size());
  CHECK_EQUAL(opened.lines(), lines_of(raw));
  CHECK_EQUAL(opened.archive_bytes(), archive.size());
  uint64_t at = 0, lines = 0;
  for (size_t i = 0; i < opened.block_count(); ++i) {
    const BlockInfo& block = opened.block(i);
    std::string part = opened.decompress_block(i);
    CHECK(part == std::string_view(raw).substr(at, part.size()));
    CHECK_EQUAL(part.size(), block.raw_bytes);
    CHECK(part.size() <= kBlockBytes);
    CHECK_EQUAL(lines_of(part), block.lines);
    CHECK_EQUAL(block.first_line, lines);
    CHECK_EQUAL(part.back(), '\n');
    at += part.size();
    lines += block.lines;
  }
  CHECK_EQUAL(at, raw.size());
  CHECK_THROWS(opened.decompress_block(opened.block_count()), invalid_argument, "decompress_block: index is");
}

TEST(a_line_longer_than_a_block_is_cut) {
  std::string raw = "begin 1\n" + std::string(kBlockBytes + 1000, 'q') + "\nend 2\n";
  std::string archive = pack(raw, Level::standard);
  CHECK(unpack(archive) == raw);
  RunCodec codec;
  Archive opened(archive, codec);
  // Not after the first line, which would leave the next block next to nothing to go on with.
  CHECK_EQUAL(opened.block_count(), 2u);
  CHECK_EQUAL(opened.block(0).raw_bytes, kBlockBytes);
  CHECK_EQUAL(opened.lines(), 3u);
}

TEST(an_empty_archive_is_an_archive) {
  for (Level level : all_levels()) {
    std::string archive = pack("", level);
    CHECK(unpack(archive).empty());
    RunCodec codec;
    Archive opened(archive, codec);
    CHECK_EQUAL(opened.block_count(), 0u);
    CHECK_EQUAL(opened.lines(), 0u);
    CHECK(opened.level() == level);
    CHECK(opened.contents().templates.empty());
  }
}

TEST(archives_one_after_another_are_one) {
  std::string first = server_log(100, kSeed), second = "x", third = server_log(50, kSeed + 1);
  std::string all = pack(first, Level::standard) + pack("", Level::fast) + pack(second, Level::fast) + pack(third, Level::standard);
  CHECK(unpack(all) == first + second + third);
  CHECK(unpack(all, 3) == first + second + third);
  CHECK(unpack_at_random(all) == first + second + third);
  RunCodec codec;
  Archive opened(all, codec);
  CHECK_EQUAL(opened.block_count(), 3u);
  // "x" has no line feed: the next archive's first line goes on where it stopped, as it does in the bytes.
  CHECK_EQUAL(opened.block(2).first_line, 100u);
  CHECK_EQUAL(opened.lines(), 150u);
}

TEST(templates_and_streams_account_for_the_archive) {
  std::string raw = server_log(1000, kSeed);
  for (Level level : all_levels()) {
    std::string archive = pack(raw, level);
    RunCodec codec;
    Archive opened(archive, codec);
    uint64_t lines = 0, before = UINT64_MAX;
    for (const TemplateInfo& each : opened.contents().templates) {
      lines += each.count;
      CHECK(each.count <= before);
      before = each.count;
      CHECK(each.text.find('\0') == std::string::npos);
      CHECK(raw.find(each.example + "\n") != std::string::npos);
    }
    CHECK_EQUAL(lines, 1000u);
    uint64_t bytes = 0;
    for (const StreamInfo& each : opened.contents().streams) bytes += each.archive_bytes;
    CHECK(bytes + 200 > archive.size() && bytes < archive.size() + 200);   // every stream is rounded
  }
}

TEST(the_parts_put_together_again_are_the_archive) {
  // The layout that the damage tests rely on; an independent reading of it.
  for (Level level : all_levels()) {
    std::string archive = pack(server_log(100, kSeed), level);
    CHECK(Parts::read(archive).written() == archive);
  }
}

TEST(what_is_no_archive_is_refused_by_name) {
  for (std::string_view data :
       {"x", "plain text, long enough for a header\n", "\x1f\x8b\x08 a gzip file, say", "\x89SLIP\n\x1a\n0123456789"})
    CHECK_THROWS(unpack(data), corrupt_data, "not a slipstick archive");
  CHECK_THROWS(unpack(""), corrupt_data, "truncated");
  CHECK_THROWS(unpack("\x89SLIP"), corrupt_data, "truncated");
  CHECK_THROWS(unpack_at_random(""), corrupt_data, "archive: ");
  CHECK_THROWS(unpack_at_random("plain text, long enough for a header and a trailer\n"), corrupt_data, "not a slipstick archive");
}

TEST(an_unknown_version_level_method_or_tag_is_refused_by_name) {
  std::string archive = pack("some 1\n", Level::standard);
  auto with = [&](size_t at, int byte) {
    std::string changed = archive;
    changed[at] = static_cast<char>(byte);
    return changed;
  };
  CHECK_THROWS(unpack(with(8, 2)), unsupported, "version is 2; expected 1");
  CHECK_THROWS(unpack_at_random(with(8, 200)), unsupported, "version is 200; expected 1");
  CHECK_THROWS(unpack(with(9, 99)), corrupt_data, "level 99 is unknown");
  CHECK_THROWS(unpack(with(10, 3)), corrupt_data, "byte 10 is 3; expected a block (1) or the footer (2)");
  Parts parts = Parts::read(archive);
  parts.blocks[0].method = 77;
  CHECK_THROWS(unpack(parts.written()), unsupported, "method 77");
  CHECK_THROWS(unpack_at_random(parts.written()), unsupported, "method 77");
}

TEST(records_that_a_later_version_appends_are_skipped_and_cut_ones_refused) {
  Parts parts = Parts::read(pack(server_log(20, kSeed), Level::standard));
  std::string index = parts.blocks[0].index;
  for (const std::string& record : {std::string("\x7f\4more", 6), std::string("\x7f\0", 2)}) {
    parts.blocks[0].index = index + record;
    CHECK(unpack(parts.written()) == server_log(20, kSeed));
    CHECK(unpack_at_random(parts.written()) == server_log(20, kSeed));
  }
  for (const std::string& record : {std::string("\x7f\5more", 6), std::string("\x7f", 1)}) {
    parts.blocks[0].index = index + record;
    CHECK_THROWS(unpack(parts.written()), corrupt_data, "lacks fields");
    CHECK_THROWS(unpack_at_random(parts.written()), corrupt_data, "lacks fields");
  }
}

TEST(every_truncation_is_refused_and_nothing_is_held_back) {
  for (Level level : quick_levels()) {
    std::string raw = server_log(40, kSeed);
    std::string archive = pack(raw, level);
    for (size_t size = 0; size < archive.size(); ++size) {
      RunCodec codec;
      Decompressor decompressor(1, 0, 0, codec);
      decompressor.feed(std::string_view(archive).substr(0, size));
      std::string got, part;
      while (decompressor.next(part)) got += part;
      CHECK(got.empty() || got == raw);   // a whole block is given although the footer is missing
      CHECK_THROWS(decompressor.finish(), corrupt_data, "truncated");
      CHECK_THROWS(unpack_at_random(std::string_view(archive).substr(0, size)), corrupt_data, "archive: ");
    }
  }
}

TEST(damage_is_told_the_same_way_again) {
  RunCodec codec;
  Decompressor decompressor(1, 0, 0, codec);
  std::string archive = pack(server_log(4, kSeed), Level::fast), part;
  archive[10] = 9;   // the tag of the first block
  decompressor.feed(archive);
  for (int time = 0; time < 2; ++time) CHECK_THROWS(decompressor.next(part), corrupt_data, "byte 10 is 9; expected a block");
}

TEST(every_flipped_bit_is_refused) {
  for (Level level : quick_levels()) {
    std::string raw = server_log(8, kSeed);
    std::string archive = pack(raw, level);
    for (size_t at = 0; at < archive.size(); ++at)
      for (int bit = 0; bit < 8; ++bit) {
        if (at == 9) continue;   // the level is only told, and another level is as good
        std::string damaged = archive;
        damaged[at] = static_cast<char>(damaged[at] ^ 1 << bit);
        for (auto* read :
             {+[](std::string_view data) { return unpack(data); }, +[](std::string_view data) { return unpack_at_random(data); }}) {
          bool refused = false;
          try {
            read(damaged);
          } catch (const Error& error) {
            refused = error.kind() == ErrorKind::corrupt_data || error.kind() == ErrorKind::unsupported;
          }
          if (!refused)
            check::fail(__FILE__, __LINE__, "bit " + std::to_string(bit) + " of byte " + std::to_string(at) + " changed and was not seen");
        }
      }
  }
}

TEST(bytes_after_the_end_are_refused) {
  std::string archive = pack("some 1\n", Level::standard);
  CHECK_THROWS(unpack(archive + "tail"), corrupt_data, "begins no other archive");
  CHECK_THROWS(unpack(archive + std::string(40, '\0')), corrupt_data, "begins no other archive");
  CHECK_THROWS(unpack_at_random(archive + "tail"), corrupt_data, "trailer");
  CHECK_THROWS(unpack(archive + archive.substr(0, 5)), corrupt_data, "truncated");
}

TEST(limits_hold) {
  std::string raw = server_log(300, kSeed);
  std::string archive = pack(raw, Level::standard);
  CHECK(unpack(archive, 1, 0, raw.size()) == raw);
  CHECK_THROWS(unpack(archive, 1, 0, raw.size() - 1), limit_exceeded, "the output is more than");
  CHECK_THROWS(unpack(archive + archive, 1, 0, raw.size() * 2 - 1), limit_exceeded, "the output is more than");
  CHECK_THROWS(unpack(archive, 1, 1000), limit_exceeded, "bytes of memory; expected at most 1000");
  CHECK(unpack(archive, 1, uint64_t{1} << 30) == raw);
}

TEST(a_finished_compressor_is_spent) {
  RunCodec codec;
  Compressor compressor(Level::standard, 1, codec);
  compressor.finish();
  CHECK_THROWS(compressor.write("x"), invalid_argument, "finished");
  CHECK_THROWS(compressor.finish(), invalid_argument, "finished");
}

TEST(levels_have_names) {
  for (Level level : all_levels()) CHECK(level_of(level_names()[static_cast<size_t>(level)]) == level);
  CHECK_THROWS(level_of("best"), invalid_argument, "compress: level is 'best'; expected 'fast', 'default' or 'max'");
}

TEST(stated_lines_are_those_that_a_block_has) {
  Random random(17);
  for (const std::string& raw : {std::string("a\n"), std::string("a\nb"), random.bytes(300), random.bytes(300) + "\n"}) {
    for (Level level : quick_levels()) {
      const Parts whole = Parts::read(pack(raw, level));
      CHECK(unpack(whole.written()) == raw);
      const uint64_t right = whole.blocks[0].lines;
      for (uint64_t wrong : {right ^ 1, right + 2, right - 2, right + 1}) {
        Parts parts = whole;
        parts.blocks[0].lines = wrong;
        CHECK_THROWS(unpack(parts.written()), corrupt_data, "");
        CHECK_THROWS(unpack_at_random(parts.written()), corrupt_data, "");
      }
    }
  }
}

TEST(blocks_are_searched_for_in_linear_time_however_many_headers_claim_the_same_bytes) {
  RunCodec codec;
  const Parts real = Parts::read(pack("a line\n", Level::fast));
  Parts::Block liar;   // a sound header, a payload whose checksum differs
  liar.raw_bytes = liar.payload_bytes = 20000;
  liar.payload = "not these";
  const std::string claim = Parts::written(liar), block = Parts::written(real.blocks[0]);
  for (size_t claims : {size_t{63}, size_t{64}, size_t{300}}) {
    std::string data;
    for (size_t i = 0; i < claims; ++i) data += claim;
    data += block + std::string(40000, 'x') + block;
    const size_t inside = claims < 64 ? 1 : 0;   // within what is claimed
    CHECK_EQUAL(Archive::recovered(data, codec, 1).block_count(), inside + 1);
  }
}
