// The vector types and what every level does alike: loads, stores, arithmetic, logic, shifts, casts. Included by vec.h alone.
// GCC's and Clang's vector extensions spell these once; each is a single instruction where the level has one.
#pragma once

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

// For an element: the unsigned integer of its size (bits), and the type its sums and products are taken in, which for integers is unsigned
// because they wrap around.
template <typename T> struct ElementTraits;
template <typename BitsType, typename ArithmeticType> struct Traits {
  using Bits = BitsType;
  using Arithmetic = ArithmeticType;
};
template <> struct ElementTraits<uint8_t> : Traits<uint8_t, uint8_t> {};
template <> struct ElementTraits<int32_t> : Traits<uint32_t, uint32_t> {};
template <> struct ElementTraits<uint32_t> : Traits<uint32_t, uint32_t> {};
template <> struct ElementTraits<int64_t> : Traits<uint64_t, uint64_t> {};
template <> struct ElementTraits<uint64_t> : Traits<uint64_t, uint64_t> {};
template <> struct ElementTraits<float> : Traits<uint32_t, float> {};
template <> struct ElementTraits<double> : Traits<uint64_t, double> {};

template <typename T> struct LanesOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  // As it lies in memory, anywhere. With memcpy instead, GCC 12 keeps arrays of vectors in memory on v3 and copies them out in a loop of 16 bytes each.
  typedef T InMemory __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));
};

template <typename T> struct Vec {
  using Element = T;
  using Lanes = typename LanesOf<T>::Type;
  static constexpr int64_t lanes = kVectorBytes / static_cast<int64_t>(sizeof(T));
  Lanes v;

  static Vec all(T x);                                    // x in every lane
  static Vec count_up();                                  // 0, 1, 2, ...
  static Vec load(const T* p);
  static Vec load_first(const T* p, int64_t n, T fill);   // the first n, clamped to 0..lanes; the other lanes are fill
  void store(T* p) const;
  void store_first(T* p, int64_t n) const;                // the first n, clamped to 0..lanes; nothing else is written
  void stream(T* p) const;                                // past the caches; p aligned to kVectorBytes; see stream_fence
};

using F32 = Vec<float>;
using F64 = Vec<double>;
using I32 = Vec<int32_t>;
using U32 = Vec<uint32_t>;
using I64 = Vec<int64_t>;
using U64 = Vec<uint64_t>;
using U8 = Vec<uint8_t>;

// ---- memory -------------------------------------------------------------------------------------------------------------------------------

inline int64_t clamp_count(int64_t n, int64_t most) { return n < 0 ? 0 : n > most ? most : n; }

inline void copy_bytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) __builtin_memcpy(to, from, static_cast<unsigned long>(bytes));
}

template <typename T> Vec<T> Vec<T>::load(const T* p) { return {*reinterpret_cast<const typename LanesOf<T>::InMemory*>(p)}; }

template <typename T> void Vec<T>::store(T* p) const { *reinterpret_cast<typename LanesOf<T>::InMemory*>(p) = v; }

// How levels without masked loads do the ends of arrays.
template <typename T> Vec<T> load_first_by_copy(const T* p, int64_t n, T fill) {
  Vec<T> r = Vec<T>::all(fill);
  copy_bytes(&r.v, p, clamp_count(n, Vec<T>::lanes) * static_cast<int64_t>(sizeof(T)));
  return r;
}
template <typename T> void store_first_by_copy(Vec<T> x, T* p, int64_t n) {
  copy_bytes(p, &x.v, clamp_count(n, Vec<T>::lanes) * static_cast<int64_t>(sizeof(T)));
}

template <typename T> Vec<T> Vec<T>::count_up() {
  Vec r;
  for (int64_t i = 0; i < lanes; ++i) r.v[i] = static_cast<T>(i);
  return r;
}

// Integers; the level headers have float and double, which some compilers would otherwise carry through an integer register.
template <typename T> Vec<T> Vec<T>::all(T x) { return Vec{x + Lanes{}}; }

// ---- casts: the same bits as another type of element ----------------------------------------------------------------------------------------

