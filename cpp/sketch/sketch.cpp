// Random sketches of rows, each keyed by its global number.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "base/large_pages.h"
#include "sketch/kernels.h"
#include "sketch/tile.h"
#include "slipstick/error.h"
#include "slipstick/random.h"
#include "slipstick/sketch.h"
#include "slipstick/threads.h"

namespace slipstick::sketch {
namespace {

// Purposes of the random streams; part of what a stored sketch means.
constexpr uint32_t kPurposeSjlt = 0x736a6c74, kPurposeGaussian = 0x67617573, kPurposePooled = 0x706f6f6c;
constexpr uint32_t kPurposeBlock = 0x73726874, kPurposeSample = 0x73616d70;
// Of the left factor; those of the right one are 256 more.
constexpr uint32_t kPurposeTensorBlock = 0x74656e62, kPurposeTensorSample = 0x74656e73;
// Rows that go through one strip of columns in turn: the sums of all strips, 2 MiB for 256 columns, pass the caches once for all of them. With more,
// rows 2 KiB apart fill the sets of a second-level cache that they meet in. With one nonzero a row there are no strips: the sums that whole rows
// meet are less than those.
constexpr int64_t kScatterRows = 384;

void check(const Sketch& parameters) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::invalid_argument, "sketch: " + what); };
  if (parameters.sketch_rows < 1) refuse("rows is " + std::to_string(parameters.sketch_rows) + "; expected 1 or more");
  const int64_t pooled = parameters.kind == Kind::gaussian_pooled ? kPooled : 1;
  if (parameters.sketch_rows > INT32_MAX / pooled)
    refuse("rows is " + std::to_string(parameters.sketch_rows) + "; expected at most " + std::to_string(INT32_MAX / pooled));
  if (parameters.kind != Kind::sjlt) return;
  const int64_t most = std::min(kMostNonzeros, parameters.sketch_rows);
  if (parameters.nonzeros < 1 || parameters.nonzeros > most)
    refuse("nonzeros is " + std::to_string(parameters.nonzeros) + "; expected 1 to " + std::to_string(most));
}

// Where each of `rows` rows goes and with which sign, [nonzeros, rows]: word q % 4 of block row * blocks_a_row + q / 4 decides nonzero q.
void draw_targets(const Kernels& kernels, const Sketch& parameters, uint64_t first, int64_t rows, uint32_t* words, uint32_t* targets) {
  const int64_t nonzeros = parameters.nonzeros;
  const uint64_t blocks_a_row = static_cast<uint64_t>((nonzeros + 3) / 4);
  for (int64_t q = 0; q < nonzeros; ++q) {
    if (q % 4 == 0)
      kernels.random_words(parameters.seed, kPurposeSjlt, first * blocks_a_row + static_cast<uint64_t>(q / 4), blocks_a_row, rows, words);
    const int64_t band = q * parameters.sketch_rows / nonzeros, end = (q + 1) * parameters.sketch_rows / nonzeros;
    kernels.targets(words + q % 4 * rows, rows, static_cast<int32_t>(band), static_cast<uint32_t>(end - band), targets + q * rows);
  }
}

// sums, [sketch_rows] rows for each strip of columns, += S tile.
void scatter_tile(const Kernels& kernels, const Sketch& parameters, Tile tile, int64_t rows, int64_t columns, Ahead next,
                  const uint32_t* targets, double* sums) {
  const double magnitude = 1.0 / std::sqrt(static_cast<double>(parameters.nonzeros));
  for (int64_t j = 0; j < columns; j += kScatterColumns) {
    const int64_t width = std::min(kScatterColumns, columns - j), following = j + kScatterColumns;
    Ahead strip = next;
    if (following < columns) strip = {reinterpret_cast<const char*>(tile.data + following), tile.stride * 8, 0, rows};
    strip.bytes = std::min(kScatterColumns, following < columns ? columns - following : columns) * 8;
    kernels.scatter(tile.data + j, tile.stride, rows, width, strip, share_of(next, j, std::min(following, columns), columns), targets,
                    magnitude, parameters.nonzeros, sums + j * parameters.sketch_rows);
  }
}

