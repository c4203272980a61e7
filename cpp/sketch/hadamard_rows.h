// The streamed Hadamard transform on CUDA: what a thread does between two waits of its block, as plain functions, so that the host runs them too.
// Draws, butterflies and the order of every sum are those of sketch.cpp and hadamard.simd.cpp, so the bits are.
//
// A block of threads owns kColumns columns, some samples and one job, a range of blocks of global rows. Of each block of rows it transforms its columns
// in shared memory and adds the rows that are sampled to sums in registers; a thread has 8 places of a column, and fetches those of the next block of
// rows while it works. Where columns and samples are few, that would be few blocks of threads: then each transforms but one block of rows of its columns,
// a wave of them at once, and a second launch adds the rows that are sampled.
#pragma once
#include <cmath>

#include "base/host_device.h"
#include "sketch/device_rows.h"
#include "sketch/grid.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch::hadamard {

// As in sketch.cpp.
constexpr uint32_t kPurposeBlock = 0x73726874, kPurposeSample = 0x73616d70;
constexpr uint32_t kPurposeTensorBlock = 0x74656e62, kPurposeTensorSample = 0x74656e73, kRightFactor = 256;
constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;

constexpr int kRows = static_cast<int>(kHadamardRows);
constexpr int kColumns = 4;  // 32 bytes of a row of doubles, which memory gives at once
constexpr int kRadix = 8;  // places of a thread
constexpr int kPieces = kRows / kRadix, kThreads = kPieces * kColumns;
constexpr int kWorkDoubles = (kRows + kRows / kRadix) * kColumns;
constexpr int kWordBlocks = kRows / 4 + kRows / 128;  // of the random stream, for one block of rows

// What is drawn for 8 places: the row that goes there and, as bit 15, a sign; two places a word.
struct alignas(16) Places {
  uint32_t pairs[kRadix / 2];
};
SLIPSTICK_HOST_DEVICE inline uint32_t place_of(const Places& places, int i) { return places.pairs[i / 2] >> i % 2 * 16 & 0xffff; }

// What one launch works on.
struct Job {
  Matrix a;
  const double* scale;
  uint64_t seed, first_block;
  uint32_t purpose, sample_purpose;
  bool replaced;  // samples are drawn with replacement
  int64_t sketch_rows;
  int64_t skipped;  // rows of the first block before the matrix begins
  int64_t blocks, jobs;
  double magnitude;  // 1 / sqrt(sketch_rows)
  Waves waves;  // none where there is enough to do without
  double* partials;  // [jobs][sketch_rows][columns]
  double* transformed;  // of a wave, [jobs][waves.steps][kRows][columns]
  Places* draws;  // [blocks + 1][kPieces]; the last permutes the samples
  uint64_t* high;  // [sketch_rows]
  uint16_t* low;  // [sketch_rows]
};

// ---- draws ----------------------------------------------------------------------------------------------------------------------------------

SLIPSTICK_HOST_DEVICE inline void draw_words(const Job& job, uint32_t purpose, uint64_t block, uint32_t (&words)[4]) {
  words[0] = static_cast<uint32_t>(block);
  words[1] = static_cast<uint32_t>(block >> 32);
  words[2] = purpose;
  words[3] = 0;
  philox4x32_in_place(words, job.seed);
}

