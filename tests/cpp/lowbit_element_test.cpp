// Contract: what CUDA's kernels compute is what the CPU's do, bit for bit, NaN payloads included where no scale is in play. The loops of thread_loops.h run here as the
// threads of a launch would, one after the other, and stand against the vector kernels, which have oracles of their own: every value, midpoint
// and neighbour of every preset in every mode, all 16-bit inputs, all tails and alignments, blocks of every shape. What only a device can show is
// the launch, the shuffles that find a block's maximum, and that its float arithmetic is IEEE 754's.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "lowbit/elements.h"
#include "lowbit/product_loops.h"
#include "lowbit/statistics_loops.h"
#include "lowbit/thread_loops.h"
#include "slipstick/random.h"

using namespace slipstick::lowbit;
using slipstick::bits_of;
using slipstick::float_of;

namespace {

struct Named {
  std::string name;
  Format format;
};

FloatSpec float_spec(int exponent_bits, int mantissa_bits, Specials specials, Overflow overflow) {
  FloatSpec spec;
  spec.exponent_bits = exponent_bits;
  spec.mantissa_bits = mantissa_bits;
  spec.bias = exponent_bits > 0 ? (1 << (exponent_bits - 1)) - 1 : 1;
  if (specials == Specials::fnuz || specials == Specials::p3109) ++spec.bias;
  spec.specials = specials;
  spec.overflow = overflow;
  return spec;
}

CodebookSpec powers_of_two() {  // E8M0
  CodebookSpec spec;
  for (int k = -127; k < 128; ++k) spec.values.push_back(std::ldexp(1.0f, k));
  for (uint32_t code = 0; code < 255; ++code) spec.codes.push_back(code);
  spec.bits = 8;
  spec.nan_code = 255;
  return spec;
}

CodebookSpec nf4() {
  CodebookSpec spec;
  spec.values = {-1.0f,      -0.6961928f, -0.52507305f, -0.39491749f, -0.28444138f, -0.18477343f, -0.091050036f, 0.0f,
                 0.0795803f, 0.1609302f,  0.2461123f,   0.33791524f,  0.44070983f,  0.562617f,    0.72295684f,   1.0f};
  for (uint32_t code = 0; code < 16; ++code) spec.codes.push_back(code);
  spec.bits = 4;
  return spec;
}

CodebookSpec uneven() {  // as posits: gaps that differ, thresholds that are no midpoints, zero for zero alone
  CodebookSpec spec;
  spec.values = {-1.0f, -0.6961928f, -0.52507305f, -0.28444138f, 0.0f, 0.0795803f, 0.16093020f, 0.33791524f, 0.72295684f, 1.0f};
  spec.codes = {15, 3, 4, 7, 0, 1, 2, 9, 12, 11};
  for (size_t i = 0; i + 1 < spec.values.size(); ++i)
    spec.thresholds.push_back(0.6 * static_cast<double>(spec.values[i]) + 0.4 * static_cast<double>(spec.values[i + 1]));
  spec.bits = 4;
  spec.nan_code = 8;
  spec.keep_nonzero = true;
  return spec;
}

CodebookSpec without_nan() {
  CodebookSpec spec;
  for (uint32_t i = 0; i < 300; ++i) {
    spec.values.push_back(std::ldexp(1.0f + static_cast<float>(i % 7) / 8, static_cast<int>(i / 7) - 20));
    spec.codes.push_back(i ^ 5);
  }
  spec.bits = 9;
  return spec;
}

std::vector<Named> formats() {
  std::vector<Named> all;
  const auto add = [&](const std::string& name, const auto& spec) { all.push_back({name, Format(spec)}); };
  const auto floats = [&](const std::string& name, int e, int m, Specials specials, std::vector<Overflow> overflows, int bias = -1) {
    for (Overflow overflow : overflows) {
      FloatSpec spec = float_spec(e, m, specials, overflow);
      if (bias >= 0) spec.bias = bias;
      add(name + (overflow == Overflow::saturate ? " saturating" : overflow == Overflow::nan ? " to NaN" : ""), spec);
    }
  };
  const std::vector<Overflow> every = {Overflow::saturate, Overflow::infinity, Overflow::nan};
  const std::vector<Overflow> no_infinity = {Overflow::saturate, Overflow::nan};
  floats("e5m2", 5, 2, Specials::ieee, every);
  floats("e4m3fn", 4, 3, Specials::finite_nan, no_infinity);
  floats("e4m3", 4, 3, Specials::ieee, every);
  floats("e3m4", 3, 4, Specials::ieee, every);
  floats("e4m3fnuz", 4, 3, Specials::fnuz, no_infinity);
  floats("e5m2fnuz", 5, 2, Specials::fnuz, no_infinity);
  floats("e4m3b11fnuz", 4, 3, Specials::fnuz, no_infinity, 11);
  floats("e3m2fn", 3, 2, Specials::none, {Overflow::saturate});
  floats("e2m3fn", 2, 3, Specials::none, {Overflow::saturate});
  floats("e2m1fn", 2, 1, Specials::none, {Overflow::saturate});
  floats("binary8p4", 4, 3, Specials::p3109, every);
  floats("e4m0", 4, 0, Specials::none, {Overflow::saturate}, 8);  // no mantissa: codes are even by the exponent and its bias
  floats("e3m0", 3, 0, Specials::none, {Overflow::saturate});
  floats("e0m3", 0, 3, Specials::none, {Overflow::saturate});
  floats("bf16", 8, 7, Specials::ieee, every);
  floats("fp16", 5, 10, Specials::ieee, every);
  floats("tf32", 8, 10, Specials::ieee, {Overflow::infinity});
  floats("e6m15", 6, 15, Specials::ieee, {Overflow::infinity});
  floats("fp32", 8, 23, Specials::ieee, {Overflow::infinity, Overflow::saturate});
  FloatSpec flushed = float_spec(4, 3, Specials::ieee, Overflow::infinity),
            unsigned_float = float_spec(4, 4, Specials::ieee, Overflow::nan);
  flushed.flush_subnormals = true;
  unsigned_float.is_signed = false;
  add("e4m3 flushed", flushed);
  add("ue4m4", unsigned_float);
  unsigned_float.overflow = Overflow::saturate;
  add("ue4m4 saturating", unsigned_float);
  add("int8", IntegerSpec{8, 0, true, false});
  add("int4", IntegerSpec{4, 0, true, false});
  add("mxint8_element", IntegerSpec{8, 6, true, true});
  add("uint8", IntegerSpec{8, 0, false, false});
  add("fixed16.8", IntegerSpec{16, 8, true, false});
  add("int24", IntegerSpec{24, -3, true, true});
  add("e8m0fnu", powers_of_two());
  add("nf4", nf4());
  add("uneven", uneven());
  add("300 values", without_nan());
  return all;
}

uint32_t scrambled(uint64_t i) {  // any words, the same in each run
  uint64_t word = (i + 1) * 0x9E3779B97F4A7C15u;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  return static_cast<uint32_t>(word >> 32);
}

void add_with_neighbours(std::vector<float>& x, float value) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (float v : {value, std::nextafter(value, -infinity), std::nextafter(value, infinity)}) x.push_back(v);
}

