// What one thread of a CUDA launch does: it walks its share of an array, `threads` steps apart, 16 bytes of the wider side at a time. Plain
// functions of (thread, threads), so that the host runs them too and a test shows that they cover every element, tail and alignment.
#pragma once
#include "lowbit/element.h"

namespace slipstick::lowbit::element {

SLIPSTICK_HOST_DEVICE inline void add_to(uint32_t* counter, uint32_t number) {
#ifdef __CUDA_ARCH__
  atomicAdd(counter, number);
#else
  *counter += number;
#endif
}

// A maximum of integers: the same in any order.
SLIPSTICK_HOST_DEVICE inline void raise_to(uint32_t* greatest, uint32_t number) {
  if (number <= *greatest) return;  // a look at what may be old spares most of the atomics
#ifdef __CUDA_ARCH__
  atomicMax(greatest, number);
#else
  *greatest = number;
#endif
}

// Quotients of numbers that mostly fit 32 bits, where a GPU divides several times as fast.
SLIPSTICK_HOST_DEVICE inline int64_t quotient(int64_t a, int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  return a / b;
}

template <Dtype dtype> struct Stored;
template <> struct Stored<Dtype::float32> {
  using Type = float;
  SLIPSTICK_HOST_DEVICE static float load(Type x) { return x; }
  SLIPSTICK_HOST_DEVICE static Type store(float x) { return x; }
};
template <> struct Stored<Dtype::float64> {
  using Type = double;
  SLIPSTICK_HOST_DEVICE static float load(Type x) { return of_float64(x); }
  SLIPSTICK_HOST_DEVICE static Type store(float x) { return to_float64(x); }
};
template <> struct Stored<Dtype::bfloat16> {
  using Type = uint16_t;
  SLIPSTICK_HOST_DEVICE static float load(Type x) { return of_bfloat16(x); }
  SLIPSTICK_HOST_DEVICE static Type store(float x) { return to_bfloat16(x); }
};
template <> struct Stored<Dtype::float16> {
  using Type = uint16_t;
  SLIPSTICK_HOST_DEVICE static float load(Type x) { return of_float16(x); }
  SLIPSTICK_HOST_DEVICE static Type store(float x) { return to_float16(x); }
};
template <Dtype dtype> constexpr int kPerVector = 16 / static_cast<int>(sizeof(typename Stored<dtype>::Type));

// n numbers side by side, moved by one access of up to 16 bytes.
template <typename T, int n> struct alignas(sizeof(T) * n < 16 ? sizeof(T) * n : 16) Pack {
  T at[n];
};
template <int n, typename T> SLIPSTICK_HOST_DEVICE inline Pack<T, n> load_pack(const void* array, int64_t start) {
  return *reinterpret_cast<const Pack<T, n>*>(static_cast<const T*>(array) + start);
}
template <int n, typename T> SLIPSTICK_HOST_DEVICE inline void store_pack(void* array, int64_t start, const Pack<T, n>& pack) {
  *reinterpret_cast<Pack<T, n>*>(static_cast<T*>(array) + start) = pack;
}

// Whole packs of an array whose addresses allow it, else the first `valid` numbers one by one.
template <Dtype dtype, int n>
SLIPSTICK_HOST_DEVICE inline void load_numbers(const void* x, int64_t start, int valid, bool aligned, float (&out)[n]) {
  using T = typename Stored<dtype>::Type;
  if (aligned && valid == n) {
    const Pack<T, n> pack = load_pack<n, T>(x, start);
    for (int i = 0; i < n; ++i) out[i] = Stored<dtype>::load(pack.at[i]);
    return;
  }
  for (int i = 0; i < n; ++i) out[i] = i < valid ? Stored<dtype>::load(static_cast<const T*>(x)[start + i]) : 0.0f;
}

template <Dtype dtype, int n>
SLIPSTICK_HOST_DEVICE inline void store_numbers(void* y, int64_t start, int valid, bool aligned, const float (&numbers)[n]) {
  using T = typename Stored<dtype>::Type;
  if (aligned && valid == n) {
    Pack<T, n> pack;
    for (int i = 0; i < n; ++i) pack.at[i] = Stored<dtype>::store(numbers[i]);
    return store_pack<n, T>(y, start, pack);
  }
  for (int i = 0; i < n; ++i)
    if (i < valid) static_cast<T*>(y)[start + i] = Stored<dtype>::store(numbers[i]);
}

template <typename T, int n>
SLIPSTICK_HOST_DEVICE inline void store_codes_as(void* codes, int64_t start, int valid, bool aligned, const uint32_t (&numbers)[n]) {
  if (aligned && valid == n) {
    Pack<T, n> pack;
    for (int i = 0; i < n; ++i) pack.at[i] = static_cast<T>(numbers[i]);
    return store_pack<n, T>(codes, start, pack);
  }
  for (int i = 0; i < n; ++i)
    if (i < valid) static_cast<T*>(codes)[start + i] = static_cast<T>(numbers[i]);
}
template <int n>
SLIPSTICK_HOST_DEVICE inline void store_codes(void* codes, int bytes, int64_t start, int valid, bool aligned,
                                              const uint32_t (&numbers)[n]) {
  if (bytes == 1) return store_codes_as<uint8_t>(codes, start, valid, aligned, numbers);
  if (bytes == 2) return store_codes_as<uint16_t>(codes, start, valid, aligned, numbers);
  store_codes_as<uint32_t>(codes, start, valid, aligned, numbers);
}
SLIPSTICK_HOST_DEVICE inline void store_code(void* codes, int bytes, int64_t i, uint32_t code) {
  const uint32_t one[1] = {code};
  store_codes(codes, bytes, i, 1, false, one);
}
SLIPSTICK_HOST_DEVICE inline uint32_t load_code(const void* codes, int bytes, int64_t i) {
  if (bytes == 1) return static_cast<const uint8_t*>(codes)[i];
  if (bytes == 2) return static_cast<const uint16_t*>(codes)[i];
  return static_cast<const uint32_t*>(codes)[i];
}
template <typename T, int n>
SLIPSTICK_HOST_DEVICE inline void load_codes_as(const void* codes, int64_t start, int valid, bool aligned, uint32_t (&out)[n]) {
  if (aligned && valid == n) {
    const Pack<T, n> pack = load_pack<n, T>(codes, start);
    for (int i = 0; i < n; ++i) out[i] = pack.at[i];
    return;
  }
  for (int i = 0; i < n; ++i) out[i] = i < valid ? static_cast<const T*>(codes)[start + i] : 0;
}
template <int n>
SLIPSTICK_HOST_DEVICE inline void load_codes(const void* codes, int bytes, int64_t start, int valid, bool aligned, uint32_t (&out)[n]) {
  if (bytes == 1) return load_codes_as<uint8_t>(codes, start, valid, aligned, out);
  if (bytes == 2) return load_codes_as<uint16_t>(codes, start, valid, aligned, out);
  load_codes_as<uint32_t>(codes, start, valid, aligned, out);
}

SLIPSTICK_HOST_DEVICE inline int at_most(int n, int64_t left) { return left < n ? static_cast<int>(left) : n; }

// ---- arrays of one format ---------------------------------------------------------------------------------------------------------------------

struct Elements {
  const void* x;
  void* y;  // results, as x; or null, and then
  void* codes;  // their codes
  int64_t count;
  bool aligned;  // all addresses are multiples of 16
  uint32_t* nan;  // null, or what takes the number of NaN
};

template <Dtype dtype, Rounding mode, int n>
SLIPSTICK_HOST_DEVICE inline void round_some(const KernelFormat& format, const Tables& tables, const Elements& e, int64_t start,
                                             const uint32_t (&random)[n], int random_bits) {
  const int valid = at_most(n, e.count - start);
  float v[n];
  load_numbers<dtype>(e.x, start, valid, e.aligned, v);
  Found found[n];
  for (int i = 0; i < n; ++i) found[i] = round_by<mode>(format, tables, v[i], random[i], random_bits);
  if (e.y) {
    for (int i = 0; i < n; ++i) v[i] = found[i].value;
    return store_numbers<dtype>(e.y, start, valid, e.aligned, v);
  }
  uint32_t codes[n], nan = 0;
  for (int i = 0; i < n; ++i) {
    codes[i] = code_of(format, tables, found[i]);
    nan += is_nan(found[i].value);
  }
  store_codes(e.codes, format.code_bytes, start, valid, e.aligned, codes);
  if (e.nan && nan) add_to(e.nan, nan);
}

template <Dtype dtype, Rounding mode>
SLIPSTICK_HOST_DEVICE inline void round_elements(const KernelFormat& format, const void* memory, const Elements& e, int64_t thread,
                                                 int64_t threads) {
  constexpr int n = kPerVector<dtype>;
  const Tables tables(format, memory);
  const uint32_t none[n] = {};
  for (int64_t start = thread * n; start < e.count; start += threads * n) round_some<dtype, mode>(format, tables, e, start, none, 32);
}

// Four threads share a tile of random numbers. Each makes four blocks of it and rounds the 16 (or 32, 64) elements that the words are for, four in
// a row at a time: no word is made twice, and none is left.
template <Dtype dtype>
SLIPSTICK_HOST_DEVICE inline void round_stochastic(const KernelFormat& format, const void* memory, const Elements& e, const Random& random,
                                                   int64_t thread, int64_t threads) {
  const Tables tables(format, memory);
  const int parts = 32 / random.bits;
  const int64_t tile_elements = 64 * parts;
  const int64_t tiles = (e.count + tile_elements - 1) / tile_elements;
  for (int64_t unit = thread; unit < 4 * tiles; unit += threads) {
    const int64_t tile = unit / 4, first = unit % 4 * 4;
    uint32_t words[4][4];
    SLIPSTICK_UNROLL
    for (int i = 0; i < 4; ++i) random_words(random, static_cast<uint64_t>(tile), static_cast<uint32_t>(first + i), words[i]);
    for (int part = 0; part < parts; ++part) {
      SLIPSTICK_UNROLL
      for (int word = 0; word < 4; ++word) {
        const int64_t start = tile * tile_elements + 64 * part + 16 * word + first;
        if (start >= e.count) break;
        uint32_t numbers[4];
        for (int i = 0; i < 4; ++i) numbers[i] = random_part(random, words[i][word], part);
        round_some<dtype, Rounding::stochastic>(format, tables, e, start, numbers, random.bits);
      }
    }
  }
}

template <Dtype dtype>
SLIPSTICK_HOST_DEVICE inline void decode_elements(const KernelFormat& format, const void* memory, const void* codes, void* y, int64_t count,
                                                  bool aligned, int64_t thread, int64_t threads) {
  constexpr int n = kPerVector<dtype>;
  const Tables tables(format, memory);
  for (int64_t start = thread * n; start < count; start += threads * n) {
    const int valid = at_most(n, count - start);
    uint32_t code[n];
    load_codes(codes, format.code_bytes, start, valid, aligned, code);
    float v[n];
    for (int i = 0; i < n; ++i) v[i] = value_of(format, tables, code[i]);
    store_numbers<dtype>(y, start, valid, aligned, v);
  }
}

// Eight codes are `bits` whole bytes.
SLIPSTICK_HOST_DEVICE inline void pack_codes(const uint8_t* codes, uint8_t* packed, int64_t count, int bits, bool aligned, int64_t thread,
                                             int64_t threads) {
  const uint32_t mask = (1u << bits) - 1;
  for (int64_t start = thread * 8; start < count; start += threads * 8) {
    const int valid = at_most(8, count - start);
    uint32_t code[8];
    load_codes_as<uint8_t>(codes, start, valid, aligned, code);
    uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word |= uint64_t{i < valid ? code[i] & mask : 0} << (i * bits);
    const int64_t to = start / 8 * bits;
    if (bits == 4 && aligned && valid == 8) {
      *reinterpret_cast<uint32_t*>(packed + to) = static_cast<uint32_t>(word);
      continue;
    }
    for (int byte = 0; byte * 8 < valid * bits; ++byte) packed[to + byte] = static_cast<uint8_t>(word >> (8 * byte));
  }
}

SLIPSTICK_HOST_DEVICE inline void unpack_codes(const uint8_t* packed, uint8_t* codes, int64_t count, int bits, bool aligned, int64_t thread,
                                               int64_t threads) {
  const uint32_t mask = (1u << bits) - 1;
  for (int64_t start = thread * 8; start < count; start += threads * 8) {
    const int valid = at_most(8, count - start);
    const int64_t from = start / 8 * bits;
    uint64_t word = 0;
    if (bits == 4 && aligned && valid == 8) {
      word = *reinterpret_cast<const uint32_t*>(packed + from);
    } else {
      for (int byte = 0; byte * 8 < valid * bits; ++byte) word |= uint64_t{packed[from + byte]} << (8 * byte);
    }
    uint32_t code[8];
    for (int i = 0; i < 8; ++i) code[i] = static_cast<uint32_t>(word >> (i * bits)) & mask;
    store_codes_as<uint8_t>(codes, start, valid, aligned, code);
  }
}

// The word of the greatest finite |x| of this thread's share.
template <Dtype dtype>
SLIPSTICK_HOST_DEVICE inline uint32_t greatest_finite(const void* x, int64_t count, bool aligned, int64_t thread, int64_t threads) {
  constexpr int n = kPerVector<dtype>;
  uint32_t most = 0;
  for (int64_t start = thread * n; start < count; start += threads * n) {
    float v[n];
    load_numbers<dtype>(x, start, at_most(n, count - start), aligned, v);
    for (int i = 0; i < n; ++i) {
      const uint32_t magnitude = bits_of(v[i]) & ~kSign;
      if (magnitude < kInfinity && magnitude > most) most = magnitude;
    }
  }
  return most;
}

// The scale of a whole tensor with two levels of scales.
SLIPSTICK_HOST_DEVICE inline float whole_scale(uint32_t greatest, float element_max, float scale_max) {
  const float scale = over(float_of(greatest), times(element_max, scale_max));
  return scale == 0 ? 1.0f : scale;
}

// ---- blocks -----------------------------------------------------------------------------------------------------------------------------------

struct ScaledElements {
  KernelFormat element, scale;
  const void *element_tables, *scale_tables;
  KernelScaling scaling;
  const float* tensor_scale;  // in the device's memory; null: 1
  Blocks blocks;
  int64_t strips, across;  // blocks of a matrix: down, and of a row
  Elements e;  // y, or codes, or both
  void* scales;  // codes of scales, or null
  uint32_t* workspace;  // a word a block: greatest magnitudes, 0 at first, then scales
  Rounding rounding;
  Random random;