// The permutation and the signs of block `item` of rows, or, for item == blocks, the order of the samples. By one thread; order: kRows of its own,
// `stride` apart.
SLIPSTICK_HOST_DEVICE inline void draw_places(const Job& job, int64_t item, uint16_t* order, int64_t stride) {
  const bool of_samples = item == job.blocks;
  const uint32_t purpose = of_samples ? job.sample_purpose : job.purpose;
  const uint64_t first = of_samples ? 0 : (job.first_block + static_cast<uint64_t>(item)) * kWordBlocks;
  uint32_t words[4];
  for (int i = 0; i < kRows; ++i) order[i * stride] = static_cast<uint16_t>(i);
  for (int four = kRows / 4 - 1; four >= 0; --four) {
    draw_words(job, purpose, first + static_cast<uint64_t>(four), words);
    SLIPSTICK_UNROLL
    for (int w = 3; w >= 0; --w) {
      const int i = 4 * four + w;
      const auto j = static_cast<int>(uint64_t{words[w]} * static_cast<uint64_t>(i + 1) >> 32);
      const uint16_t there = order[i * stride];
      order[i * stride] = order[j * stride];
      order[j * stride] = there;
    }
  }
  Places* const out = job.draws + item * kPieces;
  for (int quarter = 0; quarter < 4; ++quarter) {
    if (!of_samples) draw_words(job, purpose, first + static_cast<uint64_t>(kRows / 4 + quarter), words);
    SLIPSTICK_UNROLL
    for (int w = 0; w < 4; ++w) {
      const uint32_t signs = of_samples ? 0 : words[w];
      for (int i = 0; i < 32; i += kRadix) {
        const int first_place = quarter * 128 + w * 32 + i;
        Places eight;
        SLIPSTICK_UNROLL
        for (int pair = 0; pair < kRadix / 2; ++pair) {
          const uint32_t even = order[(first_place + 2 * pair) * stride] | (signs >> (i + 2 * pair) & 1) << 15;
          const uint32_t odd = order[(first_place + 2 * pair + 1) * stride] | (signs >> (i + 2 * pair + 1) & 1) << 15;
          eight.pairs[pair] = even | odd << 16;
        }
        out[first_place / kRadix] = eight;
      }
    }
  }
}

// Row j of the sketch: row `low` of the blocks' transforms, with the signs of row `high` of the transform over blocks.
SLIPSTICK_HOST_DEVICE inline void draw_sample(const Job& job, int64_t j) {
  uint32_t words[4];
  if (job.replaced) {
    draw_words(job, job.sample_purpose, static_cast<uint64_t>(j), words);
    job.low[j] = static_cast<uint16_t>(words[0] % kRows);
    job.high[j] = uint64_t{words[3]} << 32 | words[2];
    return;
  }
  const int at = static_cast<int>(j % kRows);
  const uint32_t low = place_of(job.draws[job.blocks * kPieces + at / kRadix], at % kRadix);
  draw_words(job, job.sample_purpose, kRows / 4 + low / 2, words);
  const uint64_t pair = low % 2 ? uint64_t{words[3]} << 32 | words[2] : uint64_t{words[1]} << 32 | words[0];
  job.low[j] = static_cast<uint16_t>(low);
  job.high[j] = pair ^ static_cast<uint64_t>(j / kRows) * kOdd;
}

// ---- the transform --------------------------------------------------------------------------------------------------------------------------

// Where a place lies in shared memory, in rows of kColumns: a row is left out after every 8, as threads would meet in its banks otherwise.
SLIPSTICK_HOST_DEVICE inline int padded_place(int place) { return place + place / kRadix; }

// Row of the matrix that goes to a place of block k, and whether there is one.
SLIPSTICK_HOST_DEVICE inline int64_t row_of(const Job& job, int64_t k, uint32_t place, bool* inside) {
  const int64_t top = k * kHadamardRows - job.skipped, row = top + static_cast<int64_t>(place % kRows);
  *inside = row >= 0 && row < job.a.rows;
  return *inside ? row : top < 0 ? 0 : top;
}

// 8 values of a column as they lie in memory, on their way.
template <typename T> struct Fetched {
  Places places;
  T values[kRadix];
};

template <typename T> SLIPSTICK_HOST_DEVICE inline void fetch(const Job& job, int64_t k, int64_t column, int thread, Fetched<T>& out) {
  out.places = job.draws[k * kPieces + thread / kColumns];
  const int64_t there = column < job.a.columns ? column : job.a.columns - 1;
  const T* const data = static_cast<const T*>(job.a.data) + there * job.a.column_stride;
  SLIPSTICK_UNROLL
  for (int i = 0; i < kRadix; ++i) {
    bool inside;
    out.values[i] = data[row_of(job, k, place_of(out.places, i), &inside) * job.a.row_stride];
  }
}

SLIPSTICK_HOST_DEVICE inline void butterfly(double& a, double& b) {
  const double sum = plus(a, b);
  b = minus(a, b);
  a = sum;
}
SLIPSTICK_HOST_DEVICE inline void transform_8(double (&x)[kRadix]) {
  SLIPSTICK_UNROLL
  for (int distance = 1; distance < kRadix; distance *= 2) {
    SLIPSTICK_UNROLL
    for (int i = 0; i < kRadix; ++i) {
      if ((i & distance) == 0) butterfly(x[i], x[i + distance]);
    }
  }
}