// Numbers of the format (all of up to 16 bits), what lies halfway between two, the neighbours of these; and what any format must stand.
std::vector<float> probes(const Format& format) {
  const int64_t count = int64_t{1} << std::min(format.bits(), 16);
  std::vector<uint32_t> codes(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    codes[static_cast<size_t>(i)] = format.bits() <= 16 ? static_cast<uint32_t>(i) : scrambled(static_cast<uint64_t>(i));
  std::vector<uint8_t> narrow(codes.begin(), codes.end());
  std::vector<uint16_t> half(codes.begin(), codes.end());
  std::vector<float> values(codes.size()), x;
  const void* given = format.code_bytes() == 1   ? static_cast<const void*>(narrow.data())
                      : format.code_bytes() == 2 ? static_cast<const void*>(half.data())
                                                 : codes.data();
  decode(format, given, Dtype::float32, values.data(), count, 1);
  values.erase(std::remove_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); }), values.end());
  std::sort(values.begin(), values.end());
  for (size_t i = 0; i < values.size(); ++i) {
    add_with_neighbours(x, values[i]);
    if (i > 0) add_with_neighbours(x, static_cast<float>((static_cast<double>(values[i - 1]) + static_cast<double>(values[i])) / 2));
  }
  const float beyond = format.max() * 1.0625f;
  for (float edge : {beyond, format.max() * 2, format.smallest_positive() / 2, format.smallest_positive() / 3}) {
    add_with_neighbours(x, edge);
    add_with_neighbours(x, -edge);
  }
  for (uint32_t word :
       {0u, 1u, 2u, 0x007fffffu, 0x00800000u, 0x3f800000u, 0x7f7fffffu, 0x7f800000u, 0x7f800001u, 0x7fa00123u, 0x7fc00000u, 0x7fffffffu})
    for (uint32_t sign : {0u, 0x80000000u}) x.push_back(float_of(word | sign));
  for (uint64_t i = 0; i < 3000; ++i) x.push_back(float_of(scrambled(i)));
  return x;
}

element::KernelFormat numbers_of(const Format& format) {
  element::KernelFormat numbers;
  const std::string bytes = kernel_numbers(format);
  CHECK_EQUAL(bytes.size(), sizeof numbers);
  std::memcpy(static_cast<void*>(&numbers), bytes.data(), sizeof numbers);
  return numbers;
}
// Aligned as a device's allocations are.
std::vector<double> tables_of(const Format& format) {
  const std::string bytes = kernel_tables(format);
  std::vector<double> memory(bytes.size() / 8 + 1);
  std::memcpy(memory.data(), bytes.data(), bytes.size());
  return memory;
}

template <typename Body> void as_threads(int64_t threads, Body body) {
  for (int64_t thread = 0; thread < threads; ++thread) body(thread, threads);
}

template <Dtype v> struct OfDtype {
  static constexpr Dtype value = v;
};
template <typename Body> void with_dtype(Dtype dtype, Body body) {
  if (dtype == Dtype::float32) body(OfDtype<Dtype::float32>());
  if (dtype == Dtype::float64) body(OfDtype<Dtype::float64>());
  if (dtype == Dtype::bfloat16) body(OfDtype<Dtype::bfloat16>());
  if (dtype == Dtype::float16) body(OfDtype<Dtype::float16>());
}

template <Dtype dtype>
void round_as(Rounding mode, const element::KernelFormat& format, const void* tables, const element::Elements& e, const Random& random,
              int64_t threads) {
  as_threads(threads, [&](int64_t thread, int64_t all) {
    switch (mode) {
      case Rounding::nearest_even: return element::round_elements<dtype, Rounding::nearest_even>(format, tables, e, thread, all);
      case Rounding::nearest_away: return element::round_elements<dtype, Rounding::nearest_away>(format, tables, e, thread, all);
      case Rounding::toward_zero: return element::round_elements<dtype, Rounding::toward_zero>(format, tables, e, thread, all);
      case Rounding::up: return element::round_elements<dtype, Rounding::up>(format, tables, e, thread, all);
      case Rounding::down: return element::round_elements<dtype, Rounding::down>(format, tables, e, thread, all);
      case Rounding::to_odd: return element::round_elements<dtype, Rounding::to_odd>(format, tables, e, thread, all);
      case Rounding::stochastic: return element::round_stochastic<dtype>(format, tables, e, random, thread, all);
    }
  });
}

