// Scaled formats: blocks, their scales, and the elements under them.
//
// A strip of block_rows rows is cut into panels of whole blocks that fit a cache: greatest magnitudes first, then scales, then the elements row by
// row. MX blocks in a row with nearest even take a kernel that does all three at once.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "lowbit/element.h"
#include "lowbit/elements.h"
#include "slipstick/error.h"
#include "slipstick/threads.h"

namespace slipstick::lowbit {
namespace {

constexpr int64_t kPanelElements = 8192;  // 32 KiB of float32

uint32_t bits_of(float x) {
  uint32_t word;
  std::memcpy(&word, &x, 4);
  return word;
}
float float_of(uint32_t word) {
  float x;
  std::memcpy(&x, &word, 4);
  return x;
}
// exponent: -127 to 127.
float power_of_two(int exponent) { return float_of(exponent < -126 ? 0x400000u : static_cast<uint32_t>(exponent + 127) << 23); }
int64_t blocks_in(int64_t length, int64_t block) { return length / block + (length % block != 0); }

void store_code(void* codes, int bytes, int64_t i, uint32_t code) {
  std::memcpy(static_cast<unsigned char*>(codes) + i * bytes, &code, bytes);
}
uint32_t load_code(const void* codes, int bytes, int64_t i) {
  uint32_t code = 0;
  std::memcpy(&code, static_cast<const unsigned char*>(codes) + i * bytes, bytes);
  return code;
}

// What to add to the word of a normal magnitude so that its exponent field is that of the rule's power of two.
uint32_t mantissa_limit(const Format& element, ScaleRule rule) {
  if (rule == ScaleRule::ceil) return 0x7fffff;
  if (rule == ScaleRule::even) {
    const int bits = element.mantissa_bits() - (element.grid() && element.grid()->twos_complement);  // an integer has no hidden bit
    return bits < 23 ? 1u << (22 - bits) : 0;
  }
  if (rule == ScaleRule::rceil) return 0x7fffff - (bits_of(element.max()) & 0x7fffff);
  return 0;
}

// The scale of a block as a number, and its code.
struct Scale {
  float factor;
  uint32_t code;
};

class Scaler {
 public:
  Scaler(const Format& element, const Scaling& scaling)
      : scaling_(scaling), greatest_(element.max()), exponent_(std::ilogb(element.max())), limit_(mantissa_limit(element, scaling.rule)) {}

  int exponent() const { return exponent_; }
  uint32_t limit() const { return limit_; }

  // Of many blocks at once. codes may be null.
  void of_magnitudes(const uint32_t* magnitudes, int64_t count, float* factors, uint32_t* codes) const {
    if (scaling_.power_of_two) {
      for (int64_t i = 0; i < count; ++i) {
        const Scale scale = magnitudes[i] > 0x7f800000u ? of_nan() : of_power(magnitudes[i]);
        factors[i] = scale.factor;
        if (codes) codes[i] = scale.code;
      }
      return;
    }
    const Format& format = *scaling_.format;
    float wanted[kBlock];
    unsigned char narrow[4 * kBlock];
    for (int64_t start = 0; start < count; start += kBlock) {
      const int64_t length = std::min(kBlock, count - start);
      active_block_kernels().ratios(magnitudes + start, greatest_, scaling_.tensor_scale, format.max(), wanted, length);
      if (codes) encode_block(format, Rounding::nearest_even, Random{}, wanted, narrow, 0, length);
      round_block(format, Rounding::nearest_even, Random{}, wanted, wanted, 0, length);
      for (int64_t i = 0; i < length; ++i) factors[start + i] = wanted[i] * scaling_.tensor_scale;
      for (int64_t i = 0; codes && i < length; ++i) {
        const bool nan = magnitudes[start + i] > 0x7f800000u;
        codes[start + i] = nan ? of_nan().code : load_code(narrow, format.code_bytes(), i);
      }
    }
  }
  float factor_of_code(uint32_t code) const {
    if (scaling_.power_of_two) return code == 255 ? std::numeric_limits<float>::quiet_NaN() : power_of_two(static_cast<int>(code) - 127);
    float value;
    decode_block(*scaling_.format, &code, &value, 1);
    return value * scaling_.tensor_scale;
  }
  int code_bytes() const { return scaling_.power_of_two ? 1 : scaling_.format->code_bytes(); }

