// Strings by number: every distinct string of a block is stored once and known by its id.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "logs/hash.h"

namespace slipstick::logs {

class Interner {
 public:
  Interner() : table_(1024, 0), mask_(1023) {}

  // The id of `text`; the same for equal texts. Texts get ids 0, 1, 2, ... in order of first sight.
  uint32_t intern(std::string_view text) {
    uint64_t hash = hash_bytes(text.data(), text.size());
    uint32_t tag = static_cast<uint32_t>(hash >> 32);
    size_t at = hash & mask_;
    while (uint32_t entry = table_[at]) {
      uint32_t id = entry - 1;
      if (tags_[id] == tag && texts_[id] == text) return id;
      at = (at + 1) & mask_;
    }
    uint32_t id = static_cast<uint32_t>(texts_.size());
    texts_.push_back(text);
    tags_.push_back(tag);
    table_[at] = id + 1;
    if (texts_.size() * 2 > mask_) grow();
    return id;
  }
  // The stored text must outlive the interner's use; the block's raw bytes do.
  std::string_view text(uint32_t id) const { return texts_[id]; }
  size_t size() const { return texts_.size(); }

 private:
  void grow() {
    mask_ = mask_ * 2 + 1;
    table_.assign(mask_ + 1, 0);
    for (uint32_t id = 0; id < texts_.size(); ++id) {
      uint64_t hash = hash_bytes(texts_[id].data(), texts_[id].size());
      size_t at = hash & mask_;
      while (table_[at]) at = (at + 1) & mask_;
      table_[at] = id + 1;
    }
  }

  std::vector<std::string_view> texts_;
  std::vector<uint32_t> tags_;
  std::vector<uint32_t> table_;
  size_t mask_;
};

}  // namespace slipstick::logs