// Bytes at a chosen alignment, with bytes behind them that nobody may touch.
class Memory {
 public:
  Memory(int64_t bytes, int64_t offset) : bytes_(bytes), offset_(offset), all_(static_cast<size_t>(bytes + offset + 64) / 16 + 1) {
    std::memset(all_.data(), 0xa5, all_.size() * 16);
  }
  Memory(int64_t bytes, int64_t offset, const void* from) : Memory(bytes, offset) {
    if (bytes) std::memcpy(at(), from, static_cast<size_t>(bytes));
  }
  void* at() { return begin() + offset_; }
  bool untouched_outside() {
    const unsigned char* end = begin() + all_.size() * 16;
    const auto kept = [](const unsigned char* first, const unsigned char* last) {
      return std::all_of(first, last, [](unsigned char byte) { return byte == 0xa5; });
    };
    return kept(begin(), begin() + offset_) && kept(begin() + offset_ + bytes_, end);
  }
  bool equals(Memory& other) {
    return bytes_ == other.bytes_ && (bytes_ == 0 || std::memcmp(at(), other.at(), static_cast<size_t>(bytes_)) == 0);
  }
  // All NaN of a type as one: the payload of a product of two NaN is the compiler's choice on the host.
  void forget_payloads(Dtype dtype) {
    const int64_t size = bytes_of(dtype);
    const uint64_t infinity = dtype == Dtype::float64    ? uint64_t{0x7ff} << 52
                              : dtype == Dtype::float32  ? 0x7f800000u
                              : dtype == Dtype::bfloat16 ? 0x7f80u
                                                         : 0x7c00u;
    const uint64_t nan = infinity | 1, sign = uint64_t{1} << (8 * size - 1);
    for (int64_t i = 0; i < bytes_; i += size) {
      uint64_t word = 0;
      unsigned char* place = static_cast<unsigned char*>(at()) + i;
      std::memcpy(&word, place, static_cast<size_t>(size));
      if ((word & ~sign) > infinity) std::memcpy(place, &nan, static_cast<size_t>(size));
    }
  }
  // First differing place, in elements of `size` bytes.
  std::string difference(Memory& other, int64_t size) {
    for (int64_t i = 0; i < bytes_ / size; ++i) {
      uint64_t mine = 0, theirs = 0;
      std::memcpy(&mine, static_cast<unsigned char*>(at()) + i * size, static_cast<size_t>(size));
      std::memcpy(&theirs, static_cast<unsigned char*>(other.at()) + i * size, static_cast<size_t>(size));
      if (mine != theirs) return "element " + std::to_string(i) + " is " + std::to_string(mine) + ", by vectors " + std::to_string(theirs);
    }
    return "equal";
  }

 private:
  struct alignas(16) Sixteen {
    unsigned char bytes[16];
  };
  unsigned char* begin() { return reinterpret_cast<unsigned char*>(all_.data()); }
  int64_t bytes_, offset_;
  std::vector<Sixteen> all_;
};

struct Case {
  const Named& named;
  Rounding mode;
  Random random;
  Dtype dtype;
  int64_t threads = 40, offset = 0;
};

void compare(const Case& c, const void* x, int64_t count) {
  const Format& format = c.named.format;
  if (c.dtype == Dtype::float64 && format.grid() && format.mantissa_bits() > 21) return;
  const element::KernelFormat numbers = numbers_of(format);
  const std::vector<double> tables = tables_of(format);
  const int64_t bytes = count * bytes_of(c.dtype), code_bytes = count * format.code_bytes();
  Memory given(bytes, c.offset, x), got(bytes, c.offset), want(bytes, 0);
  quantize(format, c.mode, c.random, c.dtype, x, want.at(), count, 1);
  Memory codes(code_bytes, c.offset), want_codes(code_bytes, 0);
  bool refused = false;
  try {
    encode(format, c.mode, c.random, c.dtype, x, want_codes.at(), count, 1);
  } catch (const slipstick::Error&) {
    refused = true;  // what NaN become is then nobody's promise
  }
  uint32_t nan = 0;
  const bool aligned = c.offset % 16 == 0;
  with_dtype(c.dtype, [&](auto type) {
    constexpr Dtype dtype = decltype(type)::value;
    round_as<dtype>(c.mode, numbers, tables.data(), {given.at(), got.at(), nullptr, count, aligned, nullptr}, c.random, c.threads);
    round_as<dtype>(c.mode, numbers, tables.data(), {given.at(), nullptr, codes.at(), count, aligned, &nan}, c.random, c.threads);
  });
  const std::string where = c.named.name + ", mode " + std::to_string(static_cast<int>(c.mode)) + ", bits " +
                            std::to_string(c.random.bits) + ", dtype " + std::to_string(static_cast<int>(c.dtype)) + ", count " +
                            std::to_string(count);
  if (!got.equals(want)) check::fail(__FILE__, __LINE__, where + ": " + got.difference(want, bytes_of(c.dtype)));
  if (!refused && !codes.equals(want_codes))
    check::fail(__FILE__, __LINE__, where + ": code of " + codes.difference(want_codes, format.code_bytes()));
  CHECK(!refused || nan > 0);
  CHECK(got.untouched_outside() && codes.untouched_outside());
  with_dtype(c.dtype, [&](auto type) {  // in place
    round_as<decltype(type)::value>(c.mode, numbers, tables.data(), {given.at(), given.at(), nullptr, count, aligned, nullptr}, c.random,
                                    c.threads);
  });
  CHECK(given.equals(want));
}

