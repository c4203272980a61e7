// Bitmaps of 64-byte groups: one bit a byte, the first byte lowest, telling which bytes are equal to a value, within a range or of a class.
// A scanner then walks text by the set bits of 64-bit words instead of byte by byte. Exact, hence equal on every level.
#pragma once
#include "simd/vec.h"

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

struct Bytes64 {
  static constexpr int kParts = 64 / static_cast<int>(U8::lanes);
  U8 part[kParts];

  static Bytes64 load(const uint8_t* p) {
    Bytes64 r;
    for (int i = 0; i < kParts; ++i) r.part[i] = U8::load(p + i * U8::lanes);
    return r;
  }
  // The first n bytes, n clamped to 0..64; the others are fill. Reads nothing beyond.
  static Bytes64 load_first(const uint8_t* p, int64_t n, uint8_t fill) {
    Bytes64 r;
    for (int i = 0; i < kParts; ++i) {
      const int64_t start = i * U8::lanes;
      r.part[i] = n > start ? U8::load_first(p + start, n - start, fill) : U8::all(fill);
    }
    return r;
  }
};

// The bytes for which test(U8) gives a set mask.
template <typename Test> uint64_t bitmap_where(const Bytes64& bytes, Test test) {
  uint64_t map = 0;
  for (int i = 0; i < Bytes64::kParts; ++i) map |= bits(test(bytes.part[i])) << (i * U8::lanes);
  return map;
}

inline uint64_t bitmap_equal(const Bytes64& bytes, uint8_t value) {
  const U8 wanted = U8::all(value);
  return bitmap_where(bytes, [wanted](U8 x) { return x == wanted; });
}

// first <= byte <= last, unsigned; first must not exceed last.
inline uint64_t bitmap_range(const Bytes64& bytes, uint8_t first, uint8_t last) {
  const U8 origin = U8::all(first), width = U8::all(static_cast<uint8_t>(last - first));
  return bitmap_where(bytes, [origin, width](U8 x) {
    const U8 offset = x - origin;  // wraps, so bytes below first are far above last
    return min(offset, width) == offset;
  });
}

// Letters A-Z and a-z.
inline uint64_t bitmap_letters(const Bytes64& bytes) {
  const U8 lower_case = U8::all(0x20), origin = U8::all('a'), width = U8::all('z' - 'a');
  return bitmap_where(bytes, [=](U8 x) {
    const U8 offset = (x | lower_case) - origin;
    return min(offset, width) == offset;
  });
}

inline uint64_t bitmap_digits(const Bytes64& bytes) { return bitmap_range(bytes, '0', '9'); }

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
