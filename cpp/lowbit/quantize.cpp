// The entry points for whole arrays of one format: quantize, encode, decode, and packed codes.
#include <algorithm>
#include <atomic>

#include "lowbit/elements.h"
#include "slipstick/error.h"
#include "slipstick/threads.h"

namespace slipstick::lowbit {

void quantize(const Format& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* y, int64_t count,
              int threads) {
  check_request("quantize", format, random, dtype, count);
  for_each_task(count, threads, [&](int64_t first, int64_t end) {
    if (dtype == Dtype::float32) {
      const bool past_caches = x != y && count * 4 > kCachedBytes;
      round_block(format, rounding, random, static_cast<const float*>(x) + first, static_cast<float*>(y) + first, first, end - first,
                  past_caches);
      return;
    }
    float block[kBlock];
    for (int64_t start = first; start < end; start += kBlock) {
      const int64_t length = std::min(kBlock, end - start);
      round_block(format, rounding, random, load_block(dtype, x, start, length, block), block, start, length);
      store_block(dtype, block, y, start, length);
    }
  });
}

void encode(const Format& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* codes, int64_t count,
            int threads) {
  check_request("encode", format, random, dtype, count);
  std::atomic<int64_t> nan{0};
  for_each_task(count, threads, [&](int64_t first, int64_t end) {
    float block[kBlock];
    for (int64_t start = first; start < end; start += kBlock) {
      const int64_t length = std::min(kBlock, end - start);
      unsigned char* to = static_cast<unsigned char*>(codes) + start * format.code_bytes();
      nan += encode_block(format, rounding, random, load_block(dtype, x, start, length, block), to, start, length);
    }
  });
  if (nan > 0 && !format.has_nan())
    throw Error(ErrorKind::invalid_argument, "encode: x holds NaN (" + std::to_string(nan) + " times), which the format has no code for");
}

void decode(const Format& format, const void* codes, Dtype dtype, void* y, int64_t count, int threads) {
  check_request("decode", format, Random{}, Dtype::float32, count);
  for_each_task(count, threads, [&](int64_t first, int64_t end) {
    const unsigned char* from = static_cast<const unsigned char*>(codes);
    if (dtype == Dtype::float32) {
      decode_block(format, from + first * format.code_bytes(), static_cast<float*>(y) + first, end - first, count * 4 > kCachedBytes);
      return;
    }
    float block[kBlock];
    for (int64_t start = first; start < end; start += kBlock) {
      const int64_t length = std::min(kBlock, end - start);
      decode_block(format, from + start * format.code_bytes(), block, length);
      store_block(dtype, block, y, start, length);
    }
  });
}

// ---- packed codes ---------------------------------------------------------------------------------------------------------------------------

namespace {

void check_packed(const char* where, int64_t count, int bits) {
  const std::string name(where);
  if (bits < 1 || bits > 8) throw Error(ErrorKind::invalid_argument, name + ": bits is " + std::to_string(bits) + "; expected 1 to 8");
  if (count < 0) throw Error(ErrorKind::invalid_argument, name + ": count is " + std::to_string(count) + "; expected 0 or more");
}

// Eight codes are `bits` whole bytes, which fit one word.
constexpr int64_t kGroup = 8;

}  // namespace

int64_t packed_bytes(int64_t count, int bits) {
  check_packed("packed_bytes", count, bits);
  return count / kGroup * bits + (count % kGroup * bits + 7) / 8;
}

void pack(const uint8_t* codes, uint8_t* packed, int64_t count, int bits, int threads) {
  check_packed("pack", count, bits);
  const uint64_t mask = (1u << bits) - 1;
  for_each_task(count, threads, [&](int64_t first, int64_t end) {
    uint8_t* to = packed + first / kGroup * bits;
    for (int64_t start = first; start < end; start += kGroup) {
      const int64_t length = std::min(kGroup, end - start);
      uint64_t word = 0;
      for (int64_t i = 0; i < length; ++i) word |= (codes[start + i] & mask) << (i * bits);
      for (int64_t byte = 0; byte * 8 < length * bits; ++byte) *to++ = static_cast<uint8_t>(word >> (8 * byte));
    }
  });
}

void unpack(const uint8_t* packed, uint8_t* codes, int64_t count, int bits, int threads) {
  check_packed("unpack", count, bits);
  const uint64_t mask = (1u << bits) - 1;
  for_each_task(count, threads, [&](int64_t first, int64_t end) {
    const uint8_t* from = packed + first / kGroup * bits;
    for (int64_t start = first; start < end; start += kGroup) {
      const int64_t length = std::min(kGroup, end - start);
      uint64_t word = 0;
      for (int64_t byte = 0; byte * 8 < length * bits; ++byte) word |= uint64_t{*from++} << (8 * byte);
      for (int64_t i = 0; i < length; ++i) codes[start + i] = static_cast<uint8_t>((word >> (i * bits)) & mask);
    }
  });
}

}  // namespace slipstick::lowbit