std::vector<Case> modes_of(const Named& named, Dtype dtype) {
  std::vector<Case> all;
  for (int mode = 0; mode < static_cast<int>(Rounding::stochastic); ++mode) all.push_back({named, static_cast<Rounding>(mode), {}, dtype});
  for (int bits : {8, 16, 32}) all.push_back({named, Rounding::stochastic, {0x123456789abcdefu, 7, bits}, dtype});
  return all;
}

std::vector<Named> few_formats() {
  std::vector<Named> few;
  for (Named& named : formats())
    if (named.name == "e4m3fn saturating" || named.name == "fp16" || named.name == "int8" || named.name == "uneven" ||
        named.name == "int24")
      few.push_back(named);
  return few;
}

// Numbers of 23 binades, of both signs.
std::vector<float> wave(int64_t count) {
  std::vector<float> x;
  for (int64_t i = 0; i < count; ++i)
    x.push_back(
        std::ldexp(static_cast<float>(static_cast<int32_t>(scrambled(static_cast<uint64_t>(i)))), static_cast<int>(i * 7 % 23) - 42));
  return x;
}

}  // namespace

TEST(every_number_midpoint_and_neighbour_in_every_mode) {
  for (const Named& named : formats()) {
    const std::vector<float> x = probes(named.format);
    for (const Case& c : modes_of(named, Dtype::float32)) compare(c, x.data(), static_cast<int64_t>(x.size()));
  }
}

TEST(all_inputs_of_16_bits) {
  std::vector<uint16_t> x(65536);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i);
  for (const Named& named : formats())
    for (Dtype dtype : {Dtype::bfloat16, Dtype::float16})
      for (const Case& c : modes_of(named, dtype))
        if (c.mode == Rounding::nearest_even || c.mode == Rounding::up || c.random.bits == 16) compare(c, x.data(), 65536);
}

TEST(float64_around_every_number_and_midpoint) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Named& named : formats()) {
    std::vector<double> x;
    for (float probe : probes(named.format)) {
      const double v = probe;
      for (double near : {v, std::nextafter(v, infinity), std::nextafter(v, -infinity)}) x.push_back(near);
    }
    for (uint64_t word :
         {0x7ff0000000000001u, 0x7ff4000012345678u, 0xfff8000000000000u, 0x47efffffefffffffu, 0x47f0000000000000u, uint64_t{1}})
      x.push_back(slipstick::double_of(word));
    if (x.size() > 100000) x.resize(100000);
    for (const Case& c : modes_of(named, Dtype::float64)) compare(c, x.data(), static_cast<int64_t>(x.size()));
  }
}

TEST(codes_decode_to_the_same_numbers) {
  for (const Named& named : formats()) {
    const Format& format = named.format;
    const element::KernelFormat numbers = numbers_of(format);
    const std::vector<double> tables = tables_of(format);
    for (int64_t count : {int64_t{0}, int64_t{5}, int64_t{70003}}) {
      std::vector<uint32_t> words(static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i)
        words[static_cast<size_t>(i)] = format.code_bytes() == 4 ? scrambled(static_cast<uint64_t>(i)) : static_cast<uint32_t>(i);
      std::vector<unsigned char> codes;
      for (uint32_t word : words)
        codes.insert(codes.end(), reinterpret_cast<unsigned char*>(&word), reinterpret_cast<unsigned char*>(&word) + format.code_bytes());
      for (Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::bfloat16, Dtype::float16})
        for (int64_t offset : {0, 8}) {
          Memory given(static_cast<int64_t>(codes.size()), offset, codes.data()), got(count * bytes_of(dtype), offset),
              want(count * bytes_of(dtype), 0);
          decode(format, codes.data(), dtype, want.at(), count, 1);
          with_dtype(dtype, [&](auto type) {
            as_threads(33, [&](int64_t thread, int64_t all) {
              element::decode_elements<decltype(type)::value>(numbers, tables.data(), given.at(), got.at(), count, offset == 0, thread,
                                                              all);
            });
          });
          if (!got.equals(want)) check::fail(__FILE__, __LINE__, named.name + ": " + got.difference(want, bytes_of(dtype)));
          CHECK(got.untouched_outside());
        }
    }
  }
}

TEST(threads_cover_every_tail_at_every_alignment) {
  const std::vector<float> numbers = wave(3000);
  const std::vector<double> doubles(numbers.begin(), numbers.end());
  std::vector<uint16_t> halves(numbers.size());
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(scrambled(i));
  for (const Named& named : few_formats())
    for (Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::bfloat16, Dtype::float16}) {
      const void* x = dtype == Dtype::float32   ? static_cast<const void*>(numbers.data())
                      : dtype == Dtype::float64 ? static_cast<const void*>(doubles.data())
                                                : halves.data();
      for (Case c : modes_of(named, dtype)) {
        if (c.mode != Rounding::nearest_even && c.mode != Rounding::stochastic) continue;
        for (int64_t count :
             {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 66, 127, 128, 129, 255, 256, 257, 300, 511, 513, 1025, 2999})
          for (int64_t offset : {0, 8}) {
            c.offset = offset;
            c.threads = count % 2 ? 1 : 96;
            compare(c, x, count);
          }
      }
    }
}