 private:
  Scale of_nan() const {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    if (scaling_.power_of_two) return {nan, 255};
    return {nan, scaling_.format->has_nan() ? static_cast<uint32_t>(scaling_.format->nan_code()) : 0};
  }
  Scale of_power(uint32_t magnitude) const {
    int down = 0;  // subnormal magnitudes are made normal first
    if (magnitude < 0x800000u) {
      if (magnitude == 0) return {power_of_two(-127), 0};
      magnitude = bits_of(std::ldexp(float_of(magnitude), 32));
      down = 32;
    }
    const int field = static_cast<int>((std::min(magnitude, 0x7f800000u) + limit_) >> 23);
    const int power = std::max(-127, std::min(127, field - 127 - down - exponent_));
    return {power_of_two(power), static_cast<uint32_t>(power + 127)};
  }

  const Scaling& scaling_;
  float greatest_;
  int exponent_;
  uint32_t limit_;
};

void check(const char* where, const Format& element, const Scaling& scaling, const Blocks& blocks, const Random& random, Dtype dtype) {
  check_request(where, element, random, dtype, 0);
  const std::string name(where);
  if (blocks.outer < 0 || blocks.rows < 0 || blocks.columns < 0)
    throw Error(ErrorKind::invalid_argument, name + ": a size is negative; expected 0 or more");
  if (blocks.block_rows < 1 || blocks.block_columns < 1)
    throw Error(ErrorKind::invalid_argument,
                name + ": block is " + std::to_string(std::min(blocks.block_rows, blocks.block_columns)) + "; expected at least 1");
  if (!scaling.power_of_two && !scaling.format) throw Error(ErrorKind::invalid_argument, name + ": scaling has no format");
  if (scaling.power_of_two && !element.grid() && scaling.rule == ScaleRule::even)
    throw Error(ErrorKind::invalid_argument, name + ": rule is 'even' with a code book; expected a format with a mantissa");
}

// Rounds t in place, the element of t[0] standing at `position` of the array.
void round_at(const Format& element, Rounding rounding, const Random& random, float* t, int64_t position, int64_t count) {
  if (rounding != Rounding::stochastic) return round_block(element, rounding, random, t, t, 0, count);
  uint32_t numbers[kBlock + kTile];
  const int64_t aligned = position / kTile * kTile, skipped = position - aligned;
  active_kernels().random_bits({random.seed, random.stream, random.bits, static_cast<uint64_t>(aligned)}, numbers, skipped + count);
  if (const Grid* grid = element.grid()) return active_kernels().round_given(*grid, random.bits, numbers + skipped, t, t, count);
  round_codebook_given(element, random.bits, numbers + skipped, t, count);
}

struct Job {
  const Format& element;
  const Scaler& scaler;
  const Blocks& blocks;
  Rounding rounding;
  const Random& random;
  Dtype dtype;
  const void* x;
  void* y;
  void* codes;
  void* scales;
  std::atomic<int64_t>& nan;
};

// factors[i] of the column first + i, from one factor a block.
void spread(const std::vector<float>& factors, int64_t first, int64_t block, int64_t count, float* out) {
  for (int64_t i = 0; i < count;) {
    const int64_t index = (first + i) / block, end = std::min(count, (index + 1) * block - first);
    std::fill(out + i, out + end, factors[static_cast<size_t>(index)]);
    i = end;
  }
}

// Elements of a row of blocks, nearest even, where one kernel does all.
void round_row(const Grid& grid, const float* factors, int64_t width, const float* x, float* y, int64_t count, bool past_caches) {
  const BlockKernels& kernels = active_block_kernels();
  if (width == 1) return kernels.round_columns(grid, factors, x, y, count);
  const int64_t whole = count / width, done = whole * width;
  kernels.round_blocks(grid, factors, x, y, width, whole, past_caches);
  if (done < count) kernels.round_blocks(grid, factors + whole, x + done, y + done, count - done, 1, false);
}

// Columns [first, end) of the strip of rows [top, bottom) of one matrix, or of all if they share scales; first is a multiple of block_columns.
void do_panel(const Job& job, int64_t matrix, int64_t top, int64_t bottom, int64_t first, int64_t end) {
  const Blocks& blocks = job.blocks;
  const BlockKernels& kernels = active_block_kernels();
  const int64_t count = blocks_in(end - first, blocks.block_columns);
  const bool past_caches = job.x != job.y && blocks.outer * blocks.rows * blocks.columns * 4 > kCachedBytes;
  std::vector<uint32_t> magnitudes(static_cast<size_t>(count), 0);
  float block[kBlock], t[kBlock], factor[kBlock];
  const auto for_each_row = [&](auto body) {
    for (int64_t m = matrix; m < (blocks.shared ? blocks.outer : matrix + 1); ++m)
      for (int64_t row = top; row < bottom; ++row) body((m * blocks.rows + row) * blocks.columns);
  };
  for_each_row([&](int64_t row_start) {
    for (int64_t column = first; column < end;) {
      const int64_t index = (column - first) / blocks.block_columns, within = (column - first) % blocks.block_columns;
      int64_t length = std::min(kBlock, end - column);
      const int64_t whole = within == 0 ? length / blocks.block_columns : 0;
      length = whole > 0 ? whole * blocks.block_columns : std::min(length, blocks.block_columns - within);
      const float* v = load_block(job.dtype, job.x, row_start + column, length, block);
      uint32_t* to = magnitudes.data() + index;
      if (blocks.block_columns == 1) {
        kernels.max_magnitudes(v, to, length);
      } else if (whole > 0) {
        kernels.max_of_blocks(v, blocks.block_columns, to, whole);
      } else {
        kernels.max_of_blocks(v, length, to, 1);
      }
      column += length;
    }
  });
  std::vector<float> factors(static_cast<size_t>(count));
  const int64_t strips = blocks_in(blocks.rows, blocks.block_rows), across = blocks_in(blocks.columns, blocks.block_columns);
  const int64_t scale_start = (matrix * strips + top / blocks.block_rows) * across + first / blocks.block_columns;
  std::vector<uint32_t> scale_codes(static_cast<size_t>(job.scales ? count : 0));
  job.scaler.of_magnitudes(magnitudes.data(), count, factors.data(), job.scales ? scale_codes.data() : nullptr);
  if (job.scales) {
    for (int64_t i = 0; i < count; ++i)
      store_code(job.scales, job.scaler.code_bytes(), scale_start + i, scale_codes[static_cast<size_t>(i)]);
  }
  const Grid* grid = job.element.grid();
  // A quotient that float32 loses to 0 counts as its least number, which every such grid rounds to 0.
  const bool at_once = job.y && !job.codes && job.dtype == Dtype::float32 && job.rounding == Rounding::nearest_even && grid &&
                       (grid->quick || grid->counting) && grid->quantum >= 0x1p-148f;
  for_each_row([&](int64_t row_start) {
    if (at_once) {
      const float* from = static_cast<const float*>(job.x) + row_start + first;
      round_row(*grid, factors.data(), blocks.block_columns, from, static_cast<float*>(job.y) + row_start + first, end - first,
                past_caches);
      return;
    }
    for (int64_t column = first; column < end; column += kBlock) {
      const int64_t length = std::min(kBlock, end - column), at = row_start + column;
      spread(factors, column - first, blocks.block_columns, length, factor);
      kernels.divide(load_block(job.dtype, job.x, at, length, block), factor, t, length);
      round_at(job.element, job.rounding, job.random, t, at, length);
      if (job.codes) {
        unsigned char* to = static_cast<unsigned char*>(job.codes) + at * job.element.code_bytes();
        job.nan += encode_block(job.element, Rounding::nearest_even, Random{}, t, to, 0, length);
      }
      if (job.y) {
        kernels.multiply(t, factor, t, length);
        store_block(job.dtype, t, job.y, at, length);
      }
    }
  });
}

// Blocks in one row of float32 with E8M0 scales and nearest even: at once where the kernel can.
void do_row_of_blocks(const Job& job, int64_t first, int64_t end) {
  const Blocks& blocks = job.blocks;
  const int64_t width = blocks.block_columns;
  const float* x = static_cast<const float*>(job.x);
  float* y = static_cast<float*>(job.y);
  const bool past_caches = x != y && blocks.columns * 4 > kCachedBytes;
  std::vector<uint8_t> scales(static_cast<size_t>(blocks_in(end - first, width)));
  for (int64_t column = first; column < end;) {
    const int64_t whole = (end - column) / width;
    const int64_t done = active_block_kernels().scale_and_round(*job.element.grid(), job.scaler.exponent(), job.scaler.limit(), x + column,
                                                                y + column, scales.data(), width, whole, past_caches);
    if (job.scales) std::copy(scales.begin(), scales.begin() + done, static_cast<uint8_t*>(job.scales) + column / width);
    column += done * width;
    if (column < end) {
      const int64_t next = std::min(end, column + width);
      do_panel(job, 0, 0, 1, column, next);
      column = next;
    }
  }
}

uint32_t max_finite_magnitude(const float* x, int64_t count) {
  uint32_t greatest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t magnitude = bits_of(x[i]) & 0x7fffffff;
    if (magnitude < 0x7f800000u) greatest = std::max(greatest, magnitude);
  }
  return greatest;
}

}  // namespace

