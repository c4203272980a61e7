// A small test harness: TEST(name) { ... } registers a case, CHECK... counts a failure and goes on, main() runs all cases or those named in
// the arguments. Any failure, an escaped exception, or no case at all gives exit status 1.
#pragma once
#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "slipstick/error.h"

namespace check {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int failures = 0;

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  ++failures;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <typename A, typename B>
void equal(const A& got, const B& want, const char* text, const char* file, int line) {
  if (got == want) return;
  std::ostringstream message;
  message << text << " is " << got << "; expected " << want;
  fail(file, line, message.str());
}

// Runs `call`, which must throw slipstick::Error of this kind with `part` in its message.
template <typename Call>
void throws(Call call, slipstick::ErrorKind kind, const char* part, const char* file, int line) {
  try {
    call();
  } catch (const slipstick::Error& error) {
    if (error.kind() != kind) fail(file, line, std::string("another kind of error: ") + error.what());
    if (!std::strstr(error.what(), part)) fail(file, line, std::string("message '") + error.what() + "' lacks '" + part + "'");
    return;
  }
  fail(file, line, std::string("no error; expected one with '") + part + "'");
}

inline int run(int argc, char** argv) {
  int ran = 0;
  for (const Case& test : cases()) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted = wanted || !std::strcmp(argv[i], test.name);
    if (!wanted) continue;
    const int before = failures;
    try {
      test.run();
    } catch (const std::exception& error) {
      fail(test.name, 0, std::string("exception: ") + error.what());
    }
    std::printf("%-6s %s\n", failures == before ? "ok" : "FAILED", test.name);
    std::fflush(stdout);
    ++ran;
  }
  std::printf("%d cases, %d failures\n", ran, failures);
  return ran == 0 || failures != 0;
}

}  // namespace check

#define TEST(name)                                           \
  static void name();                                        \
  static const check::Register register_##name(#name, name); \
  static void name()
#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) check::fail(__FILE__, __LINE__, "not true: " #condition); \
  } while (false)
#define CHECK_EQUAL(got, want) check::equal((got), (want), #got, __FILE__, __LINE__)
#define CHECK_THROWS(statement, kind, part) check::throws([&] { statement; }, slipstick::ErrorKind::kind, part, __FILE__, __LINE__)

int main(int argc, char** argv) { return check::run(argc, argv); }
