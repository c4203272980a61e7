// Rows scattered with signs, Philox words for many rows at once, and normal numbers; and the table of the level.
#include "simd/math.h"
#include "simd/vec.h"
#include "sketch/hadamard.h"
#include "sketch/kernels.h"
#include "sketch/normal_series.h"
#include "sketch/prefetch.h"
#include "sketch/products.h"

namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F64;
using simd::I64;
using simd::U32;
using simd::U64;
constexpr int64_t kLanes = F64::lanes;
constexpr int64_t kTogether = 16;  // rows between prefetches of what is due
constexpr int kBands = 4;  // nonzeros at once: a row is loaded once for all, and a sum seldom waits for the store of the row before

// The columns of a row in vectors; after the last column come zeros.
template <int vectors> void load_row(const double* row, int64_t columns, F64 (&values)[vectors]) {
  for (int v = 0; v < vectors; ++v) {
    values[v] = (v + 1) * kLanes <= columns ? F64::load(row + v * kLanes) : F64::load_first(row + v * kLanes, columns - v * kLanes, 0.0);
  }
}

// A strip of columns of a tile on its way to its sums.
struct Scatter {
  const double* tile;
  int64_t stride, rows, columns;
  Ahead next, later;
  double magnitudes[2];
  int64_t nonzeros;
  double* sums;
};

// Rows [first, end) to their targets of some nonzeros.
template <int vectors, int bands> void scatter_rows(const Scatter& to_do, int64_t first, int64_t end, const uint32_t* targets) {
  constexpr int64_t kWidth = vectors * kLanes;
  // Local, as every store could change what is in memory.
  const double *tile = to_do.tile + first * to_do.stride, magnitudes[] = {to_do.magnitudes[0], to_do.magnitudes[1]};
  const int64_t stride = to_do.stride, rows = to_do.rows, columns = to_do.columns;
  double* sums = to_do.sums;
  for (int64_t r = first; r < end; ++r, tile += stride) {
    F64 values[vectors];
    load_row(tile, columns, values);
    for (int q = 0; q < bands; ++q) {
      const uint32_t target = targets[q * rows + r];
      double* to = sums + (target >> 1) * kWidth;
      const F64 sign = F64::all(magnitudes[target & 1]);
      for (int v = 0; v < vectors; ++v) multiply_add(sign, values[v], F64::load(to + v * kLanes)).store(to + v * kLanes);
    }
  }
}

// The nonzeros from q on, `bands` of them.
template <int vectors, int bands> void scatter_bands(const Scatter& to_do, int64_t q, const uint32_t* targets) {
  const int64_t rows = to_do.rows, all = rows * to_do.nonzeros, lines = to_do.next.bytes / kLine + 1;
  for (int64_t first = 0; first < rows; first += kTogether) {
    const int64_t end = first + kTogether < rows ? first + kTogether : rows;
    const int64_t before = q * rows + bands * first, after = q * rows + bands * end;  // of all pairs of a row and a nonzero
    for (int64_t r = to_do.next.rows * before / all; r < to_do.next.rows * after / all; ++r) {
      for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(to_do.next.data + r * to_do.next.stride + line * kLine, 0, 2);
    }
    prefetch_share(to_do.later, before, after, all);
    scatter_rows<vectors, bands>(to_do, first, end, targets);
  }
}

template <int vectors, int bands = kBands> void scatter_last_bands(const Scatter& to_do, int64_t q, const uint32_t* targets) {
  if constexpr (bands > 0) {
    if (to_do.nonzeros - q == bands) return scatter_bands<vectors, bands>(to_do, q, targets);
    scatter_last_bands<vectors, bands - 1>(to_do, q, targets);
  }
}

template <int vectors> void scatter_strip(const Scatter& to_do, const uint32_t* targets) {
  int64_t q = 0;
  for (; q + kBands <= to_do.nonzeros; q += kBands) scatter_bands<vectors, kBands>(to_do, q, targets + q * to_do.rows);
  scatter_last_bands<vectors>(to_do, q, targets + q * to_do.rows);
}

// Chooses by the width of a row of sums.
template <int lines> void scatter_lines(const Scatter& to_do, const uint32_t* targets) {
  if constexpr (lines > 1) {
    if (to_do.columns <= (lines - 1) * kScatterPadding) return scatter_lines<lines - 1>(to_do, targets);
  }
  scatter_strip<static_cast<int>(lines * kScatterPadding / kLanes)>(to_do, targets);
}

void scatter(const double* tile, int64_t stride, int64_t rows, int64_t columns, const Ahead& next, const Ahead& later,
             const uint32_t* targets, double magnitude, int64_t nonzeros, double* sums) {
  const Scatter to_do{tile, stride, rows, columns, next, later, {magnitude, -magnitude}, nonzeros, sums};
  scatter_lines<static_cast<int>(kScatterColumns / kScatterPadding)>(to_do, targets);
}

