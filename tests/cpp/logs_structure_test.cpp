// Contract: templates and values render every line back, under all options; the templates of a log whose make is known
// are the known ones; a text that is no template is refused. Oracle: the log itself, and templates written down by hand.
#include "logs/structure.h"

#include <map>

#include "check.h"
#include "logs/limits.h"
#include "logs/model_block.h"
#include "logs/template_text.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20240613;

// The lines that a structure stands for, each with a line feed.
std::string rendered(const Structure& structure) {
  std::vector<TemplatePieces> pieces;
  for (const std::string& text : structure.templates) pieces.push_back(split_template(text));
  std::string out;
  size_t at = 0;
  for (uint32_t id : structure.line_templates) {
    const TemplatePieces& here = pieces.at(id);
    out += here.texts.at(0);
    for (size_t i = 0; i < here.kinds.size(); ++i) {
      Value value = structure.values.at(at++);
      if (is_string(value)) {
        out += structure.strings.text(static_cast<uint32_t>(value & UINT32_MAX));
      } else {
        char text[kMaxRendered];
        out.append(text, static_cast<size_t>(render_number(here.kinds[i], value, text) - text));
      }
      out += here.texts.at(i + 1);
    }
    out += '\n';
  }
  CHECK_EQUAL(at, structure.values.size());
  return out;
}

void check_structure(std::string_view data) {
  for (const LexerOptions& options : all_options()) {
    Structure structure = find_structure(data, options);
    CHECK_EQUAL(structure.line_templates.size(), count_lines(data));
    std::string want(data);
    if (!want.empty() && want.back() != '\n') want += '\n';
    CHECK(rendered(structure) == want);
    CHECK_EQUAL(structure.templates.at(0), kRawTemplateText);
    for (const std::string& text : structure.templates) {
      TemplatePieces pieces = split_template(text);
      CHECK_EQUAL(pieces.texts.size(), pieces.kinds.size() + 1);
      CHECK_EQUAL(column_keys(text).size(), pieces.kinds.size());
      CHECK(text.find('\n') == std::string::npos);
    }
  }
}

// "static <*> static <*>", constants spelled out.
std::string shown(const std::string& text) {
  TemplatePieces pieces = split_template(text);
  std::string out = pieces.texts[0];
  for (size_t i = 0; i < pieces.kinds.size(); ++i) out += "<*>" + pieces.texts[i + 1];
  return out;
}

// Lines of each template, templates that no line uses left out.
std::map<std::string, size_t> used_templates(std::string_view data) {
  Structure structure = find_structure(data, {});
  std::map<std::string, size_t> used;
  for (uint32_t id : structure.line_templates) ++used[shown(structure.templates[id])];
  return used;
}

}  // namespace

TEST(edge_texts_render_back) {
  for (std::string_view data : {"", "\n", "\n\n\n", "a", "a\n", "1", "1\n1", "a\n\nb\n\n", "\r\n", "a\r\nb\r\n", "a 1\r\nb 2\n"})
    check_structure(data);
  using std::string_literals::operator""s;
  check_structure("\0"s);
  check_structure("a\0b\n1\0\n\n\0\0\nplain 1\n"s);
}

TEST(a_log_renders_back) {
  check_structure(server_log(3000, kSeed));
  std::string unfinished = server_log(500, kSeed + 1);
  unfinished.pop_back();
  check_structure(unfinished);
}

TEST(lines_at_the_limit_of_parsing_render_back) {
  for (size_t size : {kMaxParsedLine - 1, kMaxParsedLine, kMaxParsedLine + 1}) {
    std::string numbers, words;
    while (numbers.size() < size) numbers += "1 ";
    while (words.size() < size) words += "a-";
    numbers.resize(size);
    words.resize(size);
    check_structure("short 1\n" + numbers + "\nshort 2\n" + words + "\n" + words + "1");
  }
}

TEST(random_lines_render_back) {
  Random random(kSeed + 2);
  for (int round = 0; round < 60; ++round) {
    std::string data;
    size_t lines = random.below(400);
    std::string_view alphabet = round % 3 == 0 ? "ab 1." : round % 3 == 1 ? "abcdefghij 0123456789:=\"/\r" : "";
    for (size_t i = 0; i < lines; ++i) {
      data += alphabet.empty() ? random.bytes(random.below(60)) : random.text(alphabet, random.below(40));
      data += '\n';
    }
    check_structure(data);
  }
}

