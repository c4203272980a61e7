// Long repeats: see repeats.h. A table knows the hash of every whole chunk; a rolling hash of as many bytes asks for it at every byte
// (Karp and Rabin 1987; chunks as in rsync), and what it finds is compared and made as long as it is.

#include "logs/repeats.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "logs/bytes.h"

namespace slipstick::logs {
namespace {

constexpr size_t kChunk = kSureRepeat / 2;   // a repeat of two chunks has a whole one in it
constexpr int kTableBits = 14;               // for the 8704 chunks of a block and what stands before it
constexpr uint64_t kFactor = 0x9E3779B97F4A7C15u;
constexpr size_t kMaxFalse = 1000;           // equal hashes of other bytes are no accident: the search is given up

uint64_t hash_of(const char* chunk) {
  uint64_t hash = 0;
  for (size_t i = 0; i < kChunk; ++i) hash = hash * kFactor + static_cast<unsigned char>(chunk[i]);
  return hash;
}

constexpr uint64_t factor_of_first() {
  uint64_t factor = 1;
  for (size_t i = 1; i < kChunk; ++i) factor *= kFactor;
  return factor;
}

size_t equal_bytes(std::string_view text, size_t a, size_t b) {
  const size_t from = b;
  for (; b + 8 <= text.size() && load64(text.data() + a) == load64(text.data() + b); b += 8) a += 8;
  for (; b < text.size() && text[a] == text[b]; ++b) ++a;
  return b - from;
}

class Chunks {
 public:
  explicit Chunks(std::string_view text) : text_(text), entries_(size_t{1} << kTableBits) {}
  // Takes up the chunks that begin before `at`.
  void advance(size_t at) {
    for (; next_ < at && next_ + kChunk <= text_.size(); next_ += kChunk) {
      const uint64_t hash = hash_of(text_.data() + next_);
      entry(hash) = {hash, next_ + 1};
    }
  }
  // Where a chunk of this hash begins, or `none`.
  static constexpr size_t none = SIZE_MAX;
  size_t find(uint64_t hash) {
    const Entry& found = entry(hash);
    return found.hash == hash && found.behind != 0 ? found.behind - 1 : none;
  }

 private:
  struct Entry {
    uint64_t hash = 0;
    size_t behind = 0;   // where the chunk begins, plus 1
  };
  Entry& entry(uint64_t hash) { return entries_[(hash * kFactor) >> (64 - kTableBits)]; }
  std::string_view text_;
  std::vector<Entry> entries_;
  size_t next_ = 0;
};

}  // namespace

std::vector<Repeat> find_repeats(std::string_view text, size_t begin) {
  std::vector<Repeat> repeats;
  Chunks chunks(text);
  constexpr uint64_t kFirst = factor_of_first();
  size_t behind = begin, at = begin, falses = 0;   // `behind`: the end of the last repeat
  while (at + kChunk <= text.size() && falses < kMaxFalse) {
    uint64_t hash = hash_of(text.data() + at);
    for (bool rolls = true; rolls;) {
      chunks.advance(at);
      const size_t source = chunks.find(hash);
      if (source != Chunks::none) {
        size_t length = equal_bytes(text, source, at);
        if (length >= kChunk) {
          size_t back = 0;
          while (at - back > behind && source > back && text[source - back - 1] == text[at - back - 1]) ++back;
          repeats.push_back({at - back, length + back, at - source});
          behind = at += length;
          break;
        }
        if (++falses == kMaxFalse) break;
      }
      rolls = at + kChunk < text.size();
      if (rolls) hash = (hash - static_cast<unsigned char>(text[at]) * kFirst) * kFactor + static_cast<unsigned char>(text[at + kChunk]);
      ++at;
    }
  }
  return repeats;
}

}  // namespace slipstick::logs