// Levels 0 to 2, of what was fetched. What is outside the matrix counts as 0 times its row, as on the host, should that hold no number.
template <typename T>
SLIPSTICK_HOST_DEVICE inline void first_pass(const Job& job, int64_t k, int thread, const Fetched<T>& fetched, double* work) {
  double x[kRadix];
  SLIPSTICK_UNROLL
  for (int i = 0; i < kRadix; ++i) {
    const uint32_t place = place_of(fetched.places, i);
    bool inside;
    const int64_t row = row_of(job, k, place, &inside);
    const auto value = static_cast<double>(fetched.values[i]);
    x[i] = times(inside ? (place >> 15 ? -1.0 : 1.0) : 0.0, job.scale ? times(job.scale[row], value) : value);
  }
  transform_8(x);
  double* const to = work + padded_place(thread / kColumns * kRadix) * kColumns + thread % kColumns;
  SLIPSTICK_UNROLL
  for (int i = 0; i < kRadix; ++i) to[i * kColumns] = x[i];
}

// Three levels more, of places `distance` apart.
template <int distance> SLIPSTICK_HOST_DEVICE inline void pass(int thread, double* work) {
  const int piece = thread / kColumns, first = piece / distance * kRadix * distance + piece % distance;
  double* const at = work + thread % kColumns;
  double x[kRadix];
  SLIPSTICK_UNROLL
  for (int i = 0; i < kRadix; ++i) x[i] = at[padded_place(first + i * distance) * kColumns];
  transform_8(x);
  SLIPSTICK_UNROLL
  for (int i = 0; i < kRadix; ++i) at[padded_place(first + i * distance) * kColumns] = x[i];
}

SLIPSTICK_HOST_DEVICE inline bool is_odd(uint64_t bits) {  // of how many are set
#ifdef __CUDA_ARCH__
  return __popcll(bits) & 1;
#else
  return __builtin_parityll(bits);
#endif
}

// The thread's samples are kPieces apart.
template <int count> constexpr int64_t kSamplesOf = int64_t{kPieces} * count;

template <int count>
SLIPSTICK_HOST_DEVICE inline void add_samples(const Job& job, int64_t k, int64_t first, int thread, const double* work,
                                              double (&sums)[count]) {
  const uint64_t block = job.first_block + static_cast<uint64_t>(k);
  const double* const at = work + thread % kColumns;
  SLIPSTICK_UNROLL
  for (int i = 0; i < count; ++i) {
    const int64_t j = first + thread / kColumns + int64_t{i} * kPieces;
    if (j >= job.sketch_rows) break;
    sums[i] = fused(is_odd(job.high[j] & block) ? -job.magnitude : job.magnitude, at[padded_place(job.low[j]) * kColumns], sums[i]);
  }
}

template <int count>
SLIPSTICK_HOST_DEVICE inline void store_sums(const Job& job, int64_t of_job, int64_t first, int64_t column, int thread,
                                             const double (&sums)[count]) {
  if (column >= job.a.columns) return;
  SLIPSTICK_UNROLL
  for (int i = 0; i < count; ++i) {
    const int64_t j = first + thread / kColumns + int64_t{i} * kPieces;
    if (j < job.sketch_rows) job.partials[(of_job * job.sketch_rows + j) * job.a.columns + column] = sums[i];
  }
}

// Blocks of rows of a job: from the first one's on to that of the next.
SLIPSTICK_HOST_DEVICE inline int64_t begin_of(const Job& job, int64_t of_job) { return job.blocks * of_job / job.jobs; }

// ---- in waves -------------------------------------------------------------------------------------------------------------------------------

// The block of rows that a job has at one step of a wave; none from begin_of of the next job on.
SLIPSTICK_HOST_DEVICE inline int64_t block_of(const Job& job, int64_t of_job, int64_t wave, int64_t step) {
  return begin_of(job, of_job) + wave * job.waves.steps + step;
}

SLIPSTICK_HOST_DEVICE inline void store_transformed(const Job& job, int64_t of_job, int64_t step, int64_t column, int thread,
                                                    const double* work) {
  if (column >= job.a.columns) return;
  double* const out = job.transformed + (of_job * job.waves.steps + step) * kRows * job.a.columns + column;
  const double* const at = work + thread % kColumns;
  SLIPSTICK_UNROLL
  for (int i = 0; i < kRadix; ++i) {
    const int place = thread / kColumns + i * kPieces;
    out[place * job.a.columns] = at[padded_place(place) * kColumns];
  }
}

