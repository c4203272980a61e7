// Contract: for every line, the static text between the slots and the bytes of the slots' values are the line, under all
// options; slots are in order, legal and apart; and the kinds are the documented ones. The oracle for exactness is the line
// itself; the kinds are written down by hand from lexer.h.
#include "logs/lexer.h"

#include "check.h"
#include "logs_test.h"

using namespace logs_test;

namespace {

constexpr uint64_t kSeed = 20240611;

std::string printable(std::string_view text) {
  std::string out;
  for (char c : text) out += c >= ' ' && c < 127 ? std::string(1, c) : format("\\x%02x", static_cast<unsigned char>(c));
  return out;
}

std::string number_text(int kind, Value value) {
  char out[kMaxRendered];
  return std::string(out, render_number(kind, value, out));
}

std::string rendered(const Slot& slot, const Interner& strings) {
  if (is_string(slot.value)) return std::string(strings.text(static_cast<uint32_t>(slot.value & UINT32_MAX)));
  return number_text(slot.kind, slot.value);
}

// Why the slots of `line` do not stand for it; empty if they do.
std::string fault(std::string_view line, const LexerOptions& options) {
  Interner strings;
  std::vector<Slot> slots;
  lex_line(line, options, strings, slots);
  std::string again;
  size_t at = 0;
  for (const Slot& slot : slots) {
    if (slot.begin < at || slot.end <= slot.begin || slot.end > line.size()) return "slots overlap, are empty or leave the line";
    if (!is_legal_kind(slot.kind)) return "a kind is illegal";
    if (is_string(slot.value) ? (slot.value & ~kStringBit) >= strings.size() : !is_numeric_kind(slot.kind))
      return "a value is not of its kind";
    again += line.substr(at, slot.begin - at);
    again += rendered(slot, strings);
    at = slot.end;
  }
  again += line.substr(at);
  return again == line ? "" : "renders as '" + printable(again) + "'";
}

void check_line(std::string_view line) {
  for (const LexerOptions& options : all_options()) {
    std::string what = fault(line, options);
    if (!what.empty())
      check::fail(__FILE__, __LINE__,
                  "line '" + printable(line) + "' with quotes " + (options.quotes_are_values ? "on" : "off") + ", paths " +
                      (options.paths_are_values ? "on" : "off") + ": " + what);
  }
}

std::string digits(Random& random, size_t most) { return random.text("0123456789", 1 + random.below(most)); }

// Pieces that look like values, right and just wrong.
std::string value_like(Random& random) {
  switch (random.below(20)) {
    case 0: return digits(random, 24);
    case 1: return std::string(random.below(9), '0') + digits(random, 19);
    case 2: return random.text("0123456789abcdef", 1 + random.below(18));
    case 3: return random.text("0123456789ABCDEF", 1 + random.below(18));
    case 4: return random.text("0123456789abcdefABCDEF", 6 + random.below(12));
    case 5: return "0x" + std::string(random.below(8), '0') + random.text("0123456789abcdef", random.below(17));
    case 6: {
      std::string time = format("%02u:%02u:%02u", static_cast<unsigned>(random.below(27)), static_cast<unsigned>(random.below(64)),
                                static_cast<unsigned>(random.below(64)));
      if (random.chance(2)) time += random.of(".,:") + random.text("0123456789", random.below(13));
      return time;
    }
    case 7: return digits(random, 2) + ":" + digits(random, 2) + ":" + digits(random, 3);
    case 8: {
      std::string address = digits(random, 3);
      for (size_t parts = 2 + random.below(4); parts > 0; --parts) address += "." + digits(random, 4);
      return address;
    }
    case 9: return digits(random, 12) + "." + random.text("0123456789", random.below(13));
    case 10: return std::string(random.below(4), '0') + "." + digits(random, 10);
    case 11: {
      std::string_view alphabet = random.chance(2) ? "0123456789abcdef" : "0123456789abcdefABCDEF";
      std::string uuid = random.text(alphabet, 8);
      for (size_t size : {4, 4, 4, 12}) uuid += "-" + random.text(alphabet, size - random.chance(12));
      return uuid;
    }
    case 12: return "  " + digits(random, 2);
    case 13: return "\"" + random.text("ab1/\\\": ", random.below(12)) + (random.chance(4) ? "" : "\"") + (random.chance(3) ? ":" : "");
    case 14: return random.text("ab1/:.=-", 2 + random.below(20));
    case 15: return random.bytes(1 + random.below(6));
    case 16: return random.text("aZ_9\x80\xff", 1 + random.below(12));
    case 17: return std::string(1, '\0') + random.text("1\r", 2);
    case 18: return random.text("ab", 3) + random.text("12", 3) + random.text("ab", 3) + random.text("12", 3);
    default: return random.text("abcdefghijklmnopqrstuvwxyz", 1 + random.below(9));
  }
}

}  // namespace