int64_t Blocks::block_count() const { return (shared ? 1 : outer) * blocks_in(rows, block_rows) * blocks_in(columns, block_columns); }

void quantize_blocks(const Format& element, const Scaling& scaling, const Blocks& given, Rounding rounding, const Random& random,
                     Dtype dtype, const void* x, void* y, void* codes, void* scales, int threads) {
  check("quantize", element, scaling, given, random, dtype);
  const Scaler scaler(element, scaling);
  Blocks blocks = given;
  blocks.block_rows = std::min(given.block_rows, std::max<int64_t>(1, given.rows));  // their product must fit
  blocks.block_columns = std::min(given.block_columns, std::max<int64_t>(1, given.columns));
  if (!blocks.shared && blocks.block_rows == 1 && blocks.columns % blocks.block_columns == 0) {  // rows join without a seam
    blocks.columns *= blocks.outer * blocks.rows;
    blocks.outer = blocks.rows = 1;
  }
  if (blocks.outer * blocks.rows * blocks.columns == 0) return;
  std::atomic<int64_t> nan{0};
  const Job job{element, scaler, blocks, rounding, random, dtype, x, y, codes, scales, nan};
  const ExactFloats exact;
  const Grid* grid = element.grid();
  const bool at_once = blocks.outer * blocks.rows == 1 && y && !codes && dtype == Dtype::float32 && scaling.power_of_two && grid &&
                       grid->quick && rounding == Rounding::nearest_even && (blocks.block_columns == 16 || blocks.block_columns == 32) &&
                       grid->overflow[0] == grid->max[0];
  // Panels of whole blocks, and tasks of panels or of whole strips, whichever is more.
  const int64_t width = std::max<int64_t>(1, kPanelElements / (blocks.block_rows * blocks.block_columns)) * blocks.block_columns;
  const int64_t strips = blocks_in(blocks.rows, blocks.block_rows), panels = blocks_in(blocks.columns, width);
  const int64_t matrices = blocks.shared ? 1 : blocks.outer;
  const int64_t panel_elements = blocks.outer / matrices * std::min(blocks.rows, blocks.block_rows) * std::min(blocks.columns, width);
  const int64_t per_task = std::max<int64_t>(1, kTaskElements / panel_elements);
  const int64_t all = matrices * strips * panels;
  parallel_for(blocks_in(all, per_task), threads, [&](int64_t task) {
    const int64_t last = std::min(all, (task + 1) * per_task);
    if (at_once) return do_row_of_blocks(job, task * per_task * width, std::min(blocks.columns, last * width));
    for (int64_t i = task * per_task; i < last; ++i) {
      const int64_t panel = i % panels, strip = i / panels % strips, matrix = i / panels / strips;
      do_panel(job, matrix, strip * blocks.block_rows, std::min(blocks.rows, (strip + 1) * blocks.block_rows), panel * width,
               std::min(blocks.columns, (panel + 1) * width));
    }
  });
  const bool scale_says_nan = scaling.power_of_two || scaling.format->has_nan();
  if (codes && nan > 0 && !element.has_nan() && !scale_says_nan)
    throw Error(ErrorKind::invalid_argument, "encode: x holds NaN, which neither element nor scale has a code for");
}

