// What the host's compiler and CUDA's read alike: the mark of functions for both, and float arithmetic that neither may fuse or flush.
#pragma once
#include <cstdint>
#include <cstring>  // memcpy, which CUDA knows too

#ifdef __CUDACC__
#define SLIPSTICK_HOST_DEVICE __host__ __device__
#else
#define SLIPSTICK_HOST_DEVICE
#endif
#ifdef __CUDA_ARCH__
#define SLIPSTICK_UNROLL _Pragma("unroll")  // so that arrays indexed by the loop stay in registers
#else
#define SLIPSTICK_UNROLL
#endif

namespace slipstick {

template <typename To, typename From> SLIPSTICK_HOST_DEVICE inline To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits of another size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
SLIPSTICK_HOST_DEVICE inline uint32_t bits_of(float x) { return same_bits<uint32_t>(x); }
SLIPSTICK_HOST_DEVICE inline uint64_t bits_of(double x) { return same_bits<uint64_t>(x); }
SLIPSTICK_HOST_DEVICE inline float float_of(uint32_t word) { return same_bits<float>(word); }
SLIPSTICK_HOST_DEVICE inline double double_of(uint64_t word) { return same_bits<double>(word); }

// Rounded to nearest even, subnormals kept, whatever the flags of the compiler. The bits of a NaN are the device's own.
#ifdef __CUDA_ARCH__
__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float minus(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float over(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ inline double minus(double a, double b) { return __dsub_rn(a, b); }
__device__ inline double times(double a, double b) { return __dmul_rn(a, b); }
__device__ inline double over(double a, double b) { return __ddiv_rn(a, b); }
__device__ inline float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
__device__ inline double square_root(double a) { return __dsqrt_rn(a); }
#else
SLIPSTICK_HOST_DEVICE inline float plus(float a, float b) { return a + b; }
SLIPSTICK_HOST_DEVICE inline float minus(float a, float b) { return a - b; }
SLIPSTICK_HOST_DEVICE inline float times(float a, float b) { return a * b; }
SLIPSTICK_HOST_DEVICE inline float over(float a, float b) { return a / b; }
SLIPSTICK_HOST_DEVICE inline double plus(double a, double b) { return a + b; }
SLIPSTICK_HOST_DEVICE inline double minus(double a, double b) { return a - b; }
SLIPSTICK_HOST_DEVICE inline double times(double a, double b) { return a * b; }
SLIPSTICK_HOST_DEVICE inline double over(double a, double b) { return a / b; }
SLIPSTICK_HOST_DEVICE inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SLIPSTICK_HOST_DEVICE inline double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
SLIPSTICK_HOST_DEVICE inline double square_root(double a) { return __builtin_sqrt(a); }
#endif

// Ten rounds of Philox as in base/random.cpp, in place.
SLIPSTICK_HOST_DEVICE inline void philox4x32_in_place(uint32_t (&counter)[4], uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0], product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter[0] = static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0;
    counter[1] = static_cast<uint32_t>(product1);
    counter[2] = static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1;
    counter[3] = static_cast<uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

}  // namespace slipstick