void scatter_whole(const double* tile, int64_t stride, int64_t rows, int64_t columns, const uint32_t* targets, double* sums) {
  constexpr double kSigns[] = {1.0, -1.0};
  const int64_t width = (columns + kScatterPadding - 1) / kScatterPadding * kScatterPadding, whole = columns / kLanes * kLanes;
  for (int64_t r = 0; r < rows; ++r, tile += stride) {
    double* to = sums + (targets[r] >> 1) * width;
    const F64 sign = F64::all(kSigns[targets[r] & 1]);
    const auto add = [&](int64_t j, F64 values) { multiply_add(sign, values, F64::load(to + j)).store(to + j); };
    for (int64_t j = 0; j < whole; j += kLanes) add(j, F64::load(tile + j));
    if (whole < columns) add(whole, F64::load_first(tile + whole, columns - whole, 0.0));
  }
}

// The rounds of base/random.cpp, one block a lane.
void random_words(uint64_t seed, uint32_t purpose, uint64_t first, uint64_t step, int64_t count, uint32_t* out) {
  const U32 multiplier0 = U32::all(0xD2511F53u), multiplier1 = U32::all(0xCD9E8D57u);
  for (int64_t i = 0; i < count; i += U32::lanes) {
    uint32_t low[U32::lanes], high[U32::lanes];
    for (int64_t lane = 0; lane < U32::lanes; ++lane) {
      const uint64_t block = first + step * static_cast<uint64_t>(i + lane);
      low[lane] = static_cast<uint32_t>(block);
      high[lane] = static_cast<uint32_t>(block >> 32);
    }
    U32 counter[4] = {U32::load(low), U32::load(high), U32::all(purpose), U32::all(0)};
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const U32 high0 = multiply_high(multiplier0, counter[0]), low0 = multiplier0 * counter[0];
      const U32 high1 = multiply_high(multiplier1, counter[2]), low1 = multiplier1 * counter[2];
      counter[0] = high1 ^ counter[1] ^ U32::all(key0);
      counter[1] = low1;
      counter[2] = high0 ^ counter[3] ^ U32::all(key1);
      counter[3] = low0;
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    for (int w = 0; w < 4; ++w) counter[w].store_first(out + w * count + i, count - i);
  }
}

void targets(const uint32_t* words, int64_t count, int32_t first, uint32_t size, uint32_t* out) {
  const U32 band = U32::all(static_cast<uint32_t>(first)), places = U32::all(size), lowest = U32::all(1);
  for (int64_t i = 0; i < count; i += U32::lanes) {
    const U32 word = U32::load_first(words + i, count - i, 0);
    const U32 place = band + multiply_high(word, places);
    (place + place + (word & lowest)).store_first(out + i, count - i);
  }
}

// Sums and products are rounded one by one, so the numbers are the same bits on every level.
void normals(const uint32_t* first, const uint32_t* second, int64_t count, double* out) {
  for (int64_t i = 0; i < count; i += kLanes) {
    int64_t radius_word[kLanes], angle_word[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const int64_t at = i + lane < count ? i + lane : count - 1;
      radius_word[lane] = first[at];
      angle_word[lane] = second[at];
    }
    // Uniform in (0, 1): the middle of one of 2^32 intervals, so the largest normal is sqrt(2 * 33 * log 2) = 6.76.
    const F64 uniform = (to_f64(I64::load(radius_word)) + F64::all(0.5)) * F64::all(0x1p-32);
    const F64 radius = sqrt(F64::all(-2.0) * simd::log(uniform));
    // The angle in quarter turns: its nearest integer turns the axes, the rest is in [-1/2, 1/2].
    const F64 turns = to_f64(I64::load(angle_word)) * F64::all(0x1p-30);
    const F64 quarter = round_to_integral(turns);
    const F64 x = (turns - quarter) * F64::all(kQuarterTurn), squared = x * x;
    const F64 sine = x + x * squared * simd::polynomial(squared, kNormalSeries.sine);
    const F64 cosine = F64::all(1.0) + squared * simd::polynomial(squared, kNormalSeries.cosine);
    double sines[kLanes], cosines[kLanes], radii[kLanes], quarters[kLanes];
    sine.store(sines);
    cosine.store(cosines);
    radius.store(radii);
    quarter.store(quarters);
    for (int64_t lane = 0; lane < kLanes && i + lane < count; ++lane) {
      const int turn = static_cast<int>(quarters[lane]) & 3;
      const double along = turn & 1 ? sines[lane] : cosines[lane], across = turn & 1 ? cosines[lane] : sines[lane];
      out[i + lane] = radii[lane] * (turn == 1 || turn == 2 ? -along : along);
      out[count + i + lane] = radii[lane] * (turn >= 2 ? -across : across);
    }
  }
}

}  // namespace

const Kernels kernels{SLIPSTICK_ISA_NAME, panel_columns(),  kLanes,   pack,         add_gram,
                      multiply,           add_product,      residual, targets,      scatter,
                      scatter_whole,      hadamard_panel(), hadamard, random_words, normals};

}  // namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE
