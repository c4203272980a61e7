// Blocks of elements: conversion, rounding and coding of what fits the first-level cache.
#include "lowbit/elements.h"

#include <algorithm>
#include <cfenv>

#include "lowbit/codebook.h"
#include "slipstick/error.h"
#include "slipstick/threads.h"

namespace slipstick::lowbit {

static_assert(kBlock % kTile == 0 && kTaskElements % kBlock == 0, "positions of random bits start at multiples of kTile");

ExactFloats::ExactFloats() {
  static_assert(sizeof(fenv_t) <= sizeof(saved_), "saved_ holds a fenv_t");
  fegetenv(reinterpret_cast<fenv_t*>(saved_));
  fesetenv(FE_DFL_ENV);
}
ExactFloats::~ExactFloats() { fesetenv(reinterpret_cast<fenv_t*>(saved_)); }

void check_request(const char* where, const Format& format, const Random& random, Dtype dtype, int64_t count) {
  const std::string name(where);
  if (count < 0) throw Error(ErrorKind::invalid_argument, name + ": count is " + std::to_string(count) + "; expected 0 or more");
  if (random.bits != 8 && random.bits != 16 && random.bits != 32)
    throw Error(ErrorKind::invalid_argument, name + ": random_bits is " + std::to_string(random.bits) + "; expected 8, 16 or 32");
  if (dtype == Dtype::float64 && format.grid() && format.mantissa_bits() > 21)
    throw Error(ErrorKind::unsupported, name + ": x is float64 and the format has " + std::to_string(format.mantissa_bits()) +
                                            " mantissa bits; expected float32, or at most 21");
}

const float* load_block(Dtype dtype, const void* x, int64_t start, int64_t count, float* block) {
  const CodeKernels& kernels = active_code_kernels();
  switch (dtype) {
    case Dtype::float32: return static_cast<const float*>(x) + start;
    case Dtype::float64: kernels.from_float64(static_cast<const double*>(x) + start, block, count); break;
    case Dtype::bfloat16: kernels.from_bfloat16(static_cast<const uint16_t*>(x) + start, block, count); break;
    case Dtype::float16: kernels.from_float16(static_cast<const uint16_t*>(x) + start, block, count); break;
  }
  return block;
}

void store_block(Dtype dtype, const float* block, void* y, int64_t start, int64_t count) {
  const CodeKernels& kernels = active_code_kernels();
  switch (dtype) {
    case Dtype::float32: std::copy(block, block + count, static_cast<float*>(y) + start); break;
    case Dtype::float64: kernels.to_float64(block, static_cast<double*>(y) + start, count); break;
    case Dtype::bfloat16: kernels.to_bfloat16(block, static_cast<uint16_t*>(y) + start, count); break;
    case Dtype::float16: kernels.to_float16(block, static_cast<uint16_t*>(y) + start, count); break;
  }
}

namespace {

RandomAt random_at(const Random& random, int64_t start) { return {random.seed, random.stream, random.bits, static_cast<uint64_t>(start)}; }

// Through a code book, by parts of the block whose random numbers fit the stack.
template <typename Body> void by_parts(Rounding rounding, const Random& random, int64_t start, int64_t count, Body body) {
  uint32_t numbers[kBlock];
  for (int64_t part = 0; part < count; part += kBlock) {
    const int64_t length = std::min(kBlock, count - part);
    if (rounding == Rounding::stochastic) active_kernels().random_bits(random_at(random, start + part), numbers, length);
    body(part, length, numbers);
  }
}

template <typename Code> void narrow_codes(const uint32_t* codes, void* out, int64_t start, int64_t count) {
  Code* to = static_cast<Code*>(out) + start;
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Code>(codes[i]);
}

}  // namespace

void round_block(const Format& format, Rounding rounding, const Random& random, const float* x, float* y, int64_t start, int64_t count,
                 bool past_caches) {
  if (const Grid* grid = format.grid()) {
    active_kernels().round[static_cast<int>(rounding)](*grid, random_at(random, start), x, y, count, past_caches);
    return;
  }
  by_parts(rounding, random, start, count, [&](int64_t part, int64_t length, const uint32_t* numbers) {
    codebook_round(*format.codebook(), rounding, numbers, random.bits, x + part, y + part, nullptr, length);
  });
}

void round_codebook_given(const Format& format, int random_bits, const uint32_t* numbers, float* t, int64_t count) {
  codebook_round(*format.codebook(), Rounding::stochastic, numbers, random_bits, t, t, nullptr, count);
}

int64_t encode_block(const Format& format, Rounding rounding, const Random& random, const float* x, void* codes, int64_t start,
                     int64_t count) {
  const CodeKernels& kernels = active_code_kernels();
  int64_t nan = 0;
  if (const Grid* grid = format.grid()) {
    if (rounding == Rounding::nearest_even && active_kernels().can_code_nearest(*grid)) {
      if (format.code_bytes() == 1) return active_kernels().code_nearest_8(*grid, x, static_cast<uint8_t*>(codes), count);
      return active_kernels().code_nearest_16(*grid, x, static_cast<uint16_t*>(codes), count);
    }
    float values[kBlock];
    for (int64_t part = 0; part < count; part += kBlock) {
      const int64_t length = std::min(kBlock, count - part);
      round_block(format, rounding, random, x + part, values, start + part, length);
      if (format.code_bytes() == 1) nan += kernels.encode_8(*grid, values, static_cast<uint8_t*>(codes) + part, length);
      if (format.code_bytes() == 2) nan += kernels.encode_16(*grid, values, static_cast<uint16_t*>(codes) + part, length);
      if (format.code_bytes() == 4) nan += kernels.encode_32(*grid, values, static_cast<uint32_t*>(codes) + part, length);
    }
    return nan;
  }
  by_parts(rounding, random, start, count, [&](int64_t part, int64_t length, const uint32_t* numbers) {
    uint32_t wide[kBlock];
    nan += codebook_round(*format.codebook(), rounding, numbers, random.bits, x + part, nullptr, wide, length);
    if (format.code_bytes() == 1) narrow_codes<uint8_t>(wide, codes, part, length);
    if (format.code_bytes() == 2) narrow_codes<uint16_t>(wide, codes, part, length);
  });
  return nan;
}

void decode_block(const Format& format, const void* codes, float* values, int64_t count, bool past_caches) {
  const CodeKernels& kernels = active_code_kernels();
  if (const Grid* grid = format.grid()) {
    if (format.code_bytes() == 1) kernels.decode_8(*grid, static_cast<const uint8_t*>(codes), values, count, past_caches);
    if (format.code_bytes() == 2) kernels.decode_16(*grid, static_cast<const uint16_t*>(codes), values, count, past_caches);
    if (format.code_bytes() == 4) kernels.decode_32(*grid, static_cast<const uint32_t*>(codes), values, count, past_caches);
    return;
  }
  const std::vector<float>& table = format.codebook()->by_code;
  const uint32_t mask = static_cast<uint32_t>(table.size() - 1);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t code = format.code_bytes() == 1 ? static_cast<const uint8_t*>(codes)[i] : static_cast<const uint16_t*>(codes)[i];
    values[i] = table[code & mask];
  }
}

void for_each_task(int64_t count, int threads, const std::function<void(int64_t first, int64_t end)>& body) {
  const ExactFloats exact;
  const int64_t tasks = count / kTaskElements + (count % kTaskElements != 0);
  parallel_for(tasks, threads, [&](int64_t task) { body(task * kTaskElements, std::min(count, (task + 1) * kTaskElements)); });
}

}  // namespace slipstick::lowbit
