// Hashes of the logs room. hash_bytes and mix serve tables in memory only; hash64 (XXH64, by its public
// specification) is the checksum written into archives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace slipstick::logs {

inline uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15u;
  x ^= x >> 29;
  return x;
}

inline uint64_t combine(uint64_t hash, uint64_t x) { return mix((hash ^ x) * 0xD6E8FEB86659FD93u + x); }

inline uint64_t load64(const void* from) {
  uint64_t x;
  std::memcpy(&x, from, 8);
  return x;
}

inline uint32_t load32(const void* from) {
  uint32_t x;
  std::memcpy(&x, from, 4);
  return x;
}

inline uint64_t hash_bytes(const char* data, size_t size) {
  uint64_t hash = size * 0x9E3779B97F4A7C15u;
  while (size >= 8) {
    hash = (hash ^ load64(data)) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
    data += 8;
    size -= 8;
  }
  uint64_t rest = 0;
  if (size >= 4) {
    rest = load32(data) | static_cast<uint64_t>(load32(data + size - 4)) << 32;
  } else if (size > 0) {
    rest = static_cast<unsigned char>(data[0]) | static_cast<uint64_t>(static_cast<unsigned char>(data[size / 2])) << 8 |
           static_cast<uint64_t>(static_cast<unsigned char>(data[size - 1])) << 16;
  }
  hash = (hash ^ rest) * 0xD6E8FEB86659FD93u;
  return mix(hash);
}

uint64_t hash64(const void* data, size_t size);

}  // namespace slipstick::logs