TEST(random_numbers_are_words_of_the_reference_generator_at_any_position) {
  for (int bits : {8, 16, 32})
    for (uint64_t position :
         {uint64_t{0}, uint64_t{63}, uint64_t{64}, uint64_t{255}, uint64_t{1000003}, (uint64_t{1} << 36) + 77, (uint64_t{1} << 62) + 201}) {
      const Random random{0xfedcba9876543210u, 0x89abcdef, bits};
      const uint64_t per_word = 32 / static_cast<uint64_t>(bits), tile = position / (64 * per_word), e = position % (64 * per_word);
      const uint64_t block = 16 * tile + e % 16;
      const auto words =
          slipstick::philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0x6c6f7762u, random.stream},
                                {static_cast<uint32_t>(random.seed), static_cast<uint32_t>(random.seed >> 32)});
      const uint64_t word = words[e / 16 % 4] >> (static_cast<uint64_t>(bits) * (e / 64));
      CHECK_EQUAL(element::random_number(random, position), static_cast<uint32_t>(word & ((uint64_t{1} << bits) - 1)));
    }
}

TEST(packed_codes_are_the_same_bytes) {
  for (int bits = 1; bits <= 8; ++bits)
    for (int64_t count : {0, 1, 2, 7, 8, 9, 15, 16, 17, 1000, 4097})
      for (int64_t offset : {0, 3}) {
        std::vector<uint8_t> codes(static_cast<size_t>(count));
        for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(scrambled(i));
        Memory given(count, offset, codes.data()), got(packed_bytes(count, bits), offset), want(packed_bytes(count, bits), 0);
        pack(codes.data(), static_cast<uint8_t*>(want.at()), count, bits, 1);
        as_threads(7, [&](int64_t thread, int64_t all) {
          element::pack_codes(static_cast<uint8_t*>(given.at()), static_cast<uint8_t*>(got.at()), count, bits, offset == 0, thread, all);
        });
        CHECK(got.equals(want) && got.untouched_outside());
        Memory back(count, offset), want_back(count, 0);
        unpack(static_cast<uint8_t*>(want.at()), static_cast<uint8_t*>(want_back.at()), count, bits, 1);
        as_threads(7, [&](int64_t thread, int64_t all) {
          element::unpack_codes(static_cast<uint8_t*>(got.at()), static_cast<uint8_t*>(back.at()), count, bits, offset == 0, thread, all);
        });
        CHECK(back.equals(want_back) && back.untouched_outside());
      }
}

namespace {

// As launch_blocks and group_kernel of lowbit.cu.
template <Dtype dtype, bool nearest_even> bool run_blocks(const element::ScaledElements& s, int64_t block_count) {
  if (element::fits_groups<dtype>(s)) {
    constexpr int n = element::kPerVector<dtype>;
    const int64_t lanes = s.blocks.block_columns / n;
    for (int64_t group = 0; group < s.e.count / n; group += lanes) {
      std::vector<float> all(static_cast<size_t>(lanes) * n);
      uint32_t most = 0;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        float v[n];
        most = std::max(most, element::load_in_block<dtype>(s, (group + lane) * n, v));
        std::copy(v, v + n, all.begin() + lane * n);
      }
      for (int64_t lane = 0; lane < lanes; ++lane) {
        float v[n];
        std::copy(all.begin() + lane * n, all.begin() + (lane + 1) * n, v);
        element::finish_in_block<dtype, nearest_even>(s, (group + lane) * n, most, lane == 0, v);
      }
    }
    return true;
  }
  std::fill(s.workspace, s.workspace + block_count, 0);
  as_threads(50, [&](int64_t thread, int64_t all) { element::find_magnitudes<dtype>(s, thread, all); });
  as_threads(50, [&](int64_t thread, int64_t all) { element::find_scales(s, block_count, thread, all); });
  as_threads(50, [&](int64_t thread, int64_t all) { element::round_with_scales<dtype, nearest_even>(s, thread, all); });
  return false;
}

struct BlockCase {
  Format element;
  Scaling scaling;
  Blocks blocks;
  Rounding mode;
  Random random;
  Dtype dtype;
};

