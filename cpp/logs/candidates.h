// Candidates under the level `max`: what the next value may be, by what followed each of many contexts before, and one
// mixed decision for each until the value is found.
#pragma once

#include <cstdint>
#include <vector>

#include "base/large_pages.h"
#include "logs/guesses.h"
#include "logs/mixing.h"

namespace slipstick::logs {

// The last two different values seen under a context, and how the first and the second did lately.
struct Memory {
  Value value[2] = {kNoValue, kNoValue};
  uint32_t check = 0;
  uint8_t history = 0;          // as in Guess; of the second: outcomes where the first was wrong
  uint8_t second_history = 0;
};

inline void settle(Memory& memory, Value value) {
  bool hit = memory.value[0] == value;
  memory.history = static_cast<uint8_t>(push_outcome(memory.history, hit));
  if (hit) return;
  memory.second_history =
      memory.value[1] == kNoValue ? uint8_t{0} : static_cast<uint8_t>(push_outcome(memory.second_history, memory.value[1] == value));
  if (memory.second_history == 0) memory.second_history = 1;
  memory.value[1] = memory.value[0];
  memory.value[0] = value;
}

class MemoryTable {
 public:
  explicit MemoryTable(int bits) : memories_(size_t{1} << bits), mask_((size_t{1} << bits) - 1) {}

  Memory& find(uint64_t hash) {
    Memory& memory = memories_[hash & mask_];
    uint32_t check = static_cast<uint32_t>(hash >> 32);
    if (memory.check != check) {
      memory = Memory();
      memory.check = check;
    }
    return memory;
  }
  void prefetch(uint64_t hash) const { __builtin_prefetch(&memories_[hash & mask_]); }

 private:
  LargeTable<Memory> memories_;
  size_t mask_;
};

// The seven bits of three binary decisions under a context: half a cache line, so that a context is looked up once.
struct BitGroup {
  uint32_t check = 0;
  Bit bits[7];
  Bit& at(uint32_t node) { return bits[node - 1]; }   // 1 to 7
};

// Groups by hash of their context; one that another displaced starts anew.
class GroupTable {
 public:
  explicit GroupTable(int bits) : groups_(size_t{1} << bits), mask_((size_t{1} << bits) - 1) {}

  void find(const uint64_t* hashes, int count, BitGroup** found) {
    for (int i = 0; i < count; ++i) __builtin_prefetch(&groups_[hashes[i] & mask_]);
    for (int i = 0; i < count; ++i) {
      found[i] = &groups_[hashes[i] & mask_];
      uint32_t check = static_cast<uint32_t>(hashes[i] >> 32);
      if (found[i]->check == check) continue;
      *found[i] = BitGroup();
      found[i]->check = check;
    }
  }

 private:
  LargeTable<BitGroup> groups_;
  size_t mask_;
};

constexpr int kMaxSources = 24;   // memories asked for one value

// What a source says of a candidate: it is its first value, its second, or neither, and how the source did lately.
constexpr int kVoteStates = 48;
inline int vote_state(const Memory& memory, Value candidate) {
  if (memory.value[0] == candidate) return memory.history;
  if (memory.value[1] == candidate) return 16 + memory.second_history;
  return 32 + memory.history;
}

// How far each source is right, by its state: for one column, or for all of them.
struct SourceTrust {
  std::vector<Bit> bits;
  explicit SourceTrust(int sources) : bits(static_cast<size_t>(sources) * kVoteStates) {}
  Bit& of(int source, int state) { return bits[static_cast<size_t>(source * kVoteStates + state)]; }
};

// `own`, leaning on `general` while it is young. Of 2^22.
inline uint32_t blend(Bit own, Bit general) {
  if (own.count >= kMature) return own.one;
  int64_t difference = static_cast<int64_t>(own.one) - static_cast<int64_t>(general.one);
  return static_cast<uint32_t>(static_cast<int64_t>(general.one) + (difference * kBitTables.weight[own.count] >> 16));
}

// The distinct candidates of the sources, the most likely first.
class Ranking {
 public:
  void fill(Memory* const* sources, int count, SourceTrust& own, SourceTrust& general) {
    count_ = 0;
    for (int i = 0; i < count; ++i) {
      const Memory& memory = *sources[i];
      if (memory.history == 0) continue;
      add(memory.value[0], blend(own.of(i, memory.history), general.of(i, memory.history)));
      if (memory.value[1] != kNoValue) {
        int state = 16 + memory.second_history;
        add(memory.value[1], blend(own.of(i, state), general.of(i, state)));
      }
    }
    std::stable_sort(entries_, entries_ + count_, [](const Entry& a, const Entry& b) { return a.score > b.score; });
  }
  int count() const { return count_; }
  Value value(int rank) const { return entries_[rank].value; }
  uint32_t score(int rank) const { return entries_[rank].score; }

 private:
  struct Entry {
    Value value;
    uint32_t score;
  };
  void add(Value value, uint32_t one) {
    if (value == kNoValue) return;
    for (int i = 0; i < count_; ++i) {
      if (entries_[i].value != value) continue;
      // Every vote takes a third of the remaining doubt.
      uint32_t more = std::max(entries_[i].score, one), less = std::min(entries_[i].score, one);
      entries_[i].score = more + static_cast<uint32_t>(static_cast<uint64_t>((1u << 22) - more) * less / 3 >> 22);
      return;
    }
    if (count_ < 2 * kMaxSources) entries_[count_++] = {value, one};
  }
  Entry entries_[2 * kMaxSources];
  int count_ = 0;
};

}  // namespace slipstick::logs
