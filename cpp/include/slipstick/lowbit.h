// Any small number format, every rounding, exact, at the speed of a copy.
//
// Floor: an element is read once and written once (8 bytes for float32 in place of itself); rounding must hide behind that. Design:
//   1. A format is data. Format holds what a kernel needs as numbers: discarded bits, least exponent, greatest value, what overflow gives.
//      One kernel a rounding mode serves all formats, so a new format costs no code and no compile time.
//   2. Everything rounds from float32. bfloat16 and float16 widen exactly; float64 is first rounded to odd, which keeps every later rounding to
//      at most 22 bits exact (Boldo and Melquiond 2008).
//   3. Elements move in blocks that stay in the first-level cache: load, round, code, count. Large results go past the caches.
//   4. Integers and fixed point are floats that are subnormal throughout. What has no such structure (posits, NF4, powers) is a sorted code book:
//      each deterministic mode is a search among float32 cuts that are exact, because they are made from exact midpoints.
//   5. Random bits are Philox words at the element's position: results never depend on threads, chunks, instruction set or layout.
//
// Rounding. x lies between two neighbours of the format, exponents unbounded above; the mode picks one. Ties to even go to the even code. If the
// picked magnitude is beyond the greatest, overflow applies; modes that round it towards zero, and to_odd, give the greatest instead (IEEE 754,
// 7.4). An infinite x is overflow in every mode. NaN stays NaN in quantize, also where the format has none; encode refuses it there.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace slipstick::lowbit {

enum class Rounding : int { nearest_even, nearest_away, toward_zero, up, down, to_odd, stochastic };
constexpr int kRoundings = 7;

// What the codes of the greatest magnitudes mean.
enum class Specials : int {
  ieee,  // exponent all ones: infinity, and NaN where the mantissa is not 0
  finite_nan,  // magnitude all ones: NaN; no infinity ("fn")
  fnuz,  // the code of -0 is NaN; no infinity, no -0
  p3109,  // the code of -0 is NaN, magnitude all ones is infinity
  none,  // every code is a number
};
constexpr int kSpecials = 5;
enum class Overflow : int { saturate, infinity, nan };
constexpr int kOverflows = 3;
enum class Dtype : int { float32, float64, bfloat16, float16 };
constexpr int kDtypes = 4;
int64_t bytes_of(Dtype dtype);

struct FloatSpec {
  bool is_signed = true;
  int exponent_bits = 0, mantissa_bits = 0, bias = 0;
  Specials specials = Specials::ieee;
  bool flush_subnormals = false;  // results that would be subnormal become 0 after rounding
  Overflow overflow = Overflow::infinity;
};
// Two's complement multiples of 2^-fraction_bits, saturating. symmetric: the least code is not used.
struct IntegerSpec {
  int bits = 0, fraction_bits = 0;
  bool is_signed = true, symmetric = false;
};
// values[i] has the code codes[i]; values rise strictly and are finite. thresholds: empty, or one number between each two neighbours, which
// nearest modes compare with instead of the midpoint. nan_code: -1 where NaN has none. keep_nonzero: only 0 itself becomes 0 (posits).
struct CodebookSpec {
  std::vector<float> values;
  std::vector<uint32_t> codes;
  std::vector<double> thresholds;
  int bits = 0;
  int64_t nan_code = -1;
  bool keep_nonzero = false;
};

struct Grid;
struct Codebook;

// A format, checked. Throws Error{invalid_argument} with the reason where the description contradicts itself or reaches beyond float32: normal
// values must lie within float32's normal range, and a mantissa has at most 23 bits.
class Format {
 public:
  explicit Format(const FloatSpec& spec);
  explicit Format(const IntegerSpec& spec);
  explicit Format(const CodebookSpec& spec);

  int bits() const { return bits_; }
  int code_bytes() const { return bits_ <= 8 ? 1 : bits_ <= 16 ? 2 : 4; }
  bool has_nan() const { return nan_code_ >= 0; }
  int64_t nan_code() const { return nan_code_; }
  float max() const { return max_; }
  float min() const { return min_; }
  float smallest_positive() const { return smallest_positive_; }
  float smallest_normal() const { return smallest_normal_; }
  int mantissa_bits() const { return mantissa_bits_; }
  const Grid* grid() const { return grid_.get(); }  // null for a code book
  const Codebook* codebook() const { return codebook_.get(); }  // null for the others

 private:
  int bits_ = 0, mantissa_bits_ = 0;
  int64_t nan_code_ = -1;
  float max_ = 0, min_ = 0, smallest_positive_ = 0, smallest_normal_ = 0;
  std::shared_ptr<const Grid> grid_;
  std::shared_ptr<const Codebook> codebook_;
};

// Random bits of stochastic rounding: element i of the array takes the bits of position i of the stream (seed, stream). With f the distance to
// the lower neighbour as a share of the gap, the magnitude grows with probability floor(f 2^bits + 1/2) / 2^bits.
struct Random {
  uint64_t seed = 0;
  uint32_t stream = 0;
  int bits = 32;  // 8, 16 or 32
};

// y[i] = x[i] rounded to the format, i < count. y may be x. Values that dtype cannot hold (a greatest value finer than bfloat16) are rounded to it.
// Throws Error{invalid_argument} on negative count, other random bits, and Error{unsupported} for float64 with more than 21 mantissa bits.
void quantize(const Format& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* y, int64_t count,
              int threads);

