// The time that a line of a log tells, whatever the format. Times are as they are written: no zone is looked at, and a
// number of seconds since 1970 stands for its UTC time. Used by searches only; the coders have times of their own.
#pragma once

#include <cstdint>
#include <string_view>

namespace slipstick::logs {

// Microseconds since 1970-01-01 00:00:00. Times without a year, as syslog writes them, are in the year 0.
using Microseconds = int64_t;
constexpr Microseconds kNoTime = INT64_MIN;
constexpr Microseconds kYearOne = INT64_C(-62135596800) * 1000000;
inline bool has_year(Microseconds time) { return time >= kYearOne; }

// The first time in the first 64 bytes of a line, or kNoTime.
Microseconds line_time(std::string_view line);

// What a user wrote: any time that line_time reads, and also a date alone, a time without seconds, and seconds since 1970.
// Throws Error{invalid_argument} for anything else.
Microseconds parse_time(std::string_view text);

// `time` as it compares with the times of a log without years.
Microseconds without_year(Microseconds time);

}  // namespace slipstick::logs
