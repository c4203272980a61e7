// The Hadamard transform of a block of rows, and the signed sums of some of its rows: one step of the streamed transform of sketch.cpp.
//
// The 9 levels of butterflies run as three passes of radix 8. The first reads the rows of A where they lie, 8 at a time in permuted order and
// with signs, and writes panels of a few columns that stay in the first-level cache for the other two. Rows of the next strip, and of the
// next block, are prefetched meanwhile.
#include "sketch/hadamard.h"

#include "simd/vec.h"
#include "sketch/prefetch.h"

namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F64;
constexpr int64_t kLanes = F64::lanes;
constexpr int64_t kPanel = kLanes > 4 ? kLanes : 4;  // columns: 16 KiB of them are half a first-level cache
constexpr int kVectors = static_cast<int>(kPanel / kLanes);

inline void butterfly(F64& a, F64& b) {
  const F64 sum = a + b;
  b = a - b;
  a = sum;
}

// The transform of 8 values.
inline void transform_8(F64 (&x)[8]) {
  butterfly(x[0], x[1]), butterfly(x[2], x[3]), butterfly(x[4], x[5]), butterfly(x[6], x[7]);
  butterfly(x[0], x[2]), butterfly(x[1], x[3]), butterfly(x[4], x[6]), butterfly(x[5], x[7]);
  butterfly(x[0], x[4]), butterfly(x[1], x[5]), butterfly(x[2], x[6]), butterfly(x[3], x[7]);
}

// The values `distance` rows apart in a panel, an eighth of them.
inline void pass(double* panel, int64_t distance, int64_t eighth) {
  for (int64_t i = eighth * (kHadamardRows / 64); i < (eighth + 1) * (kHadamardRows / 64); ++i) {
    double* first = panel + (i / distance * 8 * distance + i % distance) * kPanel;
    for (int v = 0; v < kVectors; ++v) {
      F64 x[8];
      for (int k = 0; k < 8; ++k) x[k] = F64::load(first + k * distance * kPanel + v * kLanes);
      transform_8(x);
      for (int k = 0; k < 8; ++k) x[k].store(first + k * distance * kPanel + v * kLanes);
    }
  }
}

// Whether the row that P puts at a place is at hand, and where it lies; if it is not, another row.
inline bool at_hand(const HadamardStrip& strip, int64_t place) {
  return strip.sources[place] >= strip.first && strip.sources[place] < strip.end;
}
inline const double* row_at(const HadamardStrip& strip, int64_t place) {
  return strip.data + (at_hand(strip, place) ? strip.sources[place] - strip.first : 0) * strip.stride;
}

// The first pass over the places [first, first + 8) of a strip. The rows of the eight places that follow are prefetched line by line meanwhile: in
// their permuted order nothing foresees them.
inline void first_pass(const HadamardStrip& strip, int64_t first, double* work) {
  const int64_t following = first + 8 < kHadamardRows ? first + 8 : first;
  const double *rows[8], *ahead[8];
  F64 signs[8];
  for (int k = 0; k < 8; ++k) {
    rows[k] = row_at(strip, first + k);
    ahead[k] = row_at(strip, following + k);
    signs[k] = F64::all(at_hand(strip, first + k) ? strip.signs[first + k] : 0.0);
  }
  const auto transform_columns = [&](int64_t j, double* at, auto load) {
    for (int v = 0; v < kVectors; ++v, j += kLanes, at += kLanes) {
      F64 x[8];
      for (int k = 0; k < 8; ++k) x[k] = load(k, j);
      transform_8(x);
      for (int k = 0; k < 8; ++k) x[k].store(at + k * kPanel);
    }
  };
  const int64_t columns = strip.columns;
  double* at = work + first * kPanel;
  int64_t j = 0;
  for (; j + kPanel <= columns; j += kPanel, at += kPanel * kHadamardRows) {
    if (j * 8 % kLine == 0) {
      for (int k = 0; k < 8; ++k) __builtin_prefetch(ahead[k] + j);
    }
    transform_columns(j, at, [&](int k, int64_t column) { return signs[k] * F64::load(rows[k] + column); });
  }
  if (j == columns) return;
  transform_columns(j, at, [&](int k, int64_t column) {
    return column < columns ? signs[k] * F64::load_first(rows[k] + column, columns - column, 0.0) : F64::all(0.0);
  });
}

// A share of the rows of a strip, that of panel p.
inline void prefetch_strip(const HadamardStrip& strip, int64_t p, int64_t panels) {
  const int64_t rows = strip.end - strip.first, end = rows * (p + 1) / panels, lines = strip.columns * 8 / kLine + 1;
  for (int64_t r = rows * p / panels; r < end; ++r) {
    const char* row = reinterpret_cast<const char*>(strip.data + r * strip.stride);
    for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(row + line * kLine, 0, 2);
  }
}

// sums [samples] rows of a panel, from the panels of as many blocks, `distance` apart: a sum is loaded and stored once for all of them.
template <int count>
void add_samples(const HadamardStrip* strips, int64_t blocks, const double* panel, int64_t distance, int64_t samples,
                 const int32_t* sampled, double* sums) {
  if constexpr (count > 1) {
    if (blocks < count) return add_samples<count - 1>(strips, blocks, panel, distance, samples, sampled, sums);
  }
  const double* signs[count];
  for (int b = 0; b < count; ++b) signs[b] = strips[b].sample_signs;
  for (int64_t j = 0; j < samples; ++j, sums += kPanel) {
    const double* from = panel + sampled[j] * kPanel;
    for (int v = 0; v < kVectors; ++v) {
      F64 sum = F64::load(sums + v * kLanes);
      for (int b = 0; b < count; ++b) sum = multiply_add(F64::all(signs[b][j]), F64::load(from + b * distance + v * kLanes), sum);
      sum.store(sums + v * kLanes);
    }
  }
}

}  // namespace

int64_t hadamard_panel() { return kPanel; }

void hadamard(const HadamardStrip* strips, int64_t blocks, const HadamardStrip* next, const Ahead& later, int64_t samples,
              const int32_t* sampled, double* work, double* sums) {
  static_assert(kHadamardRows == 8 * 8 * 8 && kPanel % kLanes == 0);
  const int64_t panels = (strips[0].columns + kPanel - 1) / kPanel, all = blocks * kHadamardRows * (4 + panels);
  const int64_t block_size = panels * kPanel * kHadamardRows;
  // Prefetches are spread in many small parts, as only some lines can be on their way at once.
  int64_t done = 0;
  const auto prefetch = [&](int64_t part) {
    prefetch_share(later, done, done + part, all);
    done += part;
  };
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t r = 0; r < kHadamardRows; r += 8) {
      prefetch(4 * 8);
      first_pass(strips[b], r, work + b * block_size);
    }
  }
  for (int64_t p = 0; p < panels; ++p) {
    double* panel = work + p * kHadamardRows * kPanel;
    for (int64_t b = 0; b < blocks; ++b) {
      prefetch_strip(next[b], p, panels);
      for (int64_t part = 0; part < 16; ++part) {
        prefetch(kHadamardRows / 16);
        pass(panel + b * block_size, part < 8 ? 8 : 64, part % 8);
      }
    }
    add_samples<kHadamardBlocks>(strips, blocks, panel, block_size, samples, sampled, sums + p * samples * kPanel);
  }
}

}  // namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE
