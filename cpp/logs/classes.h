// Which bytes of a block are what: one bit a byte, so that the lexer jumps from number to number and line to line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/kernel_table.h"

namespace slipstick::logs {

// The classes of 64 bytes; the first byte is the lowest bit. Bytes past the text's end are of no class.
struct ByteClasses {
  uint64_t word;    // letters, digits, '_' and bytes above 127
  uint64_t digit;
  uint64_t feed;    // line feeds
  uint64_t quote;   // '"'
  uint64_t nul;
};

struct ClassKernels {
  const char* isa;
  // Classifies `size` bytes into (size + 63) / 64 groups. Exact, hence equal on every level.
  void (*classify)(const char* text, int64_t size, ByteClasses* groups);
};
SLIPSTICK_DECLARE_KERNELS(ClassKernels, class_kernels)

class ClassMap {
 public:
  ClassMap() = default;
  explicit ClassMap(std::string_view text) { assign(text); }
  void assign(std::string_view text) {
    groups_.resize((text.size() + 63) / 64);
    active_class_kernels().classify(text.data(), static_cast<int64_t>(text.size()), groups_.data());
  }

  // The first byte of a class at or after `at` and before `end`, or `end`.
  template <class Get>
  size_t next(size_t at, size_t end, Get get) const {
    if (at >= end) return end;
    size_t group = at / 64;
    uint64_t bits = get(groups_[group]) & (~uint64_t{0} << (at % 64));
    while (bits == 0) {
      if (++group * 64 >= end) return end;
      bits = get(groups_[group]);
    }
    size_t found = group * 64 + static_cast<size_t>(__builtin_ctzll(bits));
    return found < end ? found : end;
  }
  // The beginning of the run of word bytes that `at` is in, not before `from`.
  size_t word_begin(size_t at, size_t from) const {
    size_t group = at / 64;
    uint64_t gaps = ~groups_[group].word & ~(~uint64_t{0} << (at % 64));
    while (gaps == 0) {
      if (group * 64 <= from) return from;
      gaps = ~groups_[--group].word;
    }
    size_t begin = group * 64 + 64 - static_cast<size_t>(__builtin_clzll(gaps));
    return begin > from ? begin : from;
  }
  bool any_nul(size_t begin, size_t end) const {
    return next(begin, end, [](const ByteClasses& c) { return c.nul; }) != end;
  }

 private:
  std::vector<ByteClasses> groups_;
};

}  // namespace slipstick::logs