void decode_blocks(const Format& element, const Scaling& scaling, const Blocks& blocks, const void* codes, const void* scales, Dtype dtype,
                   void* y, int threads) {
  check("decode", element, scaling, blocks, Random{}, Dtype::float32);
  const Scaler scaler(element, scaling);
  const int64_t strips = blocks_in(blocks.rows, blocks.block_rows), across = blocks_in(blocks.columns, blocks.block_columns);
  const int64_t rows = blocks.outer * blocks.rows;
  if (rows * blocks.columns == 0) return;
  const int64_t per_task = std::max<int64_t>(1, kTaskElements / blocks.columns);
  const ExactFloats exact;
  parallel_for(blocks_in(rows, per_task), threads, [&](int64_t task) {
    std::vector<float> factors(static_cast<size_t>(across));
    float t[kBlock], factor[kBlock];
    for (int64_t row = task * per_task; row < std::min(rows, (task + 1) * per_task); ++row) {
      const int64_t start = ((blocks.shared ? 0 : row / blocks.rows) * strips + row % blocks.rows / blocks.block_rows) * across;
      for (int64_t i = 0; i < across; ++i)
        factors[static_cast<size_t>(i)] = scaler.factor_of_code(load_code(scales, scaler.code_bytes(), start + i));
      for (int64_t column = 0; column < blocks.columns; column += kBlock) {
        const int64_t length = std::min(kBlock, blocks.columns - column), at = row * blocks.columns + column;
        decode_block(element, static_cast<const unsigned char*>(codes) + at * element.code_bytes(), t, length);
        spread(factors, column, blocks.block_columns, length, factor);
        active_block_kernels().multiply(t, factor, t, length);
        store_block(dtype, t, y, at, length);
      }
    }
  });
}