TEST(adversarial_lines_render_back) {
  for (const char* line : {"",
                           " ",
                           "0",
                           "00",
                           "0000000",
                           "00000000",
                           "000000000000000000",
                           "1",
                           "007",
                           "0000001",
                           "00000001",
                           "999999999999999999",
                           "1000000000000000000",
                           "9999999999999999999",
                           "18446744073709551616",
                           "0000000999999999999999999",
                           "-5",
                           "+5",
                           "1e9",
                           "00:00:00",
                           "23:59:59",
                           "24:00:00",
                           "24:60:60",
                           "23:60:00",
                           "23:59:60",
                           "1:02:03",
                           "01:2:03",
                           "01:02:3",
                           "01:02:03.",
                           "01:02:03,",
                           "01:02:03:",
                           "01:02:03.0",
                           "01:02:03.123456789",
                           "01:02:03.1234567890",
                           "01:02:03,000",
                           "01:02:03:999",
                           "01:02:03:1234567890",
                           "01:02:03.123,456",
                           "a01:02:03",
                           ":01:02:03",
                           "01:02:03:04:05",
                           "01:02:03:aa:bb",
                           "1.2.3.4",
                           "0.0.0.0",
                           "255.255.255.255",
                           "999.1.1.1",
                           "1.2.3.4.5",
                           "1.2.3.4.",
                           "1.2.3.4x",
                           "1.2.3",
                           "1.2.3.",
                           "01.02.03.04",
                           "1234.1.1.1",
                           "a1.2.3.4",
                           "1.2.3.4:80",
                           "0.000",
                           "00.000",
                           "0.123456789",
                           "0.1234567890",
                           "1.12",
                           "1.123",
                           "123456789012345678.123",
                           "123456789012345.123",
                           ".123",
                           "1.123.456",
                           "1..123",
                           "a1.123",
                           "1.123a",
                           "deadbeef",
                           "DEADBEEF",
                           "deadBEEF",
                           "0xdeadbeef",
                           "0xDEADBEEF",
                           "0x",
                           "0xg",
                           "0x0",
                           "0x00000000",
                           "0xffffffffffffffff",
                           "0xfffffffffffffff",
                           "a1b2c3d4e5f60718",
                           "0a1b2c",
                           "00a1b2c3",
                           "00000000a1b2c3d4",
                           "ABCDEF1",
                           "12345f",
                           "12345F",
                           "fffffffffffffff",
                           "f0000000000000000",
                           "Jun  9",
                           "Jun  9 10:00:00",
                           "Jun   9",
                           "Jun  09",
                           "Jun 10",
                           "a  1",
                           "  1",
                           " 1",
                           "550e8400-e29b-41d4-a716-446655440000",
                           "550E8400-E29B-41D4-A716-446655440000",
                           "550e8400-e29b-41d4-a716-44665544000",
                           "550e8400-e29b-41d4-a716-446655440000a",
                           "550e8400-",
                           "\"",
                           "\"\"",
                           "\"a\"",
                           "\"a",
                           "a\"",
                           "\"a\":1",
                           "\"a\\\"b\"",
                           "\"a\\",
                           "\"a\\\"",
                           "\"a\":\"b\",\"c\":\"d\"",
                           "\"\\\"\":1",
                           "\"a\"\"b\"",
                           "/",
                           "//",
                           "/a",
                           "/a/b",
                           "a/b/c",
                           "a/b/c:",
                           "a/b/c...:",
                           "///",
                           "/a/b 1/2/3",
                           "a/b",
                           "http://h/p?q=1",
                           "\r",
                           "1\r",
                           "\x80\xff",
                           "caf\xc3\xa9 7",
                           "\xff"
                           "1\xff",
                           "_1_",
                           "1_000_000",
                           "v1.2.3",
                           "a1b2c3d4",
                           "node-17.rack4",
                           "x86_64",
                           "12ab34cd",
                           "2024-06-11T10:20:30.123456Z",
                           "[10/Oct/2000:13:55:36 -0700]"})
    check_line(line);
  check_line(
      std::string_view("a\0"
                       "1",
                       3));
  check_line(std::string(70000, '7'));
  check_line(std::string(70000, 'a') + "1");
  check_line(std::string(20000, '"'));
}

TEST(numbers_of_every_length_with_every_count_of_leading_zeros_render_back) {
  for (size_t zeros = 0; zeros < 10; ++zeros)
    for (size_t length = 0; length < 22; ++length)
      for (const char* digit : {"1", "9", "f", "F", "a0", "A9"}) {
        std::string number = std::string(zeros, '0');
        while (number.size() < zeros + length) number += digit;
        for (const char* before : {"", " ", "x", "0x", "=", ".", "-", "Jun  "})
          for (const char* after : {"", " ", ".", ":", "x"}) check_line(before + number + after);
      }
}

TEST(times_of_every_minute_and_second_render_back) {
  for (unsigned hour : {0u, 1u, 9u, 12u, 23u, 24u, 99u})
    for (unsigned minute = 0; minute < 62; ++minute)
      for (unsigned second = 0; second < 62; second += 1 + (minute % 4 != 0) * 6)
        check_line(format("%02u:%02u:%02u", hour, minute, second));
  for (char mark : std::string_view(".,:"))
    for (size_t fraction = 0; fraction < 13; ++fraction)
      for (char digit : std::string_view("0159")) check_line("at 10:20:30" + std::string(1, mark) + std::string(fraction, digit) + " x");
}

TEST(random_lines_of_value_like_pieces_render_back) {
  Random random(kSeed);
  const std::vector<std::string> gaps = {"", " ", "  ", "=", ":", ".", ",", "/", "-", "\"", "[", "]", "_", "\t", "\\"};
  for (int i = 0; i < 20000; ++i) {
    std::string line;
    for (size_t pieces = random.below(8); pieces > 0; --pieces) {
      std::string piece = value_like(random);
      line += random.of(gaps) + piece;
    }
    check_line(line);
  }
}

TEST(random_lines_over_a_small_alphabet_render_back) {
  Random random(kSeed + 1);
  for (std::string_view alphabet : {"01:", "019.", "0aF-x", "\"\\:a1", "/.:a ", "0123456789:.,"})
    for (int i = 0; i < 3000; ++i) check_line(random.text(alphabet, random.below(40)));
}

TEST(random_bytes_render_back) {
  Random random(kSeed + 2);
  for (int i = 0; i < 5000; ++i) check_line(random.bytes(random.below(200)));
}

TEST(a_log_renders_back_with_an_interner_that_is_kept) {
  // The lines that a block really lexes, one interner for all.
  std::string log = server_log(2000, kSeed);
  for (const LexerOptions& options : all_options()) {
    Interner strings;
    std::string again;
    for (size_t at = 0; at < log.size();) {
      size_t end = log.find('\n', at);
      std::string_view line = std::string_view(log).substr(at, end - at);
      std::vector<Slot> slots;
      lex_line(line, options, strings, slots);
      size_t from = 0;
      for (const Slot& slot : slots) {
        again += line.substr(from, slot.begin - from);
        again += rendered(slot, strings);
        from = slot.end;
      }
      again += line.substr(from);
      again += '\n';
      at = end + 1;
    }
    CHECK(again == log);
  }
}

namespace {

// "text@kind text@kind ..." of the slots of a line.
std::string kinds_of(std::string_view line, const LexerOptions& options = {}) {
  Interner strings;
  std::vector<Slot> slots;
  lex_line(line, options, strings, slots);
  std::string out;
  for (const Slot& slot : slots) {
    if (!out.empty()) out += ' ';
    out += std::string(line.substr(slot.begin, slot.end - slot.begin)) + "@" + std::to_string(slot.kind);
  }
  return out;
}

}  // namespace

TEST(kinds_are_the_documented_ones) {
  CHECK_EQUAL(kinds_of("pid 17 of 007"), "17@1 007@1");
  CHECK_EQUAL(kinds_of("Jun  9"), " 9@1");
  CHECK_EQUAL(kinds_of("at 10:20:30"), "10:20:30@24");
  CHECK_EQUAL(kinds_of("at 10:20:30.123456"), "10:20:30.123456@30");
  CHECK_EQUAL(kinds_of("at 10:20:30,123"), "10:20:30,123@43");
  CHECK_EQUAL(kinds_of("at 10:20:30:12"), "10:20:30:12@58");
  CHECK_EQUAL(kinds_of("from 10.0.0.1 port"), "10.0.0.1@5");
  CHECK_EQUAL(kinds_of("took 12.345 s"), "12.345@11");
  CHECK_EQUAL(kinds_of("id deadbeef01"), "deadbeef01@2");
  CHECK_EQUAL(kinds_of("id DEADBEEF01"), "DEADBEEF01@3");
  CHECK_EQUAL(kinds_of("id 550e8400-e29b-41d4-a716-446655440000"), "550e8400-e29b-41d4-a716-446655440000@4");
  CHECK_EQUAL(kinds_of("say \"so it is\" twice"), "");
  CHECK_EQUAL(kinds_of("say \"so it is\" twice", {true, false}), "so it is@4");
  CHECK_EQUAL(kinds_of("{\"key\": \"value\"}", {true, false}), "value@4");
  CHECK_EQUAL(kinds_of("open /var/log/x now", {false, true}), "/var/log/x@4");
}

TEST(what_a_typed_kind_cannot_hold_is_left_to_others) {
  // Out of range, too long or too many zeros: a typed value would not render back.
  CHECK_EQUAL(kinds_of("24:60:60").find("@24"), std::string::npos);
  CHECK_EQUAL(kinds_of("1234567890123456789"), "1234567890123456789@4");
  CHECK_EQUAL(kinds_of("00000001"), "00000001@4");
}

TEST(values_render_as_their_kind_says) {
  CHECK_EQUAL(number_text(kNumber, 0), "0");
  CHECK_EQUAL(number_text(kNumber, 7 | uint64_t{2} << kZerosShift), "007");
  CHECK_EQUAL(number_text(kNumber, 7 | kSpacePadded << kZerosShift), " 7");
  CHECK_EQUAL(number_text(kNumber, kNumberMask), "1152921504606846975");
  CHECK_EQUAL(number_text(kHexLower, kNumberMask), "fffffffffffffff");
  CHECK_EQUAL(number_text(kHexUpper, 0xAB), "AB");
  CHECK_EQUAL(number_text(kTime, 86399), "23:59:59");
  CHECK_EQUAL(number_text(kTime + 3, 3723004), "01:02:03.004");
  CHECK_EQUAL(number_text(kTimeComma + 1, 5), "00:00:00,5");
  CHECK_EQUAL(number_text(kTimeColon + 2, 101), "00:00:01:01");
  CHECK_EQUAL(number_text(kDecimal + 3, 1), "0.001");
  CHECK_EQUAL(number_text(kDecimal + 9, 1234567890), "1.234567890");
}

TEST(any_value_of_any_kind_renders_in_its_buffer) {
  // A damaged archive may ask for any value; rendering must stay in bounds.
  Random random(kSeed + 3);
  for (int kind = 0; kind < 128; ++kind) {
    if (!is_legal_kind(kind)) continue;
    for (int i = 0; i < 2000; ++i) {
      Value value = i == 0 ? ~kStringBit : random.next() >> random.below(64) & ~kStringBit;
      std::string out = number_text(kind, value);   // in kMaxRendered bytes, which the address sanitizer sees to
      CHECK(out.size() <= kMaxRendered && !out.empty());
    }
  }
}

TEST(kinds_are_legal_by_the_table) {
  std::string legal;
  for (int kind = -1; kind < 300; ++kind)
    if (is_legal_kind(kind)) legal += std::to_string(kind) + " ";
  CHECK_EQUAL(legal,
              "1 2 3 4 5 11 12 13 14 15 16 17 24 25 26 27 28 29 30 31 32 33 41 42 43 44 45 46 47 48 49 "
              "57 58 59 60 61 62 63 64 65 ");
}