// The codes of the same values, format.code_bytes() each, in the lowest bits. Throws as quantize does, and Error{invalid_argument} if x holds a
// NaN and the format has no code for it; codes are then unspecified.
void encode(const Format& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* codes, int64_t count,
            int threads);

// y[i] = the value of codes[i]; bits above format.bits() are ignored.
void decode(const Format& format, const void* codes, Dtype dtype, void* y, int64_t count, int threads);

// Codes of `bits` (1 to 8) bits side by side, the first in the lowest bits of the first byte; the last byte is filled up with zeros.
int64_t packed_bytes(int64_t count, int bits);
void pack(const uint8_t* codes, uint8_t* packed, int64_t count, int bits, int threads);
void unpack(const uint8_t* packed, uint8_t* codes, int64_t count, int bits, int threads);

// ---- scaled formats --------------------------------------------------------------------------------------------------------------------------

// How a block of elements gets its power of two (E8M0), from its greatest magnitude a and the greatest element m, e = floor(log2 m):
enum class ScaleRule : int {
  floor,  // 2^(floor(log2 a) - e): OCP MX 1.0, section 6.3; the greatest elements may saturate
  ceil,  // 2^(ceil(log2 a) - e)
  even,  // floor, after a was rounded to the mantissa bits of the element
  rceil,  // the least power of two with a / 2^k <= m
};
constexpr int kScaleRules = 4;
struct Scaling {
  bool power_of_two = true;  // by rule, code k + 127, held to -127..127; else a scale is a / m / tensor_scale rounded to `format`
  ScaleRule rule = ScaleRule::floor;
  std::shared_ptr<const Format> format;
  float tensor_scale = 1;
};
// An array [outer, rows, columns] in blocks of block_rows x block_columns; the last ones of a row or column may be smaller. shared: blocks at the same
// place of every [rows, columns] are one block.
struct Blocks {
  int64_t outer = 1, rows = 1, columns = 0, block_rows = 1, block_columns = 32;
  bool shared = false;
  int64_t block_count() const;  // scales: [outer, or 1 if shared, ceil(rows / block_rows), ceil(columns / block_columns)]
};

// Elements are rounded from x / s, computed once rounded in float32 (exactly for powers of two), with s the scale times tensor_scale, and come
// back times s. y (as x), codes (element codes) and scales (scale codes: bytes for powers of two, else of the scale format's size) may be null.
// A block with a NaN gets the scale NaN, if there is one, and only NaN; scales of 0 give zeros. Random bits are those of the element's position.
// Throws as quantize, and Error{invalid_argument} for empty blocks.
void quantize_blocks(const Format& element, const Scaling& scaling, const Blocks& blocks, Rounding rounding, const Random& random,
                     Dtype dtype, const void* x, void* y, void* codes, void* scales, int threads);
void decode_blocks(const Format& element, const Scaling& scaling, const Blocks& blocks, const void* codes, const void* scales, Dtype dtype,
                   void* y, int threads);

// Greatest finite |x|, 0 of none.
float greatest_magnitude(Dtype dtype, const void* x, int64_t count, int threads);

// ---- statistics ------------------------------------------------------------------------------------------------------------------------------

// What quantize did, counted in its own pass. Sums are taken in float64 in a fixed order, over the pairs of finite x and finite result.
struct Statistics {
  int64_t count = 0, nan = 0, infinite = 0;  // of x
  int64_t zero = 0;  // x that were 0
  int64_t saturated = 0;  // x beyond the greatest number, infinity included
  int64_t zeroed = 0;  // x that were not 0 and became 0
  int64_t subnormal = 0;  // results below the smallest normal, not 0; 0 for code books
  double signal = 0, noise = 0;  // sums of x^2 and of (result - x)^2
  double max_ulp_error = 0;  // |result - x| in units of the format's last place at x, of x that are not beyond; 0 for code books
  double max_error = 0;
  int64_t exponents[256] = {};  // x by float32's exponent field: floor(log2 |x|) + 127; 0 for zeros and subnormals
};
// y may be null, and may be x.
Statistics quantize_with_statistics(const Format& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* y,
                                    int64_t count, int threads);

// ---- products with a low-bit accumulator ------------------------------------------------------------------------------------------------------

// c[i, j]: the accumulator starts at 0 and takes k = 0, 1, ... in order: fma(a[i, k], b[k, j], accumulator) in float32, rounded to the format after
// each round_every steps and after the last; round_every <= 0: only after the last. Zeros of c are +0. All arrays row-major and contiguous, c not a or b.
// Exact to that definition. Throws Error{unsupported} for stochastic rounding and code books, Error{invalid_argument} on negative sizes.
void matmul(const Format& accumulator, Rounding rounding, int64_t round_every, const float* a, const float* b, float* c, int64_t rows,
            int64_t inner, int64_t columns, int threads);
// The same without any rounding but float32's own: what the others are measured against.
void matmul_float32(const float* a, const float* b, float* c, int64_t rows, int64_t inner, int64_t columns, int threads);

// ---- other devices ---------------------------------------------------------------------------------------------------------------------------

// A format and a scaling as kernels elsewhere take them (lowbit_cuda.h): bytes that only this version understands. numbers go by value; tables, which
// only code books have, into the memory of the device.
std::string kernel_numbers(const Format& format);
std::string kernel_tables(const Format& format);
std::string kernel_scaling(const Format& element, const Scaling& scaling);

}  // namespace slipstick::lowbit