// m normals times `magnitude`, from the (m + 3) / 4 blocks of a stream that begin at first_block: words 0 and 1 of all blocks give the first half of
// them, words 2 and 3 the second.
void draw_normals(const Kernels& kernels, uint64_t seed, uint32_t purpose, uint64_t first_block, int64_t m, double magnitude,
                  std::vector<uint32_t>& words, std::vector<double>& drawn, double* out) {
  const int64_t blocks = (m + 3) / 4;
  words.resize(static_cast<size_t>(4 * blocks));
  drawn.resize(static_cast<size_t>(2 * blocks));
  kernels.random_words(seed, purpose, first_block, 1, blocks, words.data());
  for (int half = 0; half < 2; ++half) {
    kernels.normals(words.data() + 2 * half * blocks, words.data() + (2 * half + 1) * blocks, blocks, drawn.data());
    const int64_t from = 2 * half * blocks, count = std::min(2 * blocks, m - from);
    for (int64_t i = 0; i < count; ++i) out[from + i] = magnitude * drawn[static_cast<size_t>(i)];
  }
}

void sketch_sparse(const Sketch& parameters, const Matrix& a, const Matrix& b, RowScale scale, uint64_t first_row, double* out,
                   int threads) {
  const Kernels& kernels = active_kernels();
  const int64_t m = parameters.sketch_rows, a_width = padded(a.columns, kScatterPadding);
  const int64_t width = a_width + padded(b.columns, kScatterPadding);
  const bool whole = parameters.nonzeros == 1;
  const Grid grid(a.rows, a.columns + b.columns, m * width);
  LargeTable<double> sums(static_cast<size_t>(grid.jobs * m * width), 0.0);
  parallel_for(grid.jobs, threads, [&](int64_t job) {
    std::vector<double> buffer;
    std::vector<uint32_t> targets(static_cast<size_t>(kScatterRows * parameters.nonzeros)), words(static_cast<size_t>(4 * kScatterRows));
    double* sum = sums.data() + job * m * width;
    for (int64_t first = grid.begin(job); first < grid.end(job); first += kScatterRows) {
      const int64_t end = std::min(first + kScatterRows, grid.end(job)), rows = end - first;
      draw_targets(kernels, parameters, first_row + static_cast<uint64_t>(first), rows, words.data(), targets.data());
      for (const bool right : {false, true}) {
        const Matrix& matrix = right ? b : a;
        if (matrix.columns == 0) continue;
        const Tile tile = load_tile(matrix, scale, first, rows, rows, buffer);
        double* to = sum + (right ? a_width * m : 0);
        if (whole) {
          kernels.scatter_whole(tile.data, tile.stride, rows, matrix.columns, targets.data(), to);
        } else {
          scatter_tile(kernels, parameters, tile, rows, matrix.columns,
                       rows_ahead(matrix, end, std::min(end + kScatterRows, grid.end(job))), targets.data(), to);
        }
      }
    }
  });
  add_jobs(sums.data(), grid.jobs, m * width);
  const auto unpack = [&](const double* from, int64_t columns, int64_t first) {
    const int64_t padded_columns = padded(columns, kScatterPadding), strip_columns = whole ? padded_columns : kScatterColumns;
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t strip = j / strip_columns * strip_columns, strip_width = std::min(strip_columns, padded_columns - strip);
      for (int64_t i = 0; i < m; ++i) out[i * (a.columns + b.columns) + first + j] = from[strip * m + i * strip_width + j - strip];
    }
  };
  unpack(sums.data(), a.columns, 0);
  unpack(sums.data() + a_width * m, b.columns, a.columns);
}

// The streamed transform. With H_N = H_(N/B) x H_B, row i = (high, low) of H_N D P A is the sum over blocks k of (-1)^popcount(high & k) times row
// `low` of H_B D_k P_k A_k: so one read of A gives any sample of rows of the exact transform, without a workspace of n rows and without
// knowing n. Rows are permuted within their block, as samples of aligned energetic rows collide otherwise.
struct HadamardSample {
  std::vector<int32_t> low;  // row of the block's transform, [sketch_rows]
  std::vector<uint64_t> high;  // row of the transform over blocks
};

// The first kHadamardRows rows of a block permuted by Fisher and Yates with these words.
void draw_permutation(const uint32_t* words, int32_t* places) {
  for (int64_t i = 0; i < kHadamardRows; ++i) places[i] = static_cast<int32_t>(i);
  for (int64_t i = kHadamardRows - 1; i > 0; --i) std::swap(places[i], places[uint64_t{words[i]} * static_cast<uint64_t>(i + 1) >> 32]);
}

