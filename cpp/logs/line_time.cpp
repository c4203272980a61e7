// Times in the shapes that logs have: see line_time.h.

#include "logs/line_time.h"

#include <algorithm>
#include <string>

#include "slipstick/error.h"

namespace slipstick::logs {
namespace {

constexpr size_t kLookedAt = 64;
constexpr Microseconds kSecond = 1000000, kDay = 86400 * kSecond;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_one_of(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

// Days since 1970-01-01 of a date of the Gregorian calendar: https://howardhinnant.github.io/date_algorithms.html
int64_t days_from_civil(int64_t year, unsigned month, unsigned day) {
  year -= month <= 2;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const unsigned year_of_era = static_cast<unsigned>(year - era * 400);
  const unsigned day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + static_cast<int64_t>(year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year) - 719468;
}

int64_t day_of(Microseconds time) { return time / kDay - (time % kDay < 0); }

int64_t year_of(Microseconds time) {
  const int64_t days = day_of(time);
  int64_t year = 1970 + days * 400 / 146097;
  while (days < days_from_civil(year, 1, 1)) --year;
  while (days >= days_from_civil(year + 1, 1, 1)) ++year;
  return year;
}

// Reads from the front of a text; a step that fails leaves `ok` false and does no harm.
struct Reader {
  std::string_view text;
  size_t at = 0;
  bool ok = true;
  bool calendar = false;   // refuse the 30th of February: not of lines, whose times are in the records of archives

  char peek(size_t ahead = 0) const { return at + ahead < text.size() ? text[at + ahead] : '\0'; }
  size_t digits(size_t most) const {
    size_t count = 0;
    while (count < most && is_digit(peek(count))) ++count;
    return count;
  }
  int64_t number(size_t size) {
    int64_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      if (!is_digit(peek(i))) ok = false;
      value = value * 10 + (peek(i) - '0');
    }
    if (!ok) return 0;
    at += size;
    return value;
  }
  char one_of(std::string_view set) {
    char c = peek();
    if (c == '\0' || !is_one_of(c, set)) {
      ok = false;
      return '\0';
    }
    ++at;
    return c;
  }
  unsigned month_name() {
    static constexpr std::string_view kNames = "JanFebMarAprMayJunJulAugSepOctNovDec";
    size_t found = at + 3 <= text.size() ? kNames.find(text.substr(at, 3)) : std::string_view::npos;
    if (found == std::string_view::npos || found % 3 != 0) {
      ok = false;
      return 0;
    }
    at += 3;
    return static_cast<unsigned>(found / 3 + 1);
  }
  // A fraction of a second, cut to microseconds.
  Microseconds fraction() {
    Microseconds micros = 0, unit = kSecond;
    for (; is_digit(peek()); ++at) micros += (unit /= 10) * (peek() - '0');
    return micros;
  }
};

// hh:mm:ss and perhaps a fraction; loosely also hh:mm.
Microseconds clock(Reader& in, bool loose) {
  int64_t hour = in.number(2);
  in.one_of(":.");
  int64_t minute = in.number(2), second = 0;
  Microseconds fraction = 0;
  if (in.ok && !(loose && in.at == in.text.size())) {
    in.one_of(":.");
    second = in.number(2);
    if (in.ok && is_one_of(in.peek(), ".,:") && is_digit(in.peek(1))) {
      ++in.at;
      fraction = in.fraction();
    }
  }
  in.ok = in.ok && hour <= 24 && minute < 60 && second <= 60;
  return ((hour * 60 + minute) * 60 + second) * kSecond + fraction;
}

Microseconds date(Reader& in, int64_t year, int64_t month, int64_t day) {
  in.ok = in.ok && month >= 1 && month <= 12 && day >= 1 && day <= 31;
  if (!in.ok) return kNoTime;
  const int64_t days = days_from_civil(year, static_cast<unsigned>(month), static_cast<unsigned>(day));
  const int64_t next_month = days_from_civil(year + month / 12, static_cast<unsigned>(month % 12 + 1), 1);
  in.ok = !in.calendar || days < next_month;
  return days * kDay;
}

int64_t century(int64_t year) { return year + (year < 70 ? 2000 : 1900); }

// A date and a time that begin with a digit. `loose`: a date alone will do.
Microseconds numeric_date(Reader& in, bool loose) {
  const size_t digits = in.digits(9);
  Microseconds day = kNoTime;
  if (digits == 4) {
    int64_t year = in.number(4);
    char mark = in.one_of("-/.");
    int64_t month = in.number(2);
    in.ok = in.ok && in.peek() == mark;
    ++in.at;
    day = date(in, year, month, in.number(2));
  } else if (digits == 8) {
    int64_t year = in.number(4), month = in.number(2);
    day = date(in, year, month, in.number(2));
  } else if (digits == 6) {   // 081109 203615
    int64_t year = in.number(2), month = in.number(2);
    day = date(in, century(year), month, in.number(2));
    in.one_of(" ");
    int64_t hour = in.number(2), minute = in.number(2), second = in.number(2);
    in.ok = in.ok && hour < 24 && minute < 60 && second <= 60 && !is_digit(in.peek());
    return in.ok ? day + ((hour * 60 + minute) * 60 + second) * kSecond : kNoTime;
  } else if (digits == 2) {
    int64_t first = in.number(2);
    char mark = in.one_of("-/.");
    if (mark == '/' && !is_digit(in.peek())) {   // 10/Oct/2000:13:55:36
      unsigned month = in.month_name();
      in.one_of("/");
      day = date(in, in.number(4), month, first);
    } else if (mark == '/') {   // 17/06/09 20:10:40
      int64_t month = in.number(2);
      in.one_of("/");
      day = date(in, century(first), month, in.number(2));
    } else {   // 03-17 16:13:38.811
      day = date(in, 0, first, in.number(2));
    }
  } else {
    in.ok = false;
  }
  if (!in.ok || (loose && in.at == in.text.size())) return in.ok ? day : kNoTime;
  in.one_of("T _:-\t");
  Microseconds time = clock(in, loose);
  return in.ok ? day + time : kNoTime;
}

// Jun 14 15:16:01, and perhaps a year behind it.
Microseconds named_date(Reader& in, bool loose) {
  unsigned month = in.month_name();
  in.one_of(" ");
  if (in.peek() == ' ') ++in.at;
  int64_t day = in.number(std::max<size_t>(1, in.digits(2)));
  Microseconds time = 0;
  if (!loose || in.at < in.text.size()) {
    in.one_of(" ");
    time = clock(in, loose);
  }
  int64_t year = 0;
  if (in.ok && in.peek() == ' ') {
    Reader behind = in;
    ++behind.at;
    if (behind.digits(5) == 4) year = behind.number(4);
    if (year >= 1900 && year < 2100) {
      in.at = behind.at;
    } else {
      year = 0;
    }
  }
  Microseconds start = date(in, year, month, day);
  return in.ok ? start + time : kNoTime;
}

// Seconds since 1970, of 10 digits, perhaps with a fraction; or milliseconds, of 13.
Microseconds epoch(Reader& in) {
  const size_t digits = in.digits(14);
  if (digits == 13) return in.number(13) * 1000;
  if (digits != 10) return kNoTime;
  Microseconds time = in.number(10) * kSecond;
  if (in.peek() == '.' && is_digit(in.peek(1))) {
    ++in.at;
    time += in.fraction();
  }
  return time;
}

bool begins_token(std::string_view line, size_t at) { return at == 0 || is_one_of(line[at - 1], " \t[(\"'|=<"); }

}  // namespace

Microseconds line_time(std::string_view line) {
  const size_t end = std::min(line.size(), kLookedAt);
  for (size_t at = 0; at < end; ++at) {
    char c = line[at];
    bool digit = is_digit(c);
    if ((!digit && (c < 'A' || c > 'S')) || !begins_token(line, at)) continue;
    Reader in{line, at};
    Microseconds time = digit ? numeric_date(in, false) : named_date(in, false);
    if (time != kNoTime) return time;
  }
  for (size_t at = 0, tokens = 0; at < end && tokens < 3; ++at) {   // near the beginning: elsewhere it is any number
    if (!begins_token(line, at)) continue;
    ++tokens;
    Reader in{line, at};
    Microseconds time = is_digit(line[at]) ? epoch(in) : kNoTime;
    if (time != kNoTime && in.peek() != '-') return time;
  }
  return kNoTime;
}

Microseconds parse_time(std::string_view text) {
  for (int form = 0; form < 3; ++form) {
    Reader in{text};
    in.calendar = true;
    Microseconds time = form == 0 ? numeric_date(in, true) : form == 1 ? named_date(in, true) : epoch(in);
    if (time != kNoTime && in.ok && (in.at == text.size() || text.substr(in.at) == "Z")) return time;
  }
  throw Error(ErrorKind::invalid_argument, "time is '" + std::string(text) +
                                               "'; expected one such as '2024-05-01 12:00:00', '2024-05-01', 'May 1 12:00' or "
                                               "1714564800 (seconds since 1970)");
}

Microseconds without_year(Microseconds time) {
  if (!has_year(time)) return time;
  const int64_t year = year_of(time), day = day_of(time);
  int64_t days = day - days_from_civil(year, 1, 1);
  // From March on a common year is a day short of the year 0, which is a leap year.
  bool leap = days_from_civil(year, 3, 1) - days_from_civil(year, 1, 1) == 60;
  if (!leap && days >= 59) ++days;
  return days_from_civil(0, 1, 1) * kDay + days * kDay + (time - day * kDay);
}

}  // namespace slipstick::logs