bool compare_blocks(const BlockCase& c, const std::vector<float>& x, const std::string& where) {
  const int64_t count = c.blocks.outer * c.blocks.rows * c.blocks.columns, bytes = count * bytes_of(c.dtype);
  Memory given(bytes, 0);
  if (c.dtype == Dtype::float32) std::copy(x.begin(), x.end(), static_cast<float*>(given.at()));
  if (c.dtype == Dtype::float64) std::copy(x.begin(), x.end(), static_cast<double*>(given.at()));
  for (int64_t i = 0; i < count && bytes_of(c.dtype) == 2; ++i)
    static_cast<uint16_t*>(given.at())[i] =
        c.dtype == Dtype::bfloat16 ? element::to_bfloat16(x[static_cast<size_t>(i)]) : element::to_float16(x[static_cast<size_t>(i)]);
  const std::vector<double> element_tables = tables_of(c.element),
                            scale_tables = c.scaling.format ? tables_of(*c.scaling.format) : std::vector<double>();
  const int64_t scale_bytes = c.scaling.power_of_two ? 1 : c.scaling.format->code_bytes();
  const int64_t block_count = c.blocks.block_count();
  Memory y(bytes, 0), want(bytes, 0), scales(block_count * scale_bytes, 0), want_scales(block_count * scale_bytes, 0);
  Memory codes(count * c.element.code_bytes(), 0), want_codes(count * c.element.code_bytes(), 0), decoded(bytes, 0), want_decoded(bytes, 0);
  quantize_blocks(c.element, c.scaling, c.blocks, c.mode, c.random, c.dtype, given.at(), want.at(), want_codes.at(), want_scales.at(), 1);
  decode_blocks(c.element, c.scaling, c.blocks, want_codes.at(), want_scales.at(), c.dtype, want_decoded.at(), 1);

  element::ScaledElements s{};
  s.element = numbers_of(c.element);
  if (c.scaling.format) s.scale = numbers_of(*c.scaling.format);
  s.element_tables = element_tables.data();
  s.scale_tables = scale_tables.data();
  const std::string scaling = kernel_scaling(c.element, c.scaling);
  CHECK_EQUAL(scaling.size(), sizeof s.scaling);
  std::memcpy(&s.scaling, scaling.data(), sizeof s.scaling);
  s.tensor_scale = &c.scaling.tensor_scale;
  s.blocks = c.blocks;
  s.blocks.block_rows = std::min(c.blocks.block_rows, c.blocks.rows);
  s.blocks.block_columns = std::min(c.blocks.block_columns, c.blocks.columns);
  s.strips = (s.blocks.rows + s.blocks.block_rows - 1) / s.blocks.block_rows;
  s.across = (s.blocks.columns + s.blocks.block_columns - 1) / s.blocks.block_columns;
  s.e = {given.at(), y.at(), codes.at(), count, true, nullptr};
  s.scales = scales.at();
  std::vector<uint32_t> workspace(static_cast<size_t>(block_count), 0xa5a5a5a5u);
  s.workspace = workspace.data();
  s.rounding = c.mode;
  s.random = c.random;
  bool grouped = false;
  with_dtype(c.dtype, [&](auto type) {
    constexpr Dtype dtype = decltype(type)::value;
    grouped = c.mode == Rounding::nearest_even ? run_blocks<dtype, true>(s, block_count) : run_blocks<dtype, false>(s, block_count);
  });
  y.forget_payloads(c.dtype);
  want.forget_payloads(c.dtype);
  if (!y.equals(want)) check::fail(__FILE__, __LINE__, where + ": y: " + y.difference(want, bytes_of(c.dtype)));
  if (!scales.equals(want_scales)) check::fail(__FILE__, __LINE__, where + ": scales: " + scales.difference(want_scales, scale_bytes));
  if (!codes.equals(want_codes))
    check::fail(__FILE__, __LINE__, where + ": codes: " + codes.difference(want_codes, c.element.code_bytes()));
  s.e = {want_codes.at(), decoded.at(), nullptr, count, true, nullptr};
  s.scales = want_scales.at();
  with_dtype(c.dtype, [&](auto type) {
    as_threads(50, [&](int64_t thread, int64_t all) { element::decode_scaled<decltype(type)::value>(s, thread, all); });
  });
  decoded.forget_payloads(c.dtype);
  want_decoded.forget_payloads(c.dtype);
  if (!decoded.equals(want_decoded))
    check::fail(__FILE__, __LINE__, where + ": decoded: " + decoded.difference(want_decoded, bytes_of(c.dtype)));
  for (Memory* memory : {&y, &scales, &codes, &decoded}) CHECK(memory->untouched_outside());
  return grouped;
}

// Numbers of every size, and blocks of zeros, subnormals, infinities and NaN among them.
std::vector<float> eventful(int64_t count) {
  std::vector<float> x = wave(count);
  for (int64_t i = 0; i < count; ++i) {
    float& v = x[static_cast<size_t>(i)];
    const int64_t stretch = i / 40 % 11;
    if (stretch == 3) v = 0;
    if (stretch == 5) v = std::ldexp(v, -140);
    if (stretch == 7) v = std::ldexp(v, 112);
    if (i % 1571 == 900) v = float_of(0xffa01234u);
    if (i % 1789 == 1100) v = -std::numeric_limits<float>::infinity();
  }
  return x;
}

}  // namespace

TEST(blocks_of_every_shape_scale_and_rule) {
  const auto saturating = [](int e, int m, Specials specials) { return Format(float_spec(e, m, specials, Overflow::saturate)); };
  const Format e2m1 = saturating(2, 1, Specials::none), e4m3 = saturating(4, 3, Specials::finite_nan), int8(IntegerSpec{8, 6, true, true}),
               book{uneven()}, e5m2(float_spec(5, 2, Specials::ieee, Overflow::infinity));
  const auto scale = std::make_shared<const Format>(e4m3),
             wide = std::make_shared<const Format>(float_spec(8, 7, Specials::ieee, Overflow::infinity)),
             powers = std::make_shared<const Format>(powers_of_two());
  struct Kind {
    const char* name;
    const Format& element;
    Scaling scaling;
  };
  const std::vector<Kind> kinds = {
      {"mxfp4", e2m1, {}},
      {"mxfp8 ceil", e4m3, {true, ScaleRule::ceil, nullptr, 1}},
      {"mxfp8 even", e4m3, {true, ScaleRule::even, nullptr, 1}},
      {"mxfp8 e5m2 rceil", e5m2, {true, ScaleRule::rceil, nullptr, 1}},
      {"mxint8 even", int8, {true, ScaleRule::even, nullptr, 1}},
      {"code book", book, {true, ScaleRule::floor, nullptr, 1}},
      {"nvfp4", e2m1, {false, ScaleRule::floor, scale, 0.0371f}},
      {"bf16 scales", int8, {false, ScaleRule::floor, wide, 1}},
      {"a code book of scales", e4m3, {false, ScaleRule::floor, powers, 1}},
  };
  const Blocks shapes[] = {{1, 1, 1, 1, 32, false},    {1, 3, 64, 1, 32, false},   {1, 2, 100, 1, 32, false},    {2, 33, 5, 32, 1, false},
                           {1, 40, 50, 16, 16, false}, {2, 9, 31, 3, 7, false},    {1, 1, 4000, 1, 4000, false}, {1, 5, 2048, 1, 16, false},
                           {3, 70, 30, 32, 1, false},  {1, 1, 8224, 1, 32, false}, {1, 4, 512, 1, 128, false},   {3, 20, 16, 1, 16, true},
                           {2, 50, 7, 50, 1, false},   {1, 8, 64, 1, 4, false},    {1, 3, 96, 1, 48, false}};
  int64_t in_groups = 0, in_passes = 0;
  for (const Kind& kind : kinds)
    for (const Blocks& blocks : shapes) {
      const std::vector<float> x = eventful(blocks.outer * blocks.rows * blocks.columns);
      for (Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::float16, Dtype::float64})
        for (Rounding mode : {Rounding::nearest_even, Rounding::toward_zero, Rounding::stochastic}) {
          if (dtype != Dtype::float32 && mode == Rounding::toward_zero) continue;
          const std::string where = std::string(kind.name) + ", " + std::to_string(blocks.rows) + " x " + std::to_string(blocks.columns) +
                                    " by " + std::to_string(blocks.block_rows) + " x " + std::to_string(blocks.block_columns) + ", dtype " +
                                    std::to_string(static_cast<int>(dtype)) + ", mode " + std::to_string(static_cast<int>(mode));
          const bool grouped =
              compare_blocks({kind.element, kind.scaling, blocks, mode, Random{5, 6, blocks.rows % 2 ? 8 : 32}, dtype}, x, where);
          (grouped ? in_groups : in_passes) += 1;
        }
    }
  CHECK(in_groups > 100 && in_passes > 100);
}

