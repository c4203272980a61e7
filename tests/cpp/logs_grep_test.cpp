// Contract: a pattern finds the lines, and in them the leftmost-longest matches, that POSIX says; blocks that are passed over have no such
// line. The oracle is std::regex in its POSIX grammars, over lines short enough for it; the product shares no code with it.
#include <regex>

#include "check.h"
#include "logs/block_index.h"
#include "logs/line_filter.h"
#include "logs/matcher.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20261125;

std::string random_pattern(Random& random, int depth) {
  std::string out;
  for (uint64_t parts = 1 + random.below(3); parts > 0; --parts) {
    switch (depth > 0 ? random.below(8) : random.below(4)) {
      case 0:
      case 1: out += random.of("abc"); break;
      case 2: out += random.of(std::vector<std::string>{"[ab]", "[^a]", ".", "[b-c]"}); break;
      case 3: out += "ab"; break;
      case 4:
      case 5: out += "(" + random_pattern(random, depth - 1) + ")"; break;
      case 6: out += "(" + random_pattern(random, depth - 1) + "|" + random_pattern(random, depth - 1) + ")"; break;
      default: out += "(" + random_pattern(random, depth - 1) + ")" + random.of(std::vector<std::string>{"{2}", "{1,2}", "{0,1}"});
    }
    if (random.chance(3)) out += random.of("*+?");
  }
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

}  // namespace

TEST(lines_and_matches_are_those_of_an_independent_engine) {
  // Its search is not always leftmost-longest; whether it matches a whole string is what is asked of it.
  Random random(kSeed);
  size_t found = 0;
  for (int round = 0; round < 300; ++round) {
    std::string text = random_pattern(random, 1);
    bool begins = random.chance(4), ends = random.chance(4), ignore_case = random.chance(3);
    Pattern pattern = compile_pattern((begins ? "^(" : "(") + text + (ends ? ")$" : ")"), PatternSyntax::extended, ignore_case);
    std::regex oracle(text, ignore_case ? std::regex::extended | std::regex::icase : std::regex::extended);
    Matcher matcher(pattern);
    for (int i = 0; i < 8; ++i) {
      std::string line = random.text(random.chance(2) ? "abc" : "aABbc d", random.below(9));
      bool want = false;
      Span span, match;
      for (size_t at = 0; at <= line.size() && match.end == 0; ++at) {
        for (size_t end = line.size() + 1; end-- > at;) {
          if ((begins && at > 0) || (ends && end < line.size())) continue;
          if (!std::regex_match(line.substr(at, end - at), oracle)) continue;
          want = true;
          if (end > at) match = {at, end};
          break;
        }
      }
      std::string lines = "x\n" + line + "\nx\n";
      bool got = false;
      for (size_t from = 0; matcher.next_line(lines, from, span); from = span.end + 1) got = got || span.begin == 2;
      Span part;
      bool any = matcher.next_match(line, 0, part);
      if (got != want || any != (match.end > 0) || (any && (part.begin != match.begin || part.end != match.end)))
        check::fail(__FILE__, __LINE__, "pattern " + text + " in line " + line);
      found += want;
    }
  }
  CHECK(found > 300);
}

TEST(a_small_table_of_states_begins_anew_and_finds_the_same) {
  // (a|b)*a(a|b){14} has 2^15 states; their table passes its limit many times over.
  Random random(kSeed + 1);
  Pattern pattern = compile_pattern("a[ab]{14}c|(a|b)*a(a|b){14}d$", PatternSyntax::extended, false);
  std::string text;
  for (int i = 0; i < 4000; ++i) text += random.text("ab", 100 + random.below(50)) + random.of("cde") + "\n";
  Matcher matcher(pattern);
  Span line;
  size_t from = 0, got = 0, want = 0;
  while (matcher.next_line(text, from, line)) {
    ++got;
    from = line.end + 1;
  }
  for (const std::string& each : lines_of(text)) want += each.back() != 'e' && each[each.size() - 16] == 'a';
  CHECK_EQUAL(got, want);
  CHECK(got > 1000);
}

TEST(groups_of_letters_never_deny_what_a_block_has) {
  Random random(kSeed + 2);
  for (int round = 0; round < 50; ++round) {
    std::string raw = random.text("abcdefGHIJ .0\n", 300 + random.below(3000));
    for (size_t payload : {size_t{3000}, size_t{20000}, size_t{1000000}}) {
      std::string records = make_block_index(raw, payload);
      BlockIndex index = read_block_index(records);
      CHECK(records.size() <= 970);
      for (int i = 0; i < 100; ++i) {
        std::string piece = raw.substr(random.below(raw.size()), 1 + random.below(12));
        for (char& c : piece) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c | 32 : c);
        CHECK(may_have(index, piece));
      }
    }
  }
  std::string log = server_log(2000, kSeed);
  std::string records = make_block_index(log, 60000);
  BlockIndex index = read_block_index(records);
  CHECK(!index.letters.empty());
  CHECK(!may_have(index, "watermelon"));
  CHECK(may_have(index, "xyz"));   // no group
  CHECK(make_block_index(log, 100).empty());
  std::string full = random.text("abcdefghijklmnopqrstuvwxyz", 100000);
  CHECK(make_block_index(full, 1000000).empty());
}