// With replacement: words 0, 2 and 3 of block j of the stream are row j.
HadamardSample draw_tensor_sample(const Sketch& parameters, uint32_t purpose) {
  const RandomStream stream(parameters.seed, purpose);
  HadamardSample sample;
  for (int64_t j = 0; j < parameters.sketch_rows; ++j) {
    const auto words = stream.words(static_cast<uint64_t>(j));
    sample.low.push_back(static_cast<int32_t>(words[0] % kHadamardRows));
    sample.high.push_back(uint64_t{words[3]} << 32 | words[2]);
  }
  return sample;
}

// Without replacement: all `high` of one `low` differ modulo every power of two that has room for them.
HadamardSample draw_sample(const Sketch& parameters) {
  const RandomStream stream(parameters.seed, kPurposeSample);
  std::vector<uint32_t> words(static_cast<size_t>(3 * kHadamardRows));
  stream.fill(0, 3 * kHadamardRows / 4, words.data(), 1);
  int32_t order[kHadamardRows];
  draw_permutation(words.data(), order);
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;  // multiplication by it permutes the residues modulo every power of two
  HadamardSample sample;
  for (int64_t j = 0; j < parameters.sketch_rows; ++j) {
    const int64_t low = order[j % kHadamardRows];
    const uint32_t* pair = words.data() + kHadamardRows + 2 * low;
    sample.low.push_back(static_cast<int32_t>(low));
    sample.high.push_back((uint64_t{pair[1]} << 32 | pair[0]) ^ static_cast<uint64_t>(j / kHadamardRows) * kOdd);
  }
  return sample;
}

// What is drawn for block k: words 0 .. 511 of its part of the stream permute its rows, the bits of the next 16 are the signs of the places.
void draw_block(const Kernels& kernels, uint64_t seed, uint32_t purpose, uint64_t block, int32_t* sources, double* signs) {
  constexpr int64_t kBlocks = kHadamardRows / 4 + kHadamardRows / 128;
  uint32_t planes[4 * kBlocks], words[4 * kBlocks];
  kernels.random_words(seed, purpose, block * kBlocks, 1, kBlocks, planes);
  for (int64_t i = 0; i < 4 * kBlocks; ++i) words[i] = planes[i % 4 * kBlocks + i / 4];
  draw_permutation(words, sources);
  for (int64_t i = 0; i < kHadamardRows; ++i) signs[i] = words[kHadamardRows + i / 32] >> i % 32 & 1 ? -1.0 : 1.0;
}

// Columns of a strip. Narrow ones fetch a few lines of each row, which meet in few sets of the caches where rows are a power of two apart.
constexpr int64_t kStripColumns = 128;

// What is drawn for one block.
struct HadamardDraws {
  std::vector<int32_t> sources;  // [kHadamardRows]
  std::vector<double> signs;  // [kHadamardRows]
  std::vector<double> sample_signs;  // [sketch_rows]
};

// Consecutive blocks of global rows. The first begins `skipped` rows before the matrix does.
struct HadamardGroup {
  int64_t first_block, blocks, skipped, rows;
  int64_t begin(int64_t b) const { return std::max<int64_t>((first_block + b) * kHadamardRows - skipped, 0); }
  int64_t end(int64_t b) const { return std::min((first_block + b + 1) * kHadamardRows - skipped, rows); }
};

// sums [panels, sketch_rows, panel] += S tile, for the blocks of the group. Those of `later` are read after them.
void add_group(const Kernels& kernels, const HadamardSample& sample, const HadamardGroup& group, const HadamardDraws* draws, Tile tile,
               int64_t columns, const Ahead& later, double* work, double* sums) {
  const int64_t m = static_cast<int64_t>(sample.low.size()), top = group.begin(0);
  HadamardStrip strips[kHadamardBlocks], next[kHadamardBlocks];
  const auto strips_from = [&](int64_t column, HadamardStrip* out) {
    for (int64_t b = 0; b < group.blocks; ++b) {
      out[b] = {};
      if (column >= columns) continue;
      out[b].data = tile.data + (group.begin(b) - top) * tile.stride + column;
      out[b].stride = tile.stride;
      out[b].first = b == 0 && group.first_block == 0 ? group.skipped : 0;
      out[b].end = out[b].first + group.end(b) - group.begin(b);
      out[b].columns = std::min(kStripColumns, columns - column);
      out[b].sources = draws[b].sources.data();
      out[b].signs = draws[b].signs.data();
      out[b].sample_signs = draws[b].sample_signs.data();
    }
  };
  for (int64_t column = 0; column < columns; column += kStripColumns) {
    const int64_t following = column + kStripColumns;
    strips_from(column, strips);
    strips_from(following, next);
    kernels.hadamard(strips, group.blocks, next, share_of(later, column, std::min(following, columns), columns), m, sample.low.data(), work,
                     sums + column * m);
  }
}