template <typename To, typename From> Vec<To> cast_lanes(Vec<From> x) { return Vec<To>{(typename Vec<To>::Lanes)x.v}; }
template <typename T> F32 as_f32(Vec<T> x) { return cast_lanes<float>(x); }
template <typename T> F64 as_f64(Vec<T> x) { return cast_lanes<double>(x); }
template <typename T> I32 as_i32(Vec<T> x) { return cast_lanes<int32_t>(x); }
template <typename T> U32 as_u32(Vec<T> x) { return cast_lanes<uint32_t>(x); }
template <typename T> U64 as_u64(Vec<T> x) { return cast_lanes<uint64_t>(x); }

// ---- arithmetic: integers wrap around, floats round to nearest -----------------------------------------------------------------------------

template <typename T> using ArithmeticLanes = typename Vec<typename ElementTraits<T>::Arithmetic>::Lanes;
template <typename T> Vec<T> operator+(Vec<T> a, Vec<T> b) {
  return Vec<T>{(typename Vec<T>::Lanes)((ArithmeticLanes<T>)a.v + (ArithmeticLanes<T>)b.v)};
}
template <typename T> Vec<T> operator-(Vec<T> a, Vec<T> b) {
  return Vec<T>{(typename Vec<T>::Lanes)((ArithmeticLanes<T>)a.v - (ArithmeticLanes<T>)b.v)};
}
template <typename T> Vec<T> operator*(Vec<T> a, Vec<T> b) {
  return Vec<T>{(typename Vec<T>::Lanes)((ArithmeticLanes<T>)a.v * (ArithmeticLanes<T>)b.v)};
}
// Flips a float's sign bit.
template <typename T> Vec<T> operator-(Vec<T> a) { return Vec<T>{(typename Vec<T>::Lanes)(-(ArithmeticLanes<T>)a.v)}; }
inline F32 operator/(F32 a, F32 b) { return F32{a.v / b.v}; }
inline F64 operator/(F64 a, F64 b) { return F64{a.v / b.v}; }

template <typename T> Vec<T>& operator+=(Vec<T>& a, Vec<T> b) { return a = a + b; }
template <typename T> Vec<T>& operator-=(Vec<T>& a, Vec<T> b) { return a = a - b; }
template <typename T> Vec<T>& operator*=(Vec<T>& a, Vec<T> b) { return a = a * b; }

// ---- logic and shifts of integers ---------------------------------------------------------------------------------------------------------

template <typename T> Vec<T> operator&(Vec<T> a, Vec<T> b) { return Vec<T>{a.v & b.v}; }
template <typename T> Vec<T> operator|(Vec<T> a, Vec<T> b) { return Vec<T>{a.v | b.v}; }
template <typename T> Vec<T> operator^(Vec<T> a, Vec<T> b) { return Vec<T>{a.v ^ b.v}; }
template <typename T> Vec<T> operator~(Vec<T> a) { return Vec<T>{~a.v}; }
template <typename T> Vec<T> and_not(Vec<T> a, Vec<T> b) { return Vec<T>{a.v & ~b.v}; }  // a & ~b

// Shifts of 32- and 64-bit lanes by 0..bits-1, all alike or each by its own count (slow on v2). >> keeps the sign of signed lanes.
template <typename T> Vec<T> operator<<(Vec<T> a, int count) {
  using Bits = typename ElementTraits<T>::Bits;
  return cast_lanes<T>(Vec<Bits>{cast_lanes<Bits>(a).v << static_cast<Bits>(count)});
}
template <typename T> Vec<T> operator>>(Vec<T> a, int count) { return Vec<T>{a.v >> static_cast<T>(count)}; }
template <typename T> Vec<T> operator<<(Vec<T> a, Vec<T> counts) {
  using Bits = typename ElementTraits<T>::Bits;
  return cast_lanes<T>(Vec<Bits>{cast_lanes<Bits>(a).v << cast_lanes<Bits>(counts).v});
}
template <typename T> Vec<T> operator>>(Vec<T> a, Vec<T> counts) { return Vec<T>{a.v >> counts.v}; }

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