  SLIPSTICK_HOST_DEVICE float whole() const { return tensor_scale ? *tensor_scale : 1.0f; }
  SLIPSTICK_HOST_DEVICE int scale_bytes() const { return scaling.power_of_two ? 1 : scale.code_bytes; }
};

// The block that an element belongs to, and how many elements from it on, in its row, belong to the same.
struct BlockAt {
  int64_t block, left;
};
SLIPSTICK_HOST_DEVICE inline BlockAt block_at(const Blocks& blocks, int64_t strips, int64_t across, int64_t position) {
  const int64_t all_rows = quotient(position, blocks.columns), column = position - all_rows * blocks.columns;
  const int64_t index = quotient(column, blocks.block_columns), end = (index + 1) * blocks.block_columns;
  const int64_t left = (end < blocks.columns ? end : blocks.columns) - column;
  if (!blocks.shared && blocks.block_rows == 1) return {all_rows * across + index, left};
  const int64_t matrix = quotient(all_rows, blocks.rows), row = all_rows - matrix * blocks.rows;
  return {((blocks.shared ? 0 : matrix) * strips + quotient(row, blocks.block_rows)) * across + index, left};
}

// First pass: greatest magnitudes.
template <Dtype dtype> SLIPSTICK_HOST_DEVICE inline void find_magnitudes(const ScaledElements& s, int64_t thread, int64_t threads) {
  constexpr int n = kPerVector<dtype>;
  int64_t block = -1;
  uint32_t most = 0;
  for (int64_t start = thread * n; start < s.e.count; start += threads * n) {
    const int valid = at_most(n, s.e.count - start);
    float v[n];
    load_numbers<dtype>(s.e.x, start, valid, s.e.aligned, v);
    BlockAt at{-1, 0};
    for (int i = 0; i < n; ++i) {
      if (i >= valid) continue;
      if (at.left == 0) at = block_at(s.blocks, s.strips, s.across, start + i);
      --at.left;
      if (at.block != block) {
        if (block >= 0) raise_to(s.workspace + block, most);
        block = at.block;
        most = 0;
      }
      const uint32_t magnitude = bits_of(v[i]) & ~kSign;
      if (magnitude > most) most = magnitude;
    }
  }
  if (block >= 0) raise_to(s.workspace + block, most);
}

// Second: scales.
SLIPSTICK_HOST_DEVICE inline void find_scales(const ScaledElements& s, int64_t block_count, int64_t thread, int64_t threads) {
  const Tables tables(s.scale, s.scale_tables);
  const float whole = s.whole();
  for (int64_t block = thread; block < block_count; block += threads) {
    const BlockScale scale = block_scale(s.scaling, s.scale, tables, whole, s.workspace[block]);
    s.workspace[block] = bits_of(scale.factor);
    if (s.scales) store_code(s.scales, s.scale_bytes(), block, scale.code);
  }
}

template <Dtype dtype, bool nearest_even, int n>
SLIPSTICK_HOST_DEVICE inline void round_scaled(const ScaledElements& s, const Tables& tables, int64_t start, int valid, float (&v)[n],
                                               const float (&factor)[n]) {
  uint32_t codes[n], nan = 0;
  for (int i = 0; i < n; ++i) {
    if (i >= valid) continue;
    const float t = scaled_down(v[i], factor[i], s.scaling.power_of_two);
    Found found;
    if (nearest_even) {
      found = round_by<Rounding::nearest_even>(s.element, tables, t, 0, 32);
    } else {
      const uint32_t number =
          s.rounding == Rounding::stochastic ? random_number(s.random, static_cast<uint64_t>(start) + static_cast<uint64_t>(i)) : 0;
      found = round_by(s.rounding, s.element, tables, t, number, s.random.bits);
    }
    if (s.e.codes) {
      codes[i] = code_of(s.element, tables, found);
      nan += is_nan(found.value);
    }
    v[i] = scaled_up(found.value, factor[i]);
  }
  if (s.e.codes) store_codes(s.e.codes, s.element.code_bytes, start, valid, s.e.aligned, codes);
  if (s.e.codes && s.e.nan && nan) add_to(s.e.nan, nan);
  if (s.e.y) store_numbers<dtype>(s.e.y, start, valid, s.e.aligned, v);
}

// Third: elements.
template <Dtype dtype, bool nearest_even>
SLIPSTICK_HOST_DEVICE inline void round_with_scales(const ScaledElements& s, int64_t thread, int64_t threads) {
  constexpr int n = kPerVector<dtype>;
  const Tables tables(s.element, s.element_tables);
  for (int64_t start = thread * n; start < s.e.count; start += threads * n) {
    const int valid = at_most(n, s.e.count - start);
    float v[n], factor[n];
    load_numbers<dtype>(s.e.x, start, valid, s.e.aligned, v);
    BlockAt at{0, 0};
    for (int i = 0; i < n; ++i) {
      factor[i] = 1;
      if (i >= valid) continue;
      if (at.left == 0) at = block_at(s.blocks, s.strips, s.across, start + i);
      --at.left;
      factor[i] = float_of(s.workspace[at.block]);
    }
    round_scaled<dtype, nearest_even>(s, tables, start, valid, v, factor);
  }
}

// Blocks in a row that whole groups of threads share, at once: a thread loads its vector and gives the greatest magnitude in it (load_in_block); the
// group takes the greatest of all; each thread finishes its own (finish_in_block). One read, one write.
template <Dtype dtype> SLIPSTICK_HOST_DEVICE inline bool fits_groups(const ScaledElements& s) {
  const int64_t width = s.blocks.block_columns, lanes = width / kPerVector<dtype>;
  const bool power = (lanes & (lanes - 1)) == 0 && lanes >= 1 && lanes <= 32 && width % kPerVector<dtype> == 0;
  return power && s.e.aligned && !s.blocks.shared && s.blocks.block_rows == 1 && s.blocks.columns % width == 0;
}

template <Dtype dtype>
SLIPSTICK_HOST_DEVICE inline uint32_t load_in_block(const ScaledElements& s, int64_t start, float (&v)[kPerVector<dtype>]) {
  load_numbers<dtype>(s.e.x, start, kPerVector<dtype>, true, v);
  uint32_t most = 0;
  for (int i = 0; i < kPerVector<dtype>; ++i) {
    const uint32_t magnitude = bits_of(v[i]) & ~kSign;
    if (magnitude > most) most = magnitude;
  }
  return most;
}

template <Dtype dtype, bool nearest_even>
SLIPSTICK_HOST_DEVICE inline void finish_in_block(const ScaledElements& s, int64_t start, uint32_t magnitude, bool first_of_block,
                                                  float (&v)[kPerVector<dtype>]) {
  constexpr int n = kPerVector<dtype>;
  const BlockScale scale = block_scale(s.scaling, s.scale, Tables(s.scale, s.scale_tables), s.whole(), magnitude);
  if (first_of_block && s.scales) store_code(s.scales, s.scale_bytes(), quotient(start, s.blocks.block_columns), scale.code);
  float factor[n];
  for (int i = 0; i < n; ++i) factor[i] = scale.factor;
  round_scaled<dtype, nearest_even>(s, Tables(s.element, s.element_tables), start, n, v, factor);
}

// y from e.x, which are codes here, and scales.
template <Dtype dtype> SLIPSTICK_HOST_DEVICE inline void decode_scaled(const ScaledElements& s, int64_t thread, int64_t threads) {
  constexpr int n = kPerVector<dtype>;
  const Tables tables(s.element, s.element_tables), scale_tables(s.scale, s.scale_tables);
  const float whole = s.whole();
  for (int64_t start = thread * n; start < s.e.count; start += threads * n) {
    const int valid = at_most(n, s.e.count - start);
    uint32_t code[n];
    load_codes(s.e.x, s.element.code_bytes, start, valid, s.e.aligned, code);
    float v[n], factor = 1;
    BlockAt at{0, 0};
    for (int i = 0; i < n; ++i) {
      v[i] = 0;
      if (i >= valid) continue;
      if (at.left == 0) {
        at = block_at(s.blocks, s.strips, s.across, start + i);
        factor = factor_of_code(s.scaling, s.scale, scale_tables, whole, load_code(s.scales, s.scale_bytes(), at.block));
      }
      --at.left;
      v[i] = scaled_up(value_of(s.element, tables, code[i]), factor);
    }
    store_numbers<dtype>(s.e.y, start, valid, s.e.aligned, v);
  }
}

}  // namespace slipstick::lowbit::element
