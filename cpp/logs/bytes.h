// Reading and writing the container's integers, with every length checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "logs/hash.h"
#include "slipstick/error.h"

namespace slipstick::logs {

// LEB128: 7 bits a byte, lowest first, at most 10 bytes.
inline void put_varint(std::string& out, uint64_t value) {
  while (value >= 128) {
    out.push_back(static_cast<char>(value | 128));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

inline void put_fixed(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

// Whether `size` bytes are equal. Most texts that are compared are short: no call for those.
inline bool same_bytes(const char* a, const char* b, size_t size) {
  if (size > 16) return std::memcmp(a, b, size) == 0;
  if (size >= 8) return ((load64(a) ^ load64(b)) | (load64(a + size - 8) ^ load64(b + size - 8))) == 0;
  if (size >= 4) return ((load32(a) ^ load32(b)) | (load32(a + size - 4) ^ load32(b + size - 4))) == 0;
  for (size_t i = 0; i < size; ++i)
    if (a[i] != b[i]) return false;
  return true;
}

// The data end before what was to be read. A stream reader waits for more; elsewhere it is damage.
class ShortInput : public Error {
 public:
  explicit ShortInput(size_t at) : Error(ErrorKind::corrupt_data, "archive: data ends early, at byte " + std::to_string(at)) {}
};

// Reads from a buffer; past its end it throws ShortInput.
class ByteReader {
 public:
  explicit ByteReader(std::string_view data, size_t at = 0) : data_(data), at_(at) {}

  uint8_t byte() {
    if (at_ >= data_.size()) throw ShortInput(at_);
    return static_cast<uint8_t>(data_[at_++]);
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      uint8_t next = byte();
      value |= static_cast<uint64_t>(next & 127) << shift;
      if (next < 128) {
        if (shift == 63 && next > 1) fail("has a number of more than 64 bits");
        return value;
      }
    }
    fail("has a number of more than 64 bits");
  }
  uint64_t fixed(int bytes) {
    std::string_view got = take(static_cast<uint64_t>(bytes));
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(static_cast<uint8_t>(got[static_cast<size_t>(i)])) << (8 * i);
    return value;
  }
  std::string_view take(uint64_t size) {
    if (size > data_.size() - at_) throw ShortInput(data_.size());
    std::string_view got = data_.substr(at_, size);
    at_ += size;
    return got;
  }
  size_t at() const { return at_; }
  bool done() const { return at_ == data_.size(); }

  [[noreturn]] void fail(const char* what) const {
    throw Error(ErrorKind::corrupt_data, std::string("archive: data ") + what + " at byte " + std::to_string(at_));
  }

 private:
  std::string_view data_;
  size_t at_;
};

}  // namespace slipstick::logs