TEST(the_scale_of_a_whole_tensor_is_from_its_greatest_finite_number) {
  std::vector<float> x = eventful(5000);
  for (int64_t count : {0, 1, 3, 64, 5000}) {
    uint32_t most = 0;
    as_threads(13, [&](int64_t thread, int64_t all) {
      element::raise_to(&most, element::greatest_finite<Dtype::float32>(x.data(), count, count % 4 == 0, thread, all));
    });
    const float greatest = greatest_magnitude(Dtype::float32, x.data(), count, 1);
    CHECK_EQUAL(float_of(most), greatest);
    const float scale = greatest / (6.0f * 448.0f);
    CHECK_EQUAL(element::whole_scale(most, 6.0f, 448.0f), scale == 0 ? 1.0f : scale);
  }
}

namespace {

template <Rounding mode, bool rounds> void multiply_as_blocks(const element::Product& p) {  // as product_kernel of matmul.cu
  float a[element::kSteps][element::kPaddedSide], b[element::kSteps][element::kSide];
  std::vector<element::Sums> sums(element::kProductThreads);
  for (int64_t row = 0; row < p.rows; row += element::kSide)
    for (int64_t column = 0; column < p.columns; column += element::kSide) {
      for (element::Sums& of_thread : sums) element::start_sums(p, of_thread);
      for (int64_t k = 0; k < p.inner; k += element::kSteps) {
        for (int thread = 0; thread < element::kProductThreads; ++thread) element::load_steps(p, row, column, k, thread, a, b);
        for (int thread = 0; thread < element::kProductThreads; ++thread)
          element::add_steps<mode, rounds>(p, k, thread, a, b, sums[static_cast<size_t>(thread)]);
      }
      for (int thread = 0; thread < element::kProductThreads; ++thread)
        element::store_sums<mode, rounds>(p, row, column, thread, sums[static_cast<size_t>(thread)]);
    }
}

void multiply_as_blocks(Rounding mode, const element::Product& p) {
  switch (mode) {
    case Rounding::nearest_even: return multiply_as_blocks<Rounding::nearest_even, true>(p);
    case Rounding::nearest_away: return multiply_as_blocks<Rounding::nearest_away, true>(p);
    case Rounding::toward_zero: return multiply_as_blocks<Rounding::toward_zero, true>(p);
    case Rounding::up: return multiply_as_blocks<Rounding::up, true>(p);
    case Rounding::down: return multiply_as_blocks<Rounding::down, true>(p);
    default: return multiply_as_blocks<Rounding::to_odd, true>(p);
  }
}

}  // namespace

TEST(products_sum_in_order_whatever_the_tiles) {
  const int64_t sizes[][3] = {{1, 1, 1}, {3, 19, 5}, {64, 16, 64}, {65, 33, 130}, {7, 0, 9}, {100, 100, 63}};
  for (const auto& [rows, inner, columns] : sizes) {
    std::vector<float> a = wave(rows * inner), b = wave(inner * columns);
    for (float& v : a) v = std::ldexp(v, -8);
    if (a.size() > 50) a[37] = std::numeric_limits<float>::infinity();
    if (b.size() > 50) b[20] = float_of(0x7fc00000u);
    const int64_t bytes = rows * columns * 4;
    for (const Named& named : formats()) {
      if (!named.format.grid()) continue;
      for (int mode = 0; mode < static_cast<int>(Rounding::stochastic); ++mode) {
        const int64_t every = mode == 0 ? 1 : mode == 1 ? 16 : mode == 2 ? 0 : mode;
        Memory got(bytes, 0), want(bytes, 0);
        matmul(named.format, static_cast<Rounding>(mode), every, a.data(), b.data(), static_cast<float*>(want.at()), rows, inner, columns,
               1);
        multiply_as_blocks(static_cast<Rounding>(mode),
                           {a.data(), b.data(), static_cast<float*>(got.at()), rows, inner, columns, every, numbers_of(named.format).grid});
        got.forget_payloads(Dtype::float32);
        want.forget_payloads(Dtype::float32);
        if (!got.equals(want))
          check::fail(__FILE__, __LINE__, named.name + ", mode " + std::to_string(mode) + ": " + got.difference(want, 4));
        CHECK(got.untouched_outside());
      }
    }
    Memory got(bytes, 0), want(bytes, 0);
    matmul_float32(a.data(), b.data(), static_cast<float*>(want.at()), rows, inner, columns, 1);
    multiply_as_blocks<Rounding::nearest_even, false>({a.data(), b.data(), static_cast<float*>(got.at()), rows, inner, columns, 0, {}});
    got.forget_payloads(Dtype::float32);
    want.forget_payloads(Dtype::float32);
    CHECK(got.equals(want));
  }
}