std::string kernel_scaling(const Format& element, const Scaling& scaling) {
  check("quantize", element, scaling, Blocks{}, Random{}, Dtype::float32);
  const Scaler scaler(element, scaling);
  element::KernelScaling numbers;
  numbers.power_of_two = scaling.power_of_two;
  numbers.greatest = element.max();
  numbers.exponent = scaler.exponent();
  numbers.limit = scaler.limit();
  return std::string(reinterpret_cast<const char*>(&numbers), sizeof numbers);
}

float greatest_magnitude(Dtype dtype, const void* x, int64_t count, int threads) {
  check_request("greatest_magnitude", Format(IntegerSpec{8, 0, true, false}), Random{}, dtype, count);
  std::vector<uint32_t> most(static_cast<size_t>(blocks_in(count, kTaskElements)), 0);
  for_each_task(count, threads, [&](int64_t first, int64_t end) {
    float block[kBlock];
    uint32_t greatest = 0;
    for (int64_t start = first; start < end; start += kBlock) {
      const int64_t length = std::min(kBlock, end - start);
      const float* v = load_block(dtype, x, start, length, block);
      const uint32_t magnitude = active_block_kernels().max_magnitude(v, length);
      greatest = std::max(greatest, magnitude < 0x7f800000u ? magnitude : max_finite_magnitude(v, length));
    }
    most[static_cast<size_t>(first / kTaskElements)] = greatest;
  });
  const uint32_t greatest = most.empty() ? 0 : *std::max_element(most.begin(), most.end());
  return float_of(greatest);
}

}  // namespace slipstick::lowbit