TEST(words_of_many_kinds_render_back) {
  // Words that merge, rare shapes, lonely shapes and common beginnings: every way that a word becomes a value.
  Random random(kSeed + 3);
  const std::vector<std::string> words = {"alpha", "beta",  "gamma", "delta", "epsilon", "zeta",
                                          "eta",   "theta", "Mon",   "Jan",   "x",       "caf\xc3\xa9"};
  for (size_t kinds : {2u, 4u, 12u})
    for (size_t lines : {5u, 63u, 64u, 65u, 2000u}) {
      std::string data;
      for (size_t i = 0; i < lines; ++i) {
        data += "Jan 1 service " + std::to_string(random.below(3)) + ": ";
        for (size_t n = 2 + random.below(random.chance(10) ? 9 : 3); n > 0; --n)
          data += words[random.below(kinds)] + (random.chance(9) ? "-" : " ");
        data += random.chance(30) ? "only here " + random.text("abcdefgh", 7) + "\n" : "done\n";
      }
      check_structure(data);
    }
}

TEST(lines_that_fit_an_expected_shape_but_lex_otherwise_render_back) {
  // Lines in a repeating order, so that the shape of the next one is guessed, with values that fit several kinds and rare
  // tails, so that lines are cut where those values end.
  Random random(kSeed + 7);
  const std::vector<std::string> values = {"1.12",
                                           "1.123",
                                           "1.2.3",
                                           "1.2.3.4",
                                           "1.2.3.4.5",
                                           "12:34:56",
                                           "12:34:56.7",
                                           "12:34:56:7",
                                           "12:34",
                                           "deadbeef",
                                           "123456",
                                           "12345f",
                                           "12345F",
                                           " 7",
                                           "  7",
                                           "17",
                                           "0012",
                                           "00000001",
                                           "0x1f",
                                           "0xdead00",
                                           "a1b2c3d4",
                                           "24:60:60",
                                           "123456789012345678",
                                           "1234567890123456789",
                                           "0.000",
                                           "x",
                                           "1"};
  for (int round = 0; round < 150; ++round) {
    size_t kinds = 1 + random.below(3);
    std::vector<std::string> beginnings;
    for (size_t i = 0; i < kinds; ++i) beginnings.push_back(random.of(std::vector<std::string>{"took ", "Jun ", "a=", "ip ", ""}));
    const std::vector<std::string> some = {random.of(values), random.of(values), random.of(values)};
    std::string data;
    for (size_t line = 0; line < 120; ++line) {
      data += beginnings[line % kinds] + random.of(some) + random.of(std::vector<std::string>{" ", ".", ":"}) + random.of(some);
      if (random.chance(4)) data += " " + random.text("abcdef", 6) + " " + random.of(some);
      data += '\n';
    }
    check_structure(data);
  }
}

TEST(a_line_cut_after_values_that_would_lex_otherwise_renders_back) {
  // The last line has the shape of the third but for the lexer, which sees one decimal where the shape has two numbers; the
  // shape is rare and is cut behind them.
  for (const char* value : {"1.123", "10.0000", "1.2.3.4"}) {
    std::string data;
    for (int i = 0; i < 20; ++i) data += "took 5.6 done!\n";
    data += "one line\nand another=\ntook 1.12 so;rare,(a) tail\n";
    data += std::string("one line\nand another=\ntook ") + value + " so;rare,(a) tail\n";
    check_structure(data);
  }
}