void sketch_hadamard(const Sketch& parameters, const Matrix& a, const Matrix& b, RowScale scale, uint64_t first_row, double* out,
                     int threads) {
  const Kernels& kernels = active_kernels();
  const int64_t m = parameters.sketch_rows, panel = kernels.hadamard_panel;
  const bool tensor = parameters.kind == Kind::tensor_left || parameters.kind == Kind::tensor_right;
  const uint32_t factor = parameters.kind == Kind::tensor_right ? 256 : 0, purpose = tensor ? kPurposeTensorBlock + factor : kPurposeBlock;
  const HadamardSample drawn = tensor ? draw_tensor_sample(parameters, kPurposeTensorSample + factor) : draw_sample(parameters);
  // Sums are kept in the order in which the samples lie in a block.
  std::vector<int64_t> order(static_cast<size_t>(m));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t i, int64_t j) { return drawn.low[static_cast<size_t>(i)] < drawn.low[static_cast<size_t>(j)]; });
  HadamardSample sample;
  for (const int64_t j : order) {
    sample.low.push_back(drawn.low[static_cast<size_t>(j)]);
    sample.high.push_back(drawn.high[static_cast<size_t>(j)]);
  }
  const uint64_t first_block = first_row / kHadamardRows;
  const int64_t skipped = static_cast<int64_t>(first_row % kHadamardRows);
  const int64_t blocks = a.rows == 0 ? 0 : (skipped + a.rows + kHadamardRows - 1) / kHadamardRows;
  const int64_t a_width = padded(a.columns, panel), width = a_width + padded(b.columns, panel);
  const Grid grid = hadamard_grid(blocks, m, a.columns, b.columns);
  LargeTable<double> sums(static_cast<size_t>(grid.jobs * m * width), 0.0);
  const double magnitude = 1.0 / std::sqrt(static_cast<double>(m));
  const int64_t strip = std::min(kStripColumns, padded(std::max(a.columns, b.columns), panel));
  parallel_for(grid.jobs, threads, [&](int64_t job) {
    std::vector<double> buffer;
    LargeTable<double> work(static_cast<size_t>(kHadamardBlocks * strip * kHadamardRows));
    HadamardDraws draws[kHadamardBlocks];
    for (HadamardDraws& each : draws) {
      each.sources.resize(static_cast<size_t>(kHadamardRows));
      each.signs.resize(each.sources.size());
      each.sample_signs.resize(static_cast<size_t>(m));
    }
    double* sum = sums.data() + job * m * width;
    const int64_t end = (grid.end(job) + kTileRows - 1) / kTileRows;
    for (int64_t k = grid.begin(job) / kTileRows; k < end; k += kHadamardBlocks) {
      const HadamardGroup group{k, std::min<int64_t>(kHadamardBlocks, end - k), skipped, a.rows};
      for (int64_t i = 0; i < group.blocks; ++i) {
        const uint64_t block = first_block + static_cast<uint64_t>(k + i);
        draw_block(kernels, parameters.seed, purpose, block, draws[i].sources.data(), draws[i].signs.data());
        for (int64_t j = 0; j < m; ++j) {
          const bool odd = __builtin_parityll(sample.high[static_cast<size_t>(j)] & block);
          draws[i].sample_signs[static_cast<size_t>(j)] = odd ? -magnitude : magnitude;
        }
      }
      const int64_t first = group.begin(0), stop = group.end(group.blocks - 1);
      const int64_t following = k + group.blocks < end ? std::min(stop + kHadamardBlocks * kHadamardRows, a.rows) : stop;
      for (const bool right : {false, true}) {
        const Matrix& matrix = right ? b : a;
        if (matrix.columns == 0) continue;
        const Tile tile = load_tile(matrix, scale, first, stop - first, stop - first, buffer);
        add_group(kernels, sample, group, draws, tile, matrix.columns, rows_ahead(matrix, stop, following), work.data(),
                  sum + (right ? a_width * m : 0));
      }
    }
  });
  add_jobs(sums.data(), grid.jobs, m * width);
  const int64_t size = a.columns + b.columns;
  for (int64_t column = 0; column < size; ++column) {
    const int64_t at = column < a.columns ? column : a_width + column - a.columns;
    const double* of_panel = sums.data() + at / panel * m * panel + at % panel;
    for (int64_t j = 0; j < m; ++j) out[order[static_cast<size_t>(j)] * size + column] = of_panel[j * panel];
  }
}