namespace {

// Blocks of statistics_kernel of statistics.cu, threads one after the other between two waits.
template <Dtype dtype>
Statistics statistics_by_blocks(const Case& c, const element::KernelFormat& numbers, const void* memory, const void* x, void* y,
                                int64_t count) {
  std::vector<double> found(static_cast<size_t>(element::statistics_bytes(count)) / 8, 0.0);
  auto* const totals = reinterpret_cast<element::Totals*>(found.data());
  const element::Looked all{x, y, count, totals, reinterpret_cast<double*>(totals + 1)};
  const element::Tables tables(numbers, memory);
  for (int64_t task = 0; task < element::tasks_of(count); ++task) {
    element::Looking shared;
    std::memset(static_cast<void*>(&shared), 0xa5, sizeof shared);  // as shared memory is: anything
    std::vector<element::Finds> finds(element::kLookers, element::Finds{});
    double sums[element::kSums] = {};
    const int64_t begin = task * element::kTask, end = std::min(begin + element::kTask, count);
    const auto each = [](int threads, auto step) {
      for (int thread = 0; thread < threads; ++thread) step(thread);
    };
    each(element::kLookers, [&](int thread) { element::clear(thread, shared); });
    int buffer = 0;
    for (int64_t first = begin; first < end; first += element::kLooked, buffer ^= 1) {
      each(element::kLookers, [&](int thread) {
        element::look<dtype>(numbers, tables, all, c.mode, c.random, first, buffer, thread, shared, finds[static_cast<size_t>(thread)]);
      });
      each(element::kSums, [&](int thread) { element::add_looked(buffer, thread, shared, &sums[thread]); });
    }
    std::copy(sums, sums + element::kSums, all.sums + task * element::kSums);
    each(element::kLookers, [&](int thread) { element::gather_finds(finds[static_cast<size_t>(thread)], shared); });
    each(element::kLookers, [&](int thread) { element::add_to_totals(all, thread, shared); });
  }
  return element::statistics_of(found.data(), count);
}

void compare_statistics(const Case& c, const void* x, int64_t count) {
  const Format& format = c.named.format;
  if (c.dtype == Dtype::float64 && format.grid() && format.mantissa_bits() > 21) return;
  const int64_t bytes = count * bytes_of(c.dtype);
  Memory given(bytes, 0, x), got(bytes, 0), want(bytes, 0);
  const Statistics right = quantize_with_statistics(format, c.mode, c.random, c.dtype, given.at(), want.at(), count, 1);
  const element::KernelFormat numbers = numbers_of(format);
  const std::vector<double> tables = tables_of(format);
  with_dtype(c.dtype, [&](auto type) {
    constexpr Dtype dtype = decltype(type)::value;
    const Statistics all = statistics_by_blocks<dtype>(c, numbers, tables.data(), given.at(), got.at(), count);
    CHECK_EQUAL(all.count, right.count);
    CHECK_EQUAL(all.nan, right.nan);
    CHECK_EQUAL(all.infinite, right.infinite);
    CHECK_EQUAL(all.zero, right.zero);
    CHECK_EQUAL(all.saturated, right.saturated);
    CHECK_EQUAL(all.zeroed, right.zeroed);
    CHECK_EQUAL(all.subnormal, right.subnormal);
    for (const auto& [mine, theirs] : {std::pair{all.signal, right.signal}, std::pair{all.noise, right.noise},
                                       std::pair{all.max_error, right.max_error}, std::pair{all.max_ulp_error, right.max_ulp_error}}) {
      if (slipstick::bits_of(mine) != slipstick::bits_of(theirs))
        check::fail(__FILE__, __LINE__,
                    c.named.name + ", mode " + std::to_string(static_cast<int>(c.mode)) + ", count " + std::to_string(count) + ": " +
                        std::to_string(mine) + ", by vectors " + std::to_string(theirs));
    }
    CHECK(std::equal(all.exponents, all.exponents + 256, right.exponents));
    CHECK(got.equals(want) && got.untouched_outside());
    statistics_by_blocks<dtype>(c, numbers, tables.data(), given.at(), given.at(), count);  // in place
    CHECK(given.equals(want));
  });
}

}  // namespace

TEST(statistics_are_the_same_counts_and_the_same_sums) {
  static_assert(element::kTask == kTaskElements, "sums of another order");
  std::vector<float> x = wave(200'000);
  for (size_t i = 0; i < x.size(); i += 997) x[i] = float_of(scrambled(i));  // among them NaN, infinities, subnormals
  for (const Named& named : formats()) {
    const std::vector<float> all = probes(named.format);
    for (const Case& c : modes_of(named, Dtype::float32)) compare_statistics(c, all.data(), static_cast<int64_t>(all.size()));
  }
  const std::vector<Named> few = few_formats();
  for (const Named& named : few) {
    for (const Case& c : modes_of(named, Dtype::float32)) compare_statistics(c, x.data(), static_cast<int64_t>(x.size()));
    for (Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::bfloat16, Dtype::float16})
      for (const Case& c : modes_of(named, dtype))
        for (int64_t count : {0, 1, 15, 16, 17, 63, 65, 257, 1023, 1024, 1025, 2049}) compare_statistics(c, x.data(), count);
  }
  for (const Case& c : modes_of(few[0], Dtype::float32))
    for (int64_t count : {65'535, 65'536, 65'537, 131'072}) compare_statistics(c, x.data(), count);
}