TEST(templates_of_a_known_log_are_found) {
  Random random(kSeed + 4);
  const std::vector<std::string> users = {"root",   "alice",  "bob",     "carol", "dave",   "erin",  "frank",  "grace", "heidi",
                                          "ivan",   "judy",   "mallory", "niaj",  "olivia", "peggy", "rupert", "sybil", "trent",
                                          "victor", "walter", "xena",    "yves",  "zoe",    "quinn", "uma"};
  std::string data;
  for (unsigned i = 0; i < 3000; ++i) {
    data += format("Jun %2u %02u:%02u:%02u combo ", 1 + i / 120, i / 60 % 24, i % 60, i * 7 % 60);
    switch (i % 3) {
      case 0:
        data += "sshd[" + std::to_string(i) + "]: Accepted password for " + random.of(users) + " from 10.0.0." + std::to_string(i % 250) +
                " port " + std::to_string(1024 + random.below(60000)) + " ssh2\n";
        break;
      case 1: data += "kernel: cpu " + std::to_string(i % 4) + " temperature above threshold\n"; break;
      default: data += "crond[" + std::to_string(i * 3) + "]: session closed\n";
    }
  }
  // The month never changes, so it is text; the padded day, the time and the user are values.
  std::map<std::string, size_t> want = {{"Jun <*> <*> combo sshd[<*>]: Accepted password for <*> from <*> port <*> ssh2", 1000},
                                        {"Jun <*> <*> combo kernel: cpu <*> temperature above threshold", 1000},
                                        {"Jun <*> <*> combo crond[<*>]: session closed", 1000}};
  std::map<std::string, size_t> used = used_templates(data);
  for (const auto& [text, lines] : used) CHECK_EQUAL(text + " " + std::to_string(lines), text + " " + std::to_string(want[text]));
  CHECK_EQUAL(used.size(), 3u);
}

TEST(a_value_that_never_changes_is_part_of_the_template) {
  std::string data;
  for (int i = 0; i < 100; ++i) data += "host 7 at port 8080 sent " + std::to_string(i) + "\n";
  std::map<std::string, size_t> used = used_templates(data);
  CHECK_EQUAL(used.size(), 1u);
  CHECK_EQUAL(used.begin()->first, "host 7 at port 8080 sent <*>");
}

TEST(slots_are_columns_of_their_own_where_that_pays) {
  // The least size of the tables is 10; 32 more says that columns are by slot. `fast` begins with two sizes before its header.
  auto by_slot = [](const std::string& data) {
    const Structure structure = find_structure(data, {});
    const ModelStreams streams = encode_model(structure, Effort::fast);
    const size_t lines = structure.line_templates.size();
    CHECK(decodes_to(streams, Effort::fast, lines, data));
    for (Effort effort : {Effort::thorough, Effort::mixed}) CHECK(decodes_to(encode_model(structure, effort), effort, lines, data));
    ByteReader in(streams.symbols);
    in.varint();
    for (uint64_t left = 2 * in.varint(); left > 0; --left) in.varint();
    return in.varint() >= 32 + 10;
  };
  CHECK(by_slot(wide_log(300, kSeed)));
  CHECK(!by_slot(server_log(2000, kSeed)));
  ColumnTable shared(Columns::by_local_text), own(Columns::by_slot);
  const std::string text("a=\0\1 a=\0\1 b=\0\4", 14);
  CHECK_EQUAL(shared.add_template(text).columns.size(), 3u);
  CHECK_EQUAL(own.add_template(text).columns.size(), 3u);
  shared.add_template(text);
  own.add_template(text);
  CHECK_EQUAL(own.kinds().size(), 6u);
  CHECK_EQUAL(shared.kinds().size(), 3u);   // the first "a=" has nothing in front of it
}

TEST(templates_beyond_the_limits_of_a_block_become_raw_lines) {
  // Words that never repeat: every three lines are a template and a column of their own.
  Random random(kSeed + 8);
  std::string data;
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";
  for (size_t i = 0; i < kMaxColumns + 3000; ++i) {
    std::string words = random.text(kLetters, 6) + "-" + random.text(kLetters, 6) + "=";
    for (int line = 0; line < 3; ++line) data += words + std::to_string(random.below(1000)) + "\n";
  }
  // And lines of many slots, each of another make.
  for (size_t i = 0; i < 12; ++i) {
    for (size_t slot = 0; slot < kMaxParsedLine / 2 - 10; ++slot) data += "1" + std::string(1, kLetters[i]);
    data += "\n";
  }
  Structure structure = find_structure(data, {});
  ColumnTable columns(Columns::by_local_text);
  size_t slots = 0, raw_lines = 0;
  for (const std::string& text : structure.templates) slots += columns.add_template(text).columns.size();
  for (uint32_t id : structure.line_templates) raw_lines += id == kRawTemplate;
  CHECK(columns.kinds().size() <= kMaxColumns);
  CHECK(columns.kinds().size() + 100 > kMaxColumns);
  CHECK(slots <= kMaxSlots);
  CHECK(raw_lines >= 3 * 2900);
  CHECK(rendered(structure) == data);
  ModelStreams streams = encode_model(structure, Effort::fast);
  CHECK(decode_fast(streams.symbols, streams.text, count_lines(data), data.size()) == data);
}

TEST(a_template_is_split_at_its_slots_and_constants_are_text) {
  using std::string_literals::operator""s;
  TemplatePieces pieces = split_template(
      "a \0\x01 b\0\x81"
      "77\0c\0\x04"s);
  CHECK_EQUAL(pieces.texts.size(), 3u);
  CHECK_EQUAL(pieces.texts[0], "a ");
  CHECK_EQUAL(pieces.texts[1], " b77c");
  CHECK_EQUAL(pieces.texts[2], "");
  CHECK_EQUAL(pieces.kinds.size(), 2u);
  CHECK_EQUAL(int{pieces.kinds[0]}, int{kNumber});
  CHECK_EQUAL(int{pieces.kinds[1]}, int{kString});
  CHECK_EQUAL(split_template("").texts.size(), 1u);
  CHECK_EQUAL(split_template("plain").texts[0], "plain");
  CHECK_EQUAL(split_template("\0\x84\0"s).texts[0], "");   // a constant of no bytes
}

TEST(a_text_that_is_no_template_is_refused) {
  using std::string_literals::operator""s;
  for (const std::string& text : {"\0"s, "a\0"s, "\0\0"s, "a\0\x06"s, "\0\x07 b"s, "\0\x0a"s, "\0\x7f"s, "\0\x81"s,
                                  "\0\x81"
                                  "77"s,
                                  "\0\x86x\0"s, "\0\xffx\0"s, "ok \0\x01 \0"s, "\0\x81x\0\0"s})
    CHECK_THROWS(split_template(text), corrupt_data, "template: a slot is illegal");
}

TEST(columns_are_keyed_by_kind_and_the_text_around) {
  using std::string_literals::operator""s;
  auto keys = [](const std::string& text) { return column_keys(text); };
  CHECK(keys("").empty());
  CHECK(keys("no slot").empty());
  // The same 10 bytes before and the byte after: one column. Another kind, byte or text: another.
  std::string here = "0123456789"s, slot = "\0\x01"s;
  std::string key = keys("a" + here + slot + "]z").at(0);
  CHECK_EQUAL(keys("b" + here + slot + "]y").at(0), key);
  CHECK(keys(here + "\0\x02]"s).at(0) != key);
  CHECK(keys(here + slot + ")").at(0) != key);
  CHECK(keys("123456789x" + slot + "]").at(0) != key);
  CHECK(keys(here + slot).at(0) != key);
  // A constant looks like the slot it was.
  CHECK_EQUAL(keys("a \0\x81"
                   "77\0 b \0\x01"s)
                  .at(0),
              keys("a \0\x01 b \0\x01"s).at(1));
}

TEST(keys_of_any_text_are_made_without_harm) {
  Random random(kSeed + 5);
  for (int i = 0; i < 20000; ++i) {
    std::string text = random.text(std::string_view("\0\0\x01\x04\x81\x84 a", 8), random.below(24));
    size_t keys = column_keys(text).size();
    CHECK(keys <= text.size());
    try {
      CHECK_EQUAL(split_template(text).kinds.size(), keys);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::corrupt_data);
    }
  }
}

TEST(the_models_give_every_line_back) {
  for (const std::string& data : {server_log(2000, kSeed + 6), std::string(), std::string("\n\n\n"), std::string("7\n7\n8")})
    for (const LexerOptions& options : all_options())
      for (Effort effort : {Effort::fast, Effort::sketch, Effort::thorough}) {
        ModelStreams streams = encode_model(find_structure(data, options), effort);
        auto decode = effort == Effort::fast ? decode_fast : decode_model;
        CHECK(decode(streams.symbols, streams.text, count_lines(data), data.size(), nullptr) == data);
        Account account;
        CHECK(decode(streams.symbols, streams.text, count_lines(data), data.size(), &account) == data);
        uint64_t lines = 0;
        for (const auto& [text, use] : account.templates) lines += use.count;
        CHECK_EQUAL(lines, count_lines(data));
      }
}