// The balanced Gaussian-pooled transform of Song and Zhang 2026, of as many rows of the Hadamard transform as kPooled sketch_rows, sampled without
// replacement: those rows are a streamed srht, and the pool is a small product with it.
void sketch_pooled(const Sketch& parameters, const Matrix& a, const Matrix& b, RowScale scale, uint64_t first_row, double* out,
                   int threads) {
  const int64_t m = parameters.sketch_rows, size = a.columns + b.columns;
  Sketch first_stage = parameters;
  first_stage.kind = Kind::srht;
  first_stage.sketch_rows = kPooled * m;
  std::vector<double> rows(static_cast<size_t>(kPooled * m * size)), normals(static_cast<size_t>(kPooled * m)), drawn;
  std::vector<uint32_t> words;
  sketch_hadamard(first_stage, a, b, scale, first_row, rows.data(), threads);
  draw_normals(active_kernels(), parameters.seed, kPurposePooled, 0, kPooled * m, 1.0, words, drawn, normals.data());
  std::fill(out, out + m * size, 0.0);
  for (int64_t i = 0; i < kPooled * m; ++i) {
    for (int64_t j = 0; j < size; ++j)
      out[i / kPooled * size + j] += normals[static_cast<size_t>(i)] * rows[static_cast<size_t>(i * size + j)];
  }
}

void sketch_gaussian(const Sketch& parameters, const Matrix& a, const Matrix& b, RowScale scale, uint64_t first_row, double* out,
                     int threads) {
  const Kernels& kernels = active_kernels();
  const int64_t panel = kernels.panel_columns, size = a.columns + b.columns, m = parameters.sketch_rows;
  const int64_t width = padded(size, panel), height = padded(m, panel);
  const Grid grid = gaussian_grid(a.rows, m, size);
  std::vector<double> sums(static_cast<size_t>(grid.jobs * width * height), 0.0);
  parallel_for(grid.jobs, threads, [&](int64_t job) {
    std::vector<double> a_buffer, b_buffer, drawn, column(static_cast<size_t>(kTileRows * m));
    std::vector<double> left(static_cast<size_t>(kTileRows * height), 0.0), right(static_cast<size_t>(kTileRows * width), 0.0);
    std::vector<uint32_t> words;
    const uint64_t blocks_a_row = static_cast<uint64_t>((m + 3) / 4);
    const double magnitude = 1.0 / std::sqrt(static_cast<double>(m));
    double* sum = sums.data() + job * width * height;
    for (int64_t first = grid.begin(job); first < grid.end(job); first += kTileRows) {
      const int64_t rows = std::min(kTileRows, grid.end(job) - first);
      for (int64_t r = 0; r < rows; ++r)
        draw_normals(kernels, parameters.seed, kPurposeGaussian, (first_row + static_cast<uint64_t>(first + r)) * blocks_a_row, m,
                     magnitude, words, drawn, column.data() + r * m);
      kernels.pack(column.data(), m, rows, m, 0, left.data());
      const Tile tile = load_tile(a, scale, first, rows, rows, a_buffer);
      kernels.pack(tile.data, tile.stride, rows, a.columns, 0, right.data());
      if (b.columns > 0) {
        const Tile more = load_tile(b, scale, first, rows, rows, b_buffer);
        kernels.pack(more.data, more.stride, rows, b.columns, a.columns, right.data());
      }
      kernels.add_product(left.data(), m, right.data(), size, rows, sum);
    }
  });
  add_jobs(sums.data(), grid.jobs, width * height);
  for (int64_t i = 0; i < m; ++i) std::copy(sums.begin() + i * width, sums.begin() + i * width + size, out + i * size);
}

}  // namespace

void sketch(const Sketch& parameters, const Matrix& a, const Matrix& b, RowScale scale, uint64_t first_row, double* out, int threads) {
  check(parameters);
  check_pair("sketch", a, b);
  switch (parameters.kind) {
    case Kind::sjlt: return sketch_sparse(parameters, a, b, scale, first_row, out, threads);
    case Kind::srht:
    case Kind::tensor_left:
    case Kind::tensor_right: return sketch_hadamard(parameters, a, b, scale, first_row, out, threads);
    case Kind::gaussian_pooled: return sketch_pooled(parameters, a, b, scale, first_row, out, threads);
    case Kind::gaussian: return sketch_gaussian(parameters, a, b, scale, first_row, out, threads);
  }
}

}  // namespace slipstick::sketch
