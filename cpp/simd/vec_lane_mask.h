// Masks of the levels that have no mask registers (v2, v3, neon): one lane of all ones or all zeros for each element. Included by their headers.
#pragma once

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

// Of elements of `bytes` bytes each; only 1, 4 and 8 occur.
template <int bytes> struct Mask;
template <> struct Mask<1> {
  U8 lanes;
};
template <> struct Mask<4> {
  U32 lanes;
};
template <> struct Mask<8> {
  U64 lanes;
};
using Mask8 = Mask<1>;
using Mask32 = Mask<4>;
using Mask64 = Mask<8>;

template <int bytes> Mask<bytes> operator&(Mask<bytes> a, Mask<bytes> b) { return {a.lanes & b.lanes}; }
template <int bytes> Mask<bytes> operator|(Mask<bytes> a, Mask<bytes> b) { return {a.lanes | b.lanes}; }
template <int bytes> Mask<bytes> operator^(Mask<bytes> a, Mask<bytes> b) { return {a.lanes ^ b.lanes}; }
template <int bytes> Mask<bytes> operator~(Mask<bytes> a) { return {~a.lanes}; }

template <typename T> using MaskOf = Mask<static_cast<int>(sizeof(T))>;
template <typename T> using BitsOf = Vec<typename ElementTraits<T>::Bits>;

template <typename T> MaskOf<T> operator==(Vec<T> a, Vec<T> b) { return {BitsOf<T>{(typename BitsOf<T>::Lanes)(a.v == b.v)}}; }
template <typename T> MaskOf<T> operator!=(Vec<T> a, Vec<T> b) { return {BitsOf<T>{(typename BitsOf<T>::Lanes)(a.v != b.v)}}; }
template <typename T> MaskOf<T> operator<(Vec<T> a, Vec<T> b) { return {BitsOf<T>{(typename BitsOf<T>::Lanes)(a.v < b.v)}}; }
template <typename T> MaskOf<T> operator<=(Vec<T> a, Vec<T> b) { return {BitsOf<T>{(typename BitsOf<T>::Lanes)(a.v <= b.v)}}; }
template <typename T> MaskOf<T> operator>(Vec<T> a, Vec<T> b) { return {BitsOf<T>{(typename BitsOf<T>::Lanes)(a.v > b.v)}}; }
template <typename T> MaskOf<T> operator>=(Vec<T> a, Vec<T> b) { return {BitsOf<T>{(typename BitsOf<T>::Lanes)(a.v >= b.v)}}; }

// The first n lanes of a vector of T, n clamped to 0..lanes.
template <typename T> MaskOf<T> first_lanes(int64_t n) {
  using Count = BitsOf<T>;
  return Count::count_up() < Count::all(static_cast<typename Count::Element>(clamp_count(n, Count::lanes)));
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