TEST(required_strings_are_those_that_every_match_has) {
  using Lists = std::vector<std::vector<std::string>>;
  auto required = [](const char* text, bool ignore_case = false) {
    return compile_pattern(text, PatternSyntax::extended, ignore_case).required;
  };
  CHECK(required("Failed.*PORT [0-9]+x") == (Lists{{"failed", "port ", "x"}}));
  CHECK(required("foo|ba[Rr]") == (Lists{{"foo"}, {"bar"}}));
  CHECK(required("foo|.*").empty());
  CHECK(required("(foo)?bar(baz){2,3}(qux)*") == (Lists{{"bar", "baz"}}));
  CHECK(required("(foo|bar)x") == (Lists{{"x"}}));
  CHECK(required("Foo\nBAR", true) == (Lists{{"foo"}, {"bar"}}));
  CHECK(required("").empty());
}

TEST(long_lines_over_many_blocks_are_searched_as_one) {
  std::string raw = "first\n" + std::string(3 * kBlockBytes / 2, 'x') + "needle" + std::string(kBlockBytes, 'y') + "\nlast needle";
  std::string archive = pack(raw, Level::fast);
  RunCodec codec;
  Archive opened(archive, codec);
  CHECK(opened.block_count() > 2);
  GrepQuery query;
  query.pattern = "xneedley";
  Grep grep(opened, query, 2);
  GrepBatch batch;
  std::vector<uint64_t> numbers;
  while (grep.next(batch))
    for (const GrepLine& line : batch.lines) numbers.push_back(line.number + 1000 * (line.end - line.begin == raw.size() - 6 - 11));
  CHECK(numbers == std::vector<uint64_t>{1001});
}

TEST(lines_that_a_filter_leaves_out_do_not_match) {
  // The oracle looks for the bytes in every line. Needles are pieces of lines, some of them spoiled, so that they reach over text, numbers and strings.
  Random random(kSeed + 3);
  RunCodec codec;
  size_t found = 0, left_out = 0;
  for (Level level : all_levels()) {
    std::string raw = server_log(level == Level::max ? 300 : 1500, random.next());
    if (random.chance(2)) raw.pop_back();
    const std::vector<std::string> lines = lines_of(raw);
    const std::string archive = pack(raw, level);
    const Archive opened(archive, codec);
    for (int round = 0; round < 150; ++round) {
      const std::string& line = random.of(lines);
      std::string needle = line.substr(random.below(line.size()), 1 + random.below(random.chance(4) ? 80 : 9));
      if (random.chance(3)) needle[random.below(needle.size())] = random.of("0123456789abcdeFGH .:[");
      const bool ignore_case = random.chance(3);
      Pattern pattern = compile_pattern(needle, PatternSyntax::fixed, ignore_case);
      LineFilter filter(pattern);
      LineSelection selection;
      if (!opened.select_lines(0, filter, selection)) continue;   // not a model's block
      if (selection.whole) {
        CHECK(selection.text == raw);
        continue;
      }
      const std::vector<std::string> texts = lines_of(selection.text);
      CHECK_EQUAL(texts.size(), selection.numbers.size());
      std::vector<bool> selected(lines.size(), false);
      for (size_t i = 0; i < texts.size(); ++i) {
        CHECK(texts[i] == lines[selection.numbers[i]]);
        selected[selection.numbers[i]] = true;
      }
      Matcher matcher(pattern);
      Span span;
      for (size_t i = 0; i < lines.size(); ++i) {
        if (selected[i]) continue;
        CHECK(!matcher.next_line(lines[i], 0, span));
        ++left_out;
      }
      found += texts.size();
    }
  }
  CHECK(found > 1000);
  CHECK(left_out > 10000);
}

TEST(what_no_template_and_no_string_has_is_told_without_a_value) {
  RunCodec codec;
  std::string raw = server_log(9000, kSeed);
  for (Level level : quick_levels()) {
    const std::string archive = pack(raw, level);
    const Archive opened(archive, codec);
    auto select = [&](const char* text) {
      LineSelection selection;
      CHECK(opened.select_lines(0, LineFilter(compile_pattern(text, PatternSyntax::extended, false)), selection));
      return selection;
    };
    CHECK(select("ACCEPTED").numbers.empty());   // there is "Accepted"
    CHECK(select("password for [0-9]").text.find("Accepted") != std::string::npos);
    CHECK(select("combo").whole);                // in every line
    CHECK(select("disk sd").numbers.size() > 1000);
    CHECK(select("disk sd").numbers.size() < 4000);
  }
  CHECK(!LineFilter(compile_pattern("a*", PatternSyntax::extended, false)).tells());
}
