// Contract: whatever is done to an archive, reading it ends in an Error or in bytes: no crash, no read outside, no endless
// loop, no memory that its sizes do not speak of. Run under ASan and UBSan by .ci/sanitize. Mutations come in two kinds: of
// the archive, which checksums catch, and of payloads, symbols and texts behind the checksums, which reach the decoders.
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "check.h"
#include "logs/column_streams.h"
#include "logs/line_filter.h"
#include "logs/mixed_text.h"
#include "logs/model_block.h"
#include "logs/pattern.h"
#include "logs/structure.h"
#include "logs/template_text.h"
#include "logs/text_coder.h"
#include "logs_test.h"

using namespace logs_test;

// Every allocation of the program is counted, so that what a reader takes can be held against what it was told.
static std::atomic<size_t> live_bytes{0}, most_bytes{0};

static void* counted(size_t size, size_t alignment = 0) {
  void* memory = alignment == 0 ? std::malloc(size) : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  size_t live = live_bytes += malloc_usable_size(memory);
  size_t most = most_bytes;
  while (live > most && !most_bytes.compare_exchange_weak(most, live)) {
  }
  return memory;
}
static void uncounted(void* memory) {
  live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}
void* operator new(size_t size) { return counted(size); }
void* operator new[](size_t size) { return counted(size); }
void* operator new(size_t size, std::align_val_t alignment) { return counted(size, static_cast<size_t>(alignment)); }   // LargePages
void* operator new[](size_t size, std::align_val_t alignment) { return counted(size, static_cast<size_t>(alignment)); }
void* operator new(size_t size, const std::nothrow_t&) noexcept {  // std::stable_sort; AddressSanitizer has one of its own
  try {
    return counted(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { uncounted(memory); }
void operator delete[](void* memory) noexcept { uncounted(memory); }
void operator delete(void* memory, size_t) noexcept { uncounted(memory); }
void operator delete[](void* memory, size_t) noexcept { uncounted(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { uncounted(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { uncounted(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { uncounted(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { uncounted(memory); }

namespace {

constexpr uint64_t kSeed = 20261124;

// The most bytes that were allocated at a time while `call` ran, beyond those before.
template <class Call>
size_t memory_of(Call call) {
  size_t before = live_bytes;
  most_bytes = before;
  call();
  return most_bytes - before;
}

// SLIPSTICK_FUZZ=N multiplies the rounds, for long runs.
size_t rounds(size_t quick) {
  const char* factor = std::getenv("SLIPSTICK_FUZZ");
  return quick * (factor ? std::strtoull(factor, nullptr, 10) : 1);
}

std::string mutate(std::string data, Random& random) {
  for (uint64_t edits = 1 + random.below(3); edits > 0 && !data.empty(); --edits) {
    size_t at = random.below(data.size());
    switch (random.below(5)) {
      case 0: data[at] = static_cast<char>(data[at] ^ 1 << random.below(8)); break;
      case 1: data[at] = static_cast<char>(random.of(std::vector<int>{0, 1, 10, 127, 128, 255})); break;
      case 2: data.resize(at); break;
      case 3: data.erase(at, 1 + random.below(8)); break;
      default: {
        const size_t from = random.below(data.size()), count = 1 + random.below(16);
        data.insert(at, data.substr(from, count));
      }
    }
  }
  return data;
}

// Runs `read`, which may throw an Error and nothing else. Returns whether it came through.
template <class Read>
bool survives(Read read) {
  try {
    read();
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string small_log(Random& random) {
  return server_log(60, random.next()) + "GET /a/b/c?id=0x1f2e3d4c \"quoted text\" 10.1.2.3 23:59:59,123\n" + random.text("ab1 .:\n", 200);
}

}  // namespace

TEST(mutated_archives_are_read_or_refused) {
  Random random(kSeed);
  RunCodec codec;
  size_t refused = 0, count = rounds(10000);
  std::vector<std::string> archives;
  for (Level level : quick_levels()) {
    Compressor compressor(level, 1, codec);
    std::string archive = compressor.write(small_log(random));
    archives.push_back(archive + compressor.finish());
  }
  for (size_t i = 0; i < count; ++i) {
    std::string archive = mutate(random.of(archives), random);
    refused += !survives([&] {
      Decompressor decompressor(1, 0, 0, codec);
      decompressor.feed(archive);
      std::string out;
      while (decompressor.next(out)) {
      }
      decompressor.finish();
    });
    survives([&] {
      Archive opened(archive, codec);
      for (size_t block = 0; block < opened.block_count(); ++block) opened.decompress_block(block);
    });
  }
  CHECK(refused > count * 9 / 10);
}

TEST(mutated_payloads_behind_the_checksums_are_read_or_refused) {
  Random random(kSeed + 1);
  RunCodec codec;
  size_t came_through = 0;
  std::string raw = small_log(random);
  for (Level level : quick_levels()) {
    PackedBlock block = pack_block(raw, level, codec);
    for (size_t i = 0; i < rounds(4000); ++i) {
      std::string payload = mutate(block.payload, random);
      uint64_t lines = random.chance(4) ? random.below(5000) : count_lines(raw);
      uint64_t size = random.chance(4) ? random.below(100000) : raw.size();
      came_through += survives([&] { CHECK(unpack_block(block.method, payload, lines, size, codec).size() == size); });
      Account account;
      survives([&] { unpack_block(block.method, payload, lines, size, codec, &account); });
    }
  }
  CHECK(came_through < rounds(4000));
}

TEST(mutated_streams_are_read_or_refused) {
  Random random(kSeed + 2);
  std::string raw = small_log(random);
  Structure structure = find_structure(raw, LexerOptions());
  size_t lines = structure.line_templates.size();
  for (Effort effort : {Effort::fast, Effort::thorough}) {
    ModelStreams streams = encode_model(structure, effort);
    CHECK(decodes_to(streams, effort, lines, raw));
    auto decode = effort == Effort::fast ? decode_fast : decode_model;
    for (size_t i = 0; i < rounds(4000); ++i) {
      ModelStreams bad = streams;
      (random.chance(2) ? bad.symbols : bad.text) = mutate(random.chance(2) ? streams.symbols : streams.text, random);
      survives([&] { CHECK(decode(bad.symbols, bad.text, lines, raw.size(), nullptr).size() == raw.size()); });
      decodes_to(bad, effort, lines, raw);
    }
  }
}

TEST(any_bytes_are_some_text_and_templates_are_checked) {
  Random random(kSeed + 3);
  for (size_t i = 0; i < rounds(500); ++i) {
    size_t size = random.below(400);
    CHECK(decode_text(random.bytes(random.below(100)), size).size() == size);
    std::string text = mutate(random.text(std::string_view("\0\x01\x04\x84 a1", 7), 20), random);
    survives([&] { split_template(text); });
    column_keys(text);
  }
}

namespace {

// Numbers that break what multiplies or adds them.
uint64_t awkward_number(Random& random, uint64_t right) {
  switch (random.below(6)) {
    case 0: return random.below(4);
    case 1: return right + random.below(5) - 2;
    case 2: return (uint64_t{1} << random.below(64)) - random.below(2);
    case 3: return random.next() >> random.below(64);
    default: return right;
  }
}

}  // namespace

TEST(archives_with_repaired_checksums_are_read_or_refused_in_bounded_memory) {
  // Sizes, counts, methods and payloads are damaged and all checksums made anew. Every block may state 64 MiB of raw bytes.
  Random random(kSeed + 4);
  std::vector<Parts> archives;
  for (Level level : quick_levels())
    for (const std::string& raw : {small_log(random), std::string(500, 'x'), random.bytes(100)})
      archives.push_back(Parts::read(pack(raw + "\n", level)));
  size_t came_through = 0, most = 0;
  for (size_t i = 0; i < rounds(10000); ++i) {
    Parts parts = random.of(archives);
    if (random.chance(4)) parts.blocks.push_back(random.of(archives).blocks[0]);
    Parts::Block& block = parts.blocks[random.below(parts.blocks.size())];
    if (!random.chance(4)) block.payload = mutate(block.payload, random);
    if (!random.chance(8)) block.payload_bytes = block.payload.size();
    if (random.chance(3)) block.raw_bytes = awkward_number(random, block.raw_bytes);
    if (random.chance(3)) block.lines = awkward_number(random, block.lines);
    if (random.chance(8)) block.payload_bytes = awkward_number(random, block.payload_bytes);
    if (random.chance(6)) block.method = static_cast<uint8_t>(random.below(5));
    std::string archive = parts.written();
    most = std::max(most, memory_of([&] {
                      came_through += survives([&] { unpack(archive); });
                      survives([&] { unpack_at_random(archive); });
                      survives([&] {
                        RunCodec codec;
                        Archive(archive, codec).contents();
                      });
                    }));
  }
  std::printf("       most %zu MiB, %zu came through\n", most >> 20, came_through);
  CHECK(came_through > 0);
  CHECK(came_through < rounds(10000) / 2);
}

TEST(searches_in_damaged_archives_end_and_patterns_of_any_bytes_are_compiled_or_refused) {
  Random random(kSeed + 6);
  RunCodec codec;
  std::vector<Parts> archives;
  for (Level level : all_levels()) archives.push_back(Parts::read(pack(server_log(400, random.next()), level)));
  const std::vector<std::string> patterns = {"job", "^2.*[0-9]$", "\\bworker\\>", "", "x*", "a\\{2,3\\}\\|error"};
  size_t found = 0;
  for (size_t i = 0; i < rounds(2000); ++i) {
    Parts parts = random.of(archives);
    parts.blocks.push_back(random.of(archives).blocks[0]);
    Parts::Block& block = parts.blocks[random.below(parts.blocks.size())];
    if (random.chance(2)) block.payload = mutate(block.payload, random);
    if (random.chance(4)) block.index = std::string("\2\12", 2) + random.bytes(10);   // a record of times
    if (random.chance(2)) block.index = mutate(block.index, random);
    if (random.chance(4)) block.lines = awkward_number(random, block.lines);
    if (!random.chance(8)) block.payload_bytes = block.payload.size();
    std::string archive = random.chance(8) ? mutate(parts.written(), random) : parts.written();
    GrepQuery query;
    query.pattern = random.of(patterns);
    query.ignore_case = random.chance(2);
    query.invert = random.chance(4);
    query.only_matching = random.chance(4);
    query.before = random.below(3);
    query.after = random.below(3);
    query.since = random.of(std::vector<std::string>{"", "", "1970-01-02", "Jun 3 10:00"});
    query.until = random.of(std::vector<std::string>{"", "", "2100-01-01", "Nov 3 10:00"});
    survives([&] {
      Archive opened(archive, codec);
      Grep grep(opened, query, 1);
      GrepPrinter printer({true, true, true});
      GrepBatch batch;
      while (grep.next(batch)) found += printer.print(batch).size();
    });
  }
  CHECK(found > 0);
  size_t compiled = 0;
  for (size_t i = 0; i < rounds(5000); ++i) {
    GrepQuery query;
    query.pattern = random.chance(2) ? random.bytes(random.below(12)) : random.text("ab01[]{}(),*+?|\\^$.-:=\n<>wbW", random.below(16));
    query.syntax = random.of(std::vector<PatternSyntax>{PatternSyntax::basic, PatternSyntax::extended, PatternSyntax::fixed});
    std::string archive = pack("ab01 bb {a}\n\n", Level::fast);
    compiled += survives([&] {
      Archive opened(archive, codec);
      Grep grep(opened, query, 1);
      GrepBatch batch;
      while (grep.next(batch)) {
      }
    });
  }
  CHECK(compiled > rounds(5000) / 4);
}

TEST(archives_with_damaged_footers_are_read_or_refused) {
  Random random(kSeed + 5);
  Parts parts = Parts::read(pack(small_log(random), Level::standard));
  std::string blocks = parts.header, all = parts.written();
  for (const Parts::Block& block : parts.blocks) blocks += Parts::written(block);
  size_t refused = 0;
  for (size_t i = 0; i < rounds(3000); ++i) {
    std::string footer("\2", 1);
    put_varint(footer, awkward_number(random, 1));
    for (uint64_t count = 1 + random.below(3); count > 0; --count) {
      put_varint(footer, awkward_number(random, blocks.size() - parts.header.size()));
      put_varint(footer, awkward_number(random, parts.blocks[0].raw_bytes));
      put_varint(footer, awkward_number(random, parts.blocks[0].lines));
    }
    if (random.chance(4)) footer = mutate(footer, random);
    std::string archive = blocks + Parts::finished(footer);
    if (random.chance(2)) archive = all + archive;
    bool same = archive == all || archive == all + all;
    refused += !survives([&] { unpack(archive); });
    survives([&] { unpack_at_random(archive); });
    CHECK(same == (survives([&] { unpack(archive); })));
  }
  CHECK(refused > 0);
}

namespace {

// `lines` lines, each of a template of its own with `slots` number slots behind a text that no other template has, all 0.
Structure wide_structure(size_t lines, size_t slots, bool own_columns) {
  Structure structure;
  structure.templates.push_back(kRawTemplateText);
  for (size_t line = 0; line < lines; ++line) {
    std::string text = std::to_string(line) + "--same text";
    for (size_t slot = 0; slot < slots; ++slot) {
      if (own_columns) text += "<" + std::to_string(line) + "," + std::to_string(slot) + ">";
      text += std::string(1, kSlotMark) + static_cast<char>(kNumber);
    }
    structure.templates.push_back(text);
    structure.line_templates.push_back(static_cast<uint32_t>(line + 1));
    structure.values.insert(structure.values.end(), slots, 0);
  }
  return structure;
}

size_t raw_size_of(const Structure& structure, size_t slots) {
  size_t size = 0;
  for (size_t i = 1; i < structure.templates.size(); ++i) size += structure.templates[i].size() - slots + 1;
  return size;
}

}  // namespace

TEST(blocks_at_their_limits_are_read_in_bounded_memory_and_beyond_are_refused) {
  // The writer of models does not look at the limits, find_structure does; so it can write what a reader must refuse.
  for (Effort effort : {Effort::fast, Effort::thorough, Effort::mixed}) {
    auto decode = effort == Effort::fast ? decode_fast : effort == Effort::mixed ? decode_max : decode_model;
    const ModelKind kind = effort == Effort::fast ? ModelKind::fast : effort == Effort::mixed ? ModelKind::max : ModelKind::standard;
    // Lines decoded, then searched for what all of them have and for what only the first has; a refusal is the same for all three.
    auto read = [&](const Structure& structure, size_t slots) {
      const ModelStreams streams = encode_model(structure, effort);
      const size_t lines = structure.line_templates.size(), raw_size = raw_size_of(structure, slots);
      std::string refused[3];
      for (int way = 0; way < 3; ++way) {
        size_t size = 0;
        size_t memory = memory_of([&] {
          try {
            if (way == 0) {
              size = decode(streams.symbols, streams.text, lines, raw_size, nullptr).size();
            } else {
              const LineFilter filter(compile_pattern(way == 1 ? "same text" : "^0--same", PatternSyntax::basic, false));
              size = select_model_lines(kind, streams.symbols, streams.text, lines, raw_size, filter).text.size();
            }
          } catch (const Error& error) {
            refused[way] = error.what();
          }
        });
        CHECK((size > 0) == refused[way].empty());
        CHECK(memory < size_t{effort == Effort::mixed ? 250u : 160u} << 20);
      }
      CHECK(refused[0] == refused[1]);
      CHECK(refused[0] == refused[2]);
      if (!refused[0].empty()) throw Error(ErrorKind::corrupt_data, refused[0]);
      return true;
    };
    CHECK(read(wide_structure(kMaxColumns / 4, 4, true), 4));
    CHECK_THROWS(read(wide_structure(kMaxColumns / 4 + 1, 4, true), 4), corrupt_data, "columns");
    CHECK(read(wide_structure(kMaxSlots / 8192, 8192, false), 8192));
    CHECK_THROWS(read(wide_structure(kMaxSlots / 8192 + 1, 8192, false), 8192), corrupt_data, "too many slots");
    CHECK(read(wide_structure(1, kMaxTemplateSlots, false), kMaxTemplateSlots));
    CHECK_THROWS(read(wide_structure(1, kMaxTemplateSlots + 1, false), kMaxTemplateSlots + 1), corrupt_data,
                 "a template has too many slots");
    CHECK_THROWS(read(wide_structure(1, kMaxTemplateText / 2, false), kMaxTemplateText / 2), corrupt_data, "a template is too long");
  }
}

TEST(texts_that_no_block_can_have_are_refused_before_they_cost_memory) {
  // What zstd packs to nothing: one template of very many slots; very many templates; very many sections of columns.
  const size_t kMany = size_t{1} << 23;
  std::string slots;
  while (slots.size() < 2 * kMany) slots += kRawTemplateText;
  const LineFilter filter(compile_pattern("same text", PatternSyntax::basic, false));
  struct Case {
    uint64_t templates;
    size_t lines;
    std::string text;
    const char* why;
  };
  for (const Case& bad : {Case{1, 1, slots + "\n", "a template is too long"}, Case{2, 1, "a\nb\n", "too many templates"},
                          Case{kMany, kMany, std::string(kMany, '\n'), "too many templates"},
                          Case{1, kMany, "a" + std::string(kMany, '\n'), "too many columns"}}) {
    std::string header, symbols;
    for (uint64_t number : {uint64_t{10}, uint64_t{0}, bad.templates}) put_varint(header, number);
    for (uint64_t number : {uint64_t{header.size()}, uint64_t{1}, uint64_t{1}, uint64_t{1}}) put_varint(symbols, number);
    symbols += header + std::string("\1\0", 2);   // a new template, then all guesses are wrong
    CHECK(memory_of([&] { CHECK_THROWS(decode_fast(symbols, bad.text, bad.lines, kMany, nullptr), corrupt_data, bad.why); }) < size_t{16}
                                                                                                                                   << 20);
    CHECK(memory_of([&] {
            CHECK_THROWS(select_model_lines(ModelKind::fast, symbols, bad.text, bad.lines, kMany, filter), corrupt_data, bad.why);
          }) < size_t{4} << 20);
  }
}

// `max` reads a vocabulary for each block, so it gets a share of the rounds here, not all of those above.
TEST(mutated_blocks_of_max_are_read_or_refused) {
  Random random(kSeed + 6);
  RunCodec codec;
  std::string raw = small_log(random);
  PackedBlock block = pack_block(raw, Level::max, codec);
  CHECK(block.method == Method::max);
  Parts whole = Parts::read(pack(raw, Level::max));
  size_t came_through = 0, count = rounds(60);
  for (size_t i = 0; i < count; ++i) {
    std::string payload = mutate(block.payload, random);
    uint64_t lines = random.chance(4) ? random.below(5000) : count_lines(raw);
    uint64_t size = random.chance(4) ? random.below(100000) : raw.size();
    came_through += survives([&] { CHECK(unpack_block(Method::max, payload, lines, size, codec).size() == size); });
    Account account;
    survives([&] { unpack_block(Method::max, payload, lines, size, codec, &account); });
    Parts parts = whole;
    parts.blocks[0].payload = payload;
    parts.blocks[0].payload_bytes = payload.size();
    if (random.chance(3)) parts.blocks[0].raw_bytes = awkward_number(random, parts.blocks[0].raw_bytes);
    std::string archive = parts.written();
    CHECK(memory_of([&] { survives([&] { unpack(archive); }); }) < size_t{300} << 20);
  }
  CHECK(came_through < count);
}

TEST(mutated_streams_of_max_are_read_or_refused) {
  Random random(kSeed + 7);
  std::string raw = small_log(random);
  Structure structure = find_structure(raw, LexerOptions());
  size_t lines = structure.line_templates.size();
  ModelStreams streams = encode_model(structure, Effort::mixed);
  CHECK(decodes_to(streams, Effort::mixed, lines, raw));
  for (size_t i = 0; i < rounds(1000); ++i) {
    ModelStreams bad = streams;
    (random.chance(2) ? bad.symbols : bad.text) = mutate(random.chance(2) ? streams.symbols : streams.text, random);
    survives([&] { CHECK(decode_max(bad.symbols, bad.text, lines, raw.size(), nullptr).size() == raw.size()); });
  }
}

TEST(a_small_block_of_max_cannot_ask_for_much_text) {
  RunCodec codec;
  // No symbols, then a text of kMaxMixedText bytes that one packed byte is to give.
  std::string payload("\0\0\0\3", 4);
  put_varint(payload, kMaxMixedText);
  payload += std::string("\1a", 2);
  CHECK_THROWS(unpack_block(Method::max, payload, 1, kMaxMixedText, codec), corrupt_data, "a text of illegal size");
  Random random(kSeed + 8);
  for (size_t i = 0; i < rounds(10); ++i) {
    size_t size = random.below(400);
    CHECK(decode_mixed_text(random.bytes(random.below(100)), size).size() == size);
  }
}

TEST(streams_with_lying_sizes_are_refused) {
  auto symbols = [](std::vector<uint64_t> numbers) {
    std::string out;
    for (uint64_t number : numbers) put_varint(out, number);
    return out;
  };
  const uint64_t kHuge = ~uint64_t{0};
  for (const std::vector<uint64_t>& numbers : std::vector<std::vector<uint64_t>>{
           {0, kMaxColumns + 2}, {0, kHuge}, {kHuge, 0}, {0, 1, kHuge, 1}, {0, 2, 1, kHuge, kHuge, 1}, {0, 1, 0, 0, 7}, {3, 0, 10, 0, 0}})
    CHECK_THROWS(decode_fast(symbols(numbers), "", 1, 1), corrupt_data, "");
  // Header: the guess table's size, the session column, the number of templates.
  for (uint64_t table : {uint64_t{0}, uint64_t{9}, uint64_t{25}, uint64_t{64}, kHuge}) {
    std::string header = symbols({table, 0, 1});
    CHECK_THROWS(decode_fast(symbols({header.size(), 1, 0, 0}) + header, "a\n", 1, 2), corrupt_data, "block: ");
  }
  for (uint64_t templates : {uint64_t{2}, uint64_t{UINT32_MAX}, kHuge}) {
    std::string header = symbols({10, 0, templates});
    CHECK_THROWS(decode_fast(symbols({header.size(), 1, 0, 0}) + header, "a\n", 1, 2), corrupt_data, "block: ");
  }
}