// What a wave adds to one number of the partials.
SLIPSTICK_HOST_DEVICE inline void add_wave(const Job& job, int64_t wave, int64_t at) {
  const int64_t size = job.sketch_rows * job.a.columns, of_job = at / size;
  const int64_t j = at % size / job.a.columns, column = at % job.a.columns, end = begin_of(job, of_job + 1);
  const double* values = job.transformed + (of_job * job.waves.steps * kRows + job.low[j]) * job.a.columns + column;
  double sum = wave == 0 ? 0 : job.partials[at];
  for (int64_t step = 0, k = block_of(job, of_job, wave, 0); step < job.waves.steps && k < end; ++step, ++k) {
    const bool odd = is_odd(job.high[j] & (job.first_block + static_cast<uint64_t>(k)));
    sum = fused(odd ? -job.magnitude : job.magnitude, values[step * kRows * job.a.columns], sum);
  }
  job.partials[at] = sum;
}

// ---- the sum --------------------------------------------------------------------------------------------------------------------------------

// One number of the sketch from those of the jobs.
SLIPSTICK_HOST_DEVICE inline double sum_of_jobs(const Job& job, int64_t at) {
  return sum_of_parts(job.partials, job.jobs, job.sketch_rows * job.a.columns, at);
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

// Blocks of threads, of 16 samples a thread, below which the work goes in waves: fewer than a large device has multiprocessors. With more, waves would only
// add two passes over what is transformed.
constexpr int64_t kFewBlocks = 128;

// Blocks of threads of one job.
template <int samples> int64_t blocks_of(const Job& job) {
  return (job.a.columns + kColumns - 1) / kColumns * ((job.sketch_rows + kSamplesOf<samples> - 1) / kSamplesOf<samples>);
}

inline Job job_of(const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace) {
  const uint32_t factor = parameters.kind == Kind::tensor_right ? kRightFactor : 0;
  Job job{};
  job.a = a;
  job.scale = scale;
  job.seed = parameters.seed;
  job.replaced = parameters.kind == Kind::tensor_left || parameters.kind == Kind::tensor_right;
  job.purpose = job.replaced ? kPurposeTensorBlock + factor : kPurposeBlock;
  job.sample_purpose = job.replaced ? kPurposeTensorSample + factor : kPurposeSample;
  job.sketch_rows = parameters.sketch_rows;
  job.first_block = first_row / kHadamardRows;
  job.skipped = static_cast<int64_t>(first_row % kHadamardRows);
  job.blocks = a.rows == 0 ? 0 : (job.skipped + a.rows + kHadamardRows - 1) / kHadamardRows;
  job.jobs = a.rows == 0 ? 0 : hadamard_grid(job.blocks, job.sketch_rows, a.columns, 0).jobs;
  job.magnitude = 1.0 / std::sqrt(static_cast<double>(job.sketch_rows));
  if (job.jobs > 0 && blocks_of<16>(job) * job.jobs < kFewBlocks)
    job.waves = waves_of(job.jobs, (job.blocks + job.jobs - 1) / job.jobs, kHadamardRows * a.columns);
  job.draws = static_cast<Places*>(workspace);
  job.partials = reinterpret_cast<double*>(job.draws + (job.blocks + 1) * kPieces);
  job.transformed = job.partials + job.jobs * job.sketch_rows * a.columns;
  job.high = reinterpret_cast<uint64_t*>(job.transformed + job.jobs * job.waves.steps * kHadamardRows * a.columns);
  job.low = reinterpret_cast<uint16_t*>(job.high + job.sketch_rows);
  return job;
}
inline int64_t bytes_of(const Job& job) {
  return (job.blocks + 1) * kPieces * static_cast<int64_t>(sizeof(Places)) +
         job.jobs * (job.sketch_rows + job.waves.steps * kHadamardRows) * job.a.columns * static_cast<int64_t>(sizeof(double)) +
         job.sketch_rows * static_cast<int64_t>(sizeof(uint64_t) + sizeof(uint16_t));
}

}  // namespace slipstick::sketch::hadamard
