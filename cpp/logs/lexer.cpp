// The lexer of the logs room: see lexer.h.

#include "logs/lexer.h"

#include <array>
#include <cstring>

namespace slipstick::logs {
namespace {

enum CharClass : uint8_t { kDelimiter, kLetter, kDigit };

constexpr std::array<uint8_t, 256> make_classes() {
  std::array<uint8_t, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    if (c >= '0' && c <= '9') classes[c] = kDigit;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80) classes[c] = kLetter;
  }
  return classes;
}
constexpr std::array<uint8_t, 256> kClasses = make_classes();

CharClass class_of(char c) { return static_cast<CharClass>(kClasses[static_cast<unsigned char>(c)]); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex_lower(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }
bool is_hex_upper(char c) { return is_digit(c) || (c >= 'A' && c <= 'F'); }

constexpr int kMaxDigits = 18;     // 10^18 < 2^60
constexpr int kMaxHexDigits = 15;  // 16^15 = 2^60
constexpr int kMaxZeros = 6;       // 7 in the zeros field means one leading space
constexpr size_t kMinHexWord = 6;  // shorter mixed words ("a1", "v6b") are names more often than numbers
constexpr size_t kMinIdentifier = 8;
constexpr int kMinAlternations = 3;

constexpr uint64_t kPowersOf10[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

// One line being lexed. Every try_ function looks for its kind of value at `at` and returns the end of the slot it
// added, or 0.
class LineLexer {
 public:
  LineLexer(std::string_view line, size_t offset, const ClassMap& classes, const LexerOptions& options, Interner& interner,
            std::vector<Slot>& slots)
      : line_(line), size_(line.size()), offset_(offset), classes_(classes), options_(options), interner_(interner), slots_(slots) {}

  void run() {
    if (options_.paths_are_values) {
      run_with_paths();
      return;
    }
    // From one digit (or quote) to the next; a digit leads back to the word that it is in.
    size_t at = 0;
    const bool quotes = options_.quotes_are_values;
    while (true) {
      at = classes_.next(offset_ + at, offset_ + size_, [quotes](const ByteClasses& c) { return quotes ? c.digit | c.quote : c.digit; }) -
           offset_;
      if (at >= size_) return;
      if (line_[at] == '"') {
        at = at != key_close_ ? quoted(at) : at + 1;
      } else {
        at = word(classes_.word_begin(offset_ + at, offset_ + done_) - offset_);
      }
      done_ = at;
    }
  }

 private:
  void add(size_t begin, size_t end, int kind, Value value) {
    slots_.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), static_cast<uint8_t>(kind), value});
  }
  size_t add_string(size_t begin, size_t end, int kind = kString) {
    add(begin, end, kind, kStringBit | interner_.intern(line_.substr(begin, end - begin)));
    return end;
  }
  char peek(size_t at) const { return at < size_ ? line_[at] : '\0'; }
  bool digits_at(size_t at, size_t count) const {
    if (at + count > size_) return false;
    for (size_t i = 0; i < count; ++i)
      if (!is_digit(line_[at + i])) return false;
    return true;
  }
  uint64_t number(size_t begin, size_t end) const {
    uint64_t value = 0;
    for (size_t i = begin; i < end; ++i) value = value * 10 + static_cast<uint64_t>(line_[i] - '0');
    return value;
  }
  size_t digits_end(size_t at) const {
    while (at < size_ && is_digit(line_[at])) ++at;
    return at;
  }

  // hh:mm:ss with an optional fraction, every field in its range so that the value renders back.
  size_t try_time(size_t at) {
    if (!(digits_at(at + 3, 2) && peek(at + 5) == ':' && digits_at(at + 6, 2)) || is_digit(peek(at + 8))) return 0;
    if (at > 0 && line_[at - 1] == ':') return 0;
    uint64_t hours = number(at, at + 2), minutes = number(at + 3, at + 5), seconds = number(at + 6, at + 8);
    if (hours > 23 || minutes > 59 || seconds > 59) return 0;
    uint64_t value = (hours * 60 + minutes) * 60 + seconds;
    size_t end = at + 8;
    char mark = peek(end);
    int base = mark == '.' ? kTime : mark == ',' ? kTimeComma : mark == ':' ? kTimeColon : 0;
    if (base != 0) {
      size_t fraction_end = digits_end(end + 1);
      size_t fraction = fraction_end - (end + 1);
      if (fraction >= 1 && fraction <= kMaxFraction) {
        value = value * kPowersOf10[fraction] + number(end + 1, fraction_end);
        add(at, fraction_end, base + static_cast<int>(fraction), value);
        return fraction_end;
      }
      if (mark == ':' && fraction > 0) return 0;
    }
    add(at, end, kTime, value);
    return end;
  }

  size_t try_address(size_t at) {
    size_t end = at;
    for (int part = 0; part < 4; ++part) {
      size_t part_end = digits_end(end);
      if (part_end == end || part_end - end > 3) return 0;
      end = part_end;
      if (part < 3) {
        if (peek(end) != '.') return 0;
        ++end;
      }
    }
    if (class_of(peek(end)) == kLetter || (peek(end) == '.' && is_digit(peek(end + 1)))) return 0;
    return add_string(at, end, kAddress);
  }

  // Digits '.' 3 to 9 digits; shorter fractions have no fixed width in practice and stay two numbers.
  size_t try_decimal(size_t at, size_t whole_end) {
    size_t end = digits_end(whole_end + 1);
    size_t fraction = end - (whole_end + 1);
    if (fraction < 3 || fraction > kMaxFraction || whole_end - at + fraction > kMaxDigits) return 0;
    if (line_[at] == '0' && whole_end - at > 1) return 0;
    if (class_of(peek(end)) == kLetter || (peek(end) == '.' && is_digit(peek(end + 1)))) return 0;
    if (at > 0 && line_[at - 1] == '.') return 0;
    add(at, end, kDecimal + static_cast<int>(fraction), number(at, whole_end) * kPowersOf10[fraction] + number(whole_end + 1, end));
    return end;
  }

  size_t digit_run(size_t at, size_t end) {
    if (end - at == 2 && peek(end) == ':') {
      if (size_t time_end = try_time(at)) return time_end;
    }
    if (peek(end) == '.' && is_digit(peek(end + 1)) && (at == 0 || class_of(line_[at - 1]) != kLetter)) {
      if (size_t address_end = try_address(at)) return address_end;
      if (size_t decimal_end = try_decimal(at, end)) return decimal_end;
    }
    size_t zeros = 0;
    while (at + zeros + 1 < end && line_[at + zeros] == '0') ++zeros;
    if (zeros > kMaxZeros || end - at - zeros > kMaxDigits) return add_string(at, end);
    uint64_t value = number(at, end);
    // A day of the month padded with a space ("Jun  9") takes the space along, so that "Jun 10" has the same shape.
    if (end - at == 1 && at >= 3 && line_[at - 1] == ' ' && line_[at - 2] == ' ' && class_of(line_[at - 3]) == kLetter) {
      add(at - 1, end, kNumber, value | kSpacePadded << kZerosShift);
    } else {
      add(at, end, kNumber, value | static_cast<uint64_t>(zeros) << kZerosShift);
    }
    return end;
  }

  size_t hex(size_t begin, size_t end, int kind) {
    size_t zeros = 0;
    while (begin + zeros + 1 < end && line_[begin + zeros] == '0') ++zeros;
    if (zeros > kMaxZeros || end - begin - zeros > kMaxHexDigits) return add_string(begin, end);
    uint64_t value = 0;
    for (size_t i = begin; i < end; ++i) {
      char c = line_[i];
      value = value * 16 + static_cast<uint64_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    add(begin, end, kind, value | static_cast<uint64_t>(zeros) << kZerosShift);
    return end;
  }

  // 8-4-4-4-12 hexadecimal digits.
  size_t try_uuid(size_t at) {
    static constexpr uint8_t kGroups[] = {8, 4, 4, 4, 12};
    size_t end = at;
    for (int group = 0; group < 5; ++group) {
      if (group > 0 && peek(end++) != '-') return 0;
      for (int i = 0; i < kGroups[group]; ++i, ++end)
        if (!is_hex_lower(peek(end)) && !is_hex_upper(peek(end))) return 0;
    }
    if (class_of(peek(end)) != kDelimiter) return 0;
    return add_string(at, end);
  }

  // A run of letters, digits and underscores.
  size_t word(size_t begin) {
    size_t end = begin;
    int digits = 0, alternations = 0;
    bool lower = true, upper = true;
    int before = kDelimiter;
    for (; end < size_; ++end) {
      char c = line_[end];
      int now = class_of(c);
      if (now == kDelimiter) break;
      if (now == kDigit) ++digits;
      if (now == kLetter) {
        lower = lower && c >= 'a' && c <= 'f';
        upper = upper && c >= 'A' && c <= 'F';
        if (c == '_') now = kDelimiter;
      }
      if (now != before && before != kDelimiter && now != kDelimiter) ++alternations;
      before = now;
    }
    if (digits == 0) return end;
    size_t length = end - begin;
    if (length == 8 && peek(end) == '-') {
      if (size_t uuid_end = try_uuid(begin)) return uuid_end;
    }
    if (digits < static_cast<int>(length)) {
      if ((lower || upper) && length >= kMinHexWord) return hex(begin, end, lower ? kHexLower : kHexUpper);
      if (length > 2 && line_[begin] == '0' && line_[begin + 1] == 'x') {
        if (size_t hex_end = prefixed_hex(begin + 2, end)) return hex_end;
      }
      if (alternations >= kMinAlternations && length >= kMinIdentifier) return add_string(begin, end);
    }
    size_t at = begin;
    while (at < end) {
      if (is_digit(line_[at])) {
        at = digit_run(at, digits_end(at));
      } else {
        ++at;
      }
    }
    return at;
  }

  size_t prefixed_hex(size_t begin, size_t end) {
    bool lower = true, upper = true;
    for (size_t i = begin; i < end; ++i) {
      lower = lower && is_hex_lower(line_[i]);
      upper = upper && is_hex_upper(line_[i]);
    }
    if (!lower && !upper) return 0;
    return hex(begin, end, lower ? kHexLower : kHexUpper);
  }

  static bool ends_path(char c) {
    switch (c) {
      case ' ':
      case '\t':
      case '"':
      case '\'':
      case '[':
      case ']':
      case '(':
      case ')':
      case '{':
      case '}':
      case '<':
      case '>':
      case ',':
      case ';':
      case '=':
      case '|':
      case '\r': return true;
      default: return false;
    }
  }

  size_t path_or_word(size_t begin) {
    if (begin < no_path_before_) return line_[begin] == '/' ? begin + 1 : word(begin);
    size_t end = begin;
    int slashes = 0;
    while (end < size_ && !ends_path(line_[end])) slashes += line_[end++] == '/';
    if (slashes >= 2) {
      while (end > begin && (line_[end - 1] == ':' || line_[end - 1] == '.')) --end;
      return add_string(begin, end);
    }
    no_path_before_ = end;
    return line_[begin] == '/' ? begin + 1 : word(begin);
  }

  // Text between double quotes is one value; a name in front of a colon (a JSON key) is structure.
  size_t quoted(size_t open) {
    size_t close = open + 1;
    while (close < size_ && line_[close] != '"') close += line_[close] == '\\' ? 2 : 1;
    if (close >= size_) return open + 1;
    if (peek(close + 1) == ':') {
      key_close_ = close;
      return open + 1;
    }
    if (close > open + 1) add_string(open + 1, close);
    return close + 1;
  }

  // Paths begin with letters or slashes, so every word has to be looked at.
  void run_with_paths() {
    size_t at = 0;
    while (at < size_) {
      char c = line_[at];
      if (c == '"' && options_.quotes_are_values && at != key_close_) {
        at = quoted(at);
      } else if (class_of(c) != kDelimiter || c == '/') {
        at = path_or_word(at);
      } else {
        ++at;
      }
    }
  }

  std::string_view line_;
  size_t size_;
  size_t offset_;          // of the line in the text of classes_
  size_t done_ = 0;        // the line is lexed up to here
  const ClassMap& classes_;
  const LexerOptions& options_;
  Interner& interner_;
  std::vector<Slot>& slots_;
  size_t no_path_before_ = 0;   // paths were looked for up to here
  size_t key_close_ = 0;        // the quote that closes the name being lexed
};

