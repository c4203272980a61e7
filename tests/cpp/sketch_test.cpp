// Contract: gram, preconditioned_gram, residual and sketch equal their definitions within rounding, for shapes around every panel and tile, and are
// bitwise equal for any number of threads. Oracle: the same sums in long double, one entry at a time.
#include "slipstick/sketch.h"

#include <cmath>
#include <vector>

#include "check.h"
#include "slipstick/random.h"

using namespace slipstick;
using namespace slipstick::sketch;

namespace {

struct Data {
  int64_t rows, columns;
  std::vector<double> values;
  double at(int64_t i, int64_t j) const { return values[static_cast<size_t>(i * columns + j)]; }
  Matrix view() const { return {values.data(), false, rows, columns, columns, 1}; }
};

Data drawn_data(int64_t rows, int64_t columns, uint64_t seed) {
  Data data{rows, columns, {}};
  for (int64_t i = 0; i < rows * columns; ++i)
    data.values.push_back(RandomStream(seed, 1).words(static_cast<uint64_t>(i))[0] / 4294967296.0 - 0.5);
  return data;
}

constexpr double kEpsilon = 0x1p-52;

bool close(double got, long double want, double magnitude) {
  return std::abs(got - static_cast<double>(want)) <= 64 * kEpsilon * magnitude;
}

void check_gram(int64_t rows, int64_t d, int64_t rights) {
  const Data a = drawn_data(rows, d, 1), b = drawn_data(rows, rights, 2), upper = drawn_data(d, d, 3), scale = drawn_data(rows, 1, 4);
  const int64_t size = d + rights;
  for (const bool scaled : {false, true}) {
    for (const bool preconditioned : {false, true}) {
      std::vector<long double> w(static_cast<size_t>(rows * size), 0.0L);
      for (int64_t i = 0; i < rows; ++i) {
        const long double factor = scaled ? scale.at(i, 0) : 1.0;
        for (int64_t j = 0; j < d; ++j) {
          long double sum = a.at(i, j);
          if (preconditioned) {
            sum = 0;
            for (int64_t k = 0; k <= j; ++k) sum += static_cast<long double>(a.at(i, k)) * upper.at(k, j);
          }
          w[static_cast<size_t>(i * size + j)] = factor * sum;
        }
        for (int64_t j = 0; j < rights; ++j) w[static_cast<size_t>(i * size + d + j)] = factor * b.at(i, j);
      }
      std::vector<double> out(static_cast<size_t>(size * size)), again(out.size());
      const RowScale row_scale = scaled ? scale.values.data() : nullptr;
      for (const int threads : {1, 3}) {
        std::vector<double>& to = threads == 1 ? out : again;
        if (preconditioned) {
          preconditioned_gram(a.view(), b.view(), row_scale, upper.values.data(), to.data(), threads);
        } else {
          gram(a.view(), b.view(), row_scale, to.data(), threads);
        }
      }
      CHECK(out == again);
      const double magnitude = static_cast<double>(rows) * (preconditioned ? static_cast<double>(d * d) : 1.0) / 4;
      for (int64_t i = 0; i < size; ++i) {
        for (int64_t j = 0; j < size; ++j) {
          long double sum = 0;
          for (int64_t r = 0; r < rows; ++r) sum += w[static_cast<size_t>(r * size + i)] * w[static_cast<size_t>(r * size + j)];
          CHECK(close(out[static_cast<size_t>(i * size + j)], sum, magnitude));
        }
      }
    }
  }
}

}  // namespace

TEST(gram_equals_its_definition) {
  for (const int64_t d : {1, 2, 3, 4, 5, 11, 12, 13, 23, 24, 25, 49}) check_gram(131, d, 1);
  check_gram(1, 7, 2);
  check_gram(128, 12, 12);
  check_gram(5000, 3, 1);
  check_gram(300, 5, 0);
}

TEST(residual_equals_its_definition) {
  for (const int64_t rows : {1, 3, 4, 127, 128, 130, 4099}) {
    for (const int64_t d : {1, 2, 7, 8, 17, 33}) {
      const Data a = drawn_data(rows, d, 1), b = drawn_data(rows, 2, 2), x = drawn_data(d, 2, 3);
      std::vector<double> gradient(static_cast<size_t>(2 * d)), norms(2), again(gradient.size()), norms_again(2);
      residual(a.view(), b.view(), nullptr, x.values.data(), gradient.data(), norms.data(), 1);
      residual(a.view(), b.view(), nullptr, x.values.data(), again.data(), norms_again.data(), 8);
      CHECK(gradient == again && norms == norms_again);
      for (int64_t k = 0; k < 2; ++k) {
        std::vector<long double> want(static_cast<size_t>(d), 0.0L);
        long double squares = 0;
        for (int64_t i = 0; i < rows; ++i) {
          long double left = b.at(i, k);
          for (int64_t j = 0; j < d; ++j) left -= static_cast<long double>(a.at(i, j)) * x.at(j, k);
          squares += left * left;
          for (int64_t j = 0; j < d; ++j) want[static_cast<size_t>(j)] += left * a.at(i, j);
        }
        const double magnitude = static_cast<double>(rows * d);
        CHECK(close(norms[static_cast<size_t>(k)], squares, magnitude));
        for (int64_t j = 0; j < d; ++j) CHECK(close(gradient[static_cast<size_t>(2 * j + k)], want[static_cast<size_t>(j)], magnitude));
      }
    }
  }
}

TEST(sparse_columns_have_one_entry_in_each_band) {
  const int64_t n = 200, m = 30;
  Data identity{n, n, std::vector<double>(static_cast<size_t>(n * n), 0.0)};
  for (int64_t i = 0; i < n; ++i) identity.values[static_cast<size_t>(i * n + i)] = 1.0;
  Matrix none = identity.view();
  none.columns = 0;
  for (const int64_t nonzeros : {1, 4, 7, 30}) {
    Sketch parameters;
    parameters.sketch_rows = m;
    parameters.nonzeros = nonzeros;
    std::vector<double> s(static_cast<size_t>(m * n));
    slipstick::sketch::sketch(parameters, identity.view(), none, nullptr, 0, s.data(), 2);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t q = 0; q < nonzeros; ++q) {
        int64_t found = 0;
        for (int64_t j = q * m / nonzeros; j < (q + 1) * m / nonzeros; ++j) {
          const double entry = s[static_cast<size_t>(j * n + i)];
          found += entry != 0;
          CHECK(entry == 0 || std::abs(std::abs(entry) - 1 / std::sqrt(static_cast<double>(nonzeros))) < kEpsilon);
        }
        CHECK_EQUAL(found, 1);
      }
    }
  }
}

TEST(sizes_out_of_range_are_refused) {
  const Data a = drawn_data(10, 2, 1), b = drawn_data(9, 1, 2);
  double out[64];
  CHECK_THROWS(gram(a.view(), b.view(), nullptr, out, 1), invalid_argument, "gram: b has 9 rows; expected 10");
  Sketch parameters;
  parameters.sketch_rows = 4;
  parameters.nonzeros = 5;
  CHECK_THROWS(slipstick::sketch::sketch(parameters, a.view(), a.view(), nullptr, 0, out, 1), invalid_argument,
               "nonzeros is 5; expected 1 to 4");
  parameters.sketch_rows = 0;
  CHECK_THROWS(slipstick::sketch::sketch(parameters, a.view(), a.view(), nullptr, 0, out, 1), invalid_argument,
               "rows is 0; expected 1 or more");
}