constexpr std::array<char, 200> make_digit_pairs() {
  std::array<char, 200> pairs{};
  for (size_t i = 0; i < 100; ++i) {
    pairs[2 * i] = static_cast<char>('0' + i / 10);
    pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
  }
  return pairs;
}
constexpr std::array<char, 200> kDigitPairs = make_digit_pairs();

char* put_pair(uint64_t value, char* out) {
  std::memcpy(out, &kDigitPairs[2 * value], 2);
  return out + 2;
}

char* put_decimal(uint64_t value, char* out) {
  char digits[20];
  int at = 20;
  while (value >= 100) {
    at -= 2;
    put_pair(value % 100, digits + at);
    value /= 100;
  }
  if (value >= 10) {
    at -= 2;
    put_pair(value, digits + at);
  } else {
    digits[--at] = static_cast<char>('0' + value);
  }
  std::memcpy(out, digits + at, static_cast<size_t>(20 - at));
  return out + (20 - at);
}

char* put_padded(uint64_t value, int width, char* out) {
  for (int i = width - 1; i >= 0; --i) {
    out[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
  return out + width;
}

char* put_time(uint64_t value, int fraction, char mark, char* out) {
  uint64_t unit = kPowersOf10[fraction];
  uint64_t seconds = value / unit;
  out = put_pair(seconds / 3600 % 100, out);
  *out++ = ':';
  out = put_pair(seconds / 60 % 60, out);
  *out++ = ':';
  out = put_pair(seconds % 60, out);
  if (fraction == 0) return out;
  *out++ = mark;
  return put_padded(value % unit, fraction, out);
}

char* put_hex(uint64_t value, const char* alphabet, char* out) {
  int digits = value == 0 ? 1 : (67 - __builtin_clzll(value)) / 4;
  for (int i = digits - 1; i >= 0; --i) {
    out[i] = alphabet[value & 15];
    value >>= 4;
  }
  return out + digits;
}

}  // namespace

bool is_legal_kind(int kind) {
  return (kind >= kNumber && kind <= kAddress) || (kind >= kDecimal + 3 && kind <= kDecimal + kMaxFraction) ||
         (kind >= kTime && kind <= kTime + kMaxFraction) || (kind > kTimeComma && kind <= kTimeComma + kMaxFraction) ||
         (kind > kTimeColon && kind <= kTimeColon + kMaxFraction);
}

char* render_number(int kind, Value value, char* out) {
  uint64_t zeros = value >> kZerosShift & 7;
  uint64_t number = value & kNumberMask;
  if (kind >= kTime) {
    int base = kind >= kTimeColon ? kTimeColon : kind >= kTimeComma ? kTimeComma : kTime;
    return put_time(number, kind - base, base == kTimeColon ? ':' : base == kTimeComma ? ',' : '.', out);
  }
  if (kind >= kDecimal) {
    int fraction = kind - kDecimal;
    out = put_decimal(number / kPowersOf10[fraction], out);
    *out++ = '.';
    return put_padded(number % kPowersOf10[fraction], fraction, out);
  }
  if (zeros == kSpacePadded) {
    *out++ = ' ';
  } else {
    for (uint64_t i = 0; i < zeros; ++i) *out++ = '0';
  }
  if (kind == kNumber) return put_decimal(number, out);
  return put_hex(number, kind == kHexLower ? "0123456789abcdef" : "0123456789ABCDEF", out);
}

void lex_line(std::string_view data, size_t begin, size_t end, const ClassMap& classes, const LexerOptions& options, Interner& interner,
              std::vector<Slot>& slots) {
  LineLexer(data.substr(begin, end - begin), begin, classes, options, interner, slots).run();
}

void lex_line(std::string_view line, const LexerOptions& options, Interner& interner, std::vector<Slot>& slots) {
  lex_line(line, 0, line.size(), ClassMap(line), options, interner, slots);
}

namespace {

const char* read_digits(const char* at, const char* end, uint64_t& number) {
  number = 0;
  const char* begin = at;
  while (at < end && is_digit(*at)) number = number * 10 + static_cast<uint64_t>(*at++ - '0');
  return at - begin <= kMaxDigits ? at : begin;
}

const char* read_number(const char* at, const char* end, Value& value) {
  if (at < end && *at == ' ') {
    if (end - at < 2 || !is_digit(at[1]) || (end - at > 2 && is_digit(at[2]))) return nullptr;
    value = static_cast<Value>(at[1] - '0') | kSpacePadded << kZerosShift;
    return at + 2;
  }
  const char* begin = at;
  while (at + 1 < end && *at == '0' && is_digit(at[1])) ++at;
  uint64_t zeros = static_cast<uint64_t>(at - begin), number;
  const char* past = read_digits(at, end, number);
  if (past == at || zeros > kMaxZeros) return nullptr;
  value = number | zeros << kZerosShift;
  return past;
}

const char* read_hex(bool lower, const char* at, const char* end, Value& value) {
  const char* begin = at;
  auto is_hex = [lower](char c) { return lower ? is_hex_lower(c) : is_hex_upper(c); };
  while (at + 1 < end && *at == '0' && is_hex(at[1])) ++at;
  uint64_t zeros = static_cast<uint64_t>(at - begin), number = 0;
  const char* first = at;
  for (; at < end && is_hex(*at); ++at) {
    number = number * 16 + static_cast<uint64_t>(is_digit(*at) ? *at - '0' : (*at | 0x20) - 'a' + 10);
    if (at - first >= kMaxHexDigits) return nullptr;
  }
  if (at == first || zeros > kMaxZeros) return nullptr;
  value = number | zeros << kZerosShift;
  return at;
}

const char* read_time(int kind, const char* at, const char* end, Value& value) {
  int base = kind >= kTimeColon ? kTimeColon : kind >= kTimeComma ? kTimeComma : kTime;
  int fraction = kind - base;
  char mark = base == kTimeColon ? ':' : base == kTimeComma ? ',' : '.';
  if (end - at < 8 + (fraction > 0 ? fraction + 1 : 0) || at[2] != ':' || at[5] != ':') return nullptr;
  auto pair = [at](int i) { return static_cast<unsigned>(at[i] - '0') * 10 + static_cast<unsigned>(at[i + 1] - '0'); };
  for (int i : {0, 1, 3, 4, 6, 7})
    if (!is_digit(at[i])) return nullptr;
  if (pair(0) > 23 || pair(3) > 59 || pair(6) > 59) return nullptr;
  uint64_t number = (pair(0) * 60 + pair(3)) * 60 + pair(6);
  at += 8;
  if (fraction > 0 && *at++ != mark) return nullptr;
  for (int i = 0; i < fraction; ++i, ++at) {
    if (!is_digit(*at)) return nullptr;
    number = number * 10 + static_cast<uint64_t>(*at - '0');
  }
  if (at < end && is_digit(*at)) return nullptr;
  value = number;
  return at;
}

const char* read_decimal(int fraction, const char* at, const char* end, Value& value) {
  uint64_t whole, part;
  const char* dot = read_digits(at, end, whole);
  if (dot == at || dot == end || *dot != '.' || (*at == '0' && dot - at > 1)) return nullptr;
  const char* past = read_digits(dot + 1, end, part);
  if (past - (dot + 1) != fraction || dot - at + fraction > kMaxDigits) return nullptr;
  value = whole * kPowersOf10[fraction] + part;
  return past;
}

const char* read_address(const char* at, const char* end, Interner& interner, Value& value) {
  const char* begin = at;
  for (int part = 0; part < 4; ++part) {
    if (part > 0 && (at == end || *at++ != '.')) return nullptr;
    int digits = 0;
    for (; at < end && is_digit(*at); ++at) ++digits;
    if (digits < 1 || digits > 3) return nullptr;
  }
  value = kStringBit | interner.intern({begin, static_cast<size_t>(at - begin)});
  return at;
}

}  // namespace

const char* read_slot(int kind, const char* at, const char* end, Interner& interner, Value& value) {
  if (kind == kNumber) return read_number(at, end, value);
  if (kind >= kTime) return read_time(kind, at, end, value);
  if (kind >= kDecimal) return read_decimal(kind - kDecimal, at, end, value);
  if (kind == kAddress) return read_address(at, end, interner, value);
  return read_hex(kind == kHexLower, at, end, value);
}

}  // namespace slipstick::logs
