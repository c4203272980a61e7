// Contract: scaled formats, statistics and products with a rounded accumulator, for sizes around every block, vector and tile, against loops that
// spell the definition out with quantize of single numbers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "slipstick/lowbit.h"

using namespace slipstick::lowbit;

namespace {

Format float_format(int exponent_bits, int mantissa_bits, Specials specials, Overflow overflow) {
  FloatSpec spec;
  spec.exponent_bits = exponent_bits;
  spec.mantissa_bits = mantissa_bits;
  spec.bias = (1 << (exponent_bits - 1)) - 1;
  spec.specials = specials;
  spec.overflow = overflow;
  return Format(spec);
}
float rounded(const Format& format, float x) {
  quantize(format, Rounding::nearest_even, Random{}, Dtype::float32, &x, &x, 1, 1);
  return x;
}
bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> wave(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    x[static_cast<size_t>(i)] =
        static_cast<float>(std::sin(static_cast<double>(i * i % 997)) * std::ldexp(1.0, static_cast<int>(i * 7 % 23) - 11));
  return x;
}

std::vector<float> scaled(const Format& element, const Blocks& blocks, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  for (int64_t matrix = 0; matrix < blocks.outer; ++matrix)
    for (int64_t top = 0; top < blocks.rows; top += blocks.block_rows)
      for (int64_t left = 0; left < blocks.columns; left += blocks.block_columns) {
        std::vector<size_t> members;
        for (int64_t row = top; row < std::min(blocks.rows, top + blocks.block_rows); ++row)
          for (int64_t column = left; column < std::min(blocks.columns, left + blocks.block_columns); ++column)
            members.push_back(static_cast<size_t>((matrix * blocks.rows + row) * blocks.columns + column));
        float greatest = 0;
        for (size_t i : members) greatest = std::max(greatest, std::fabs(x[i]));
        const float scale = greatest > 0 ? std::ldexp(1.0f, std::ilogb(greatest) - std::ilogb(element.max())) : 1.0f;
        for (size_t i : members) y[i] = rounded(element, x[i] / scale) * scale;
      }
  return y;
}

}  // namespace

TEST(mx_blocks_of_every_shape_are_scaled_as_defined) {
  const Format element = float_format(2, 1, Specials::none, Overflow::saturate);
  const int64_t shapes[][5] = {{1, 1, 1, 1, 32}, {1, 3, 64, 1, 32},     {1, 2, 100, 1, 32},  {2, 33, 5, 32, 1},   {1, 40, 50, 16, 16},
                               {2, 9, 31, 3, 7}, {1, 1, 9000, 1, 9000}, {1, 5, 2049, 1, 16}, {3, 70, 300, 32, 1}, {1, 1, 8224, 1, 32}};
  for (const auto& shape : shapes) {
    const Blocks blocks{shape[0], shape[1], shape[2], shape[3], shape[4]};
    const std::vector<float> x = wave(blocks.outer * blocks.rows * blocks.columns);
    const std::vector<float> want = scaled(element, blocks, x);
    for (int threads : {1, 3}) {
      std::vector<float> y(x.size()), decoded(x.size());
      std::vector<uint8_t> codes(x.size()), scales(static_cast<size_t>(blocks.block_count()));
      quantize_blocks(element, Scaling{}, blocks, Rounding::nearest_even, Random{}, Dtype::float32, x.data(), y.data(), nullptr, nullptr,
                      threads);
      CHECK(same(y, want));
      quantize_blocks(element, Scaling{}, blocks, Rounding::nearest_even, Random{}, Dtype::float32, x.data(), nullptr, codes.data(),
                      scales.data(), threads);
      decode_blocks(element, Scaling{}, blocks, codes.data(), scales.data(), Dtype::float32, decoded.data(), threads);
      CHECK(same(decoded, want));
    }
  }
}

TEST(stochastic_blocks_do_not_depend_on_threads) {
  const Format element = float_format(4, 3, Specials::finite_nan, Overflow::saturate);
  const Blocks blocks{1, 300, 333, 1, 32};
  const std::vector<float> x = wave(300 * 333);
  std::vector<float> one(x.size()), many(x.size());
  quantize_blocks(element, Scaling{}, blocks, Rounding::stochastic, Random{5, 6, 8}, Dtype::float32, x.data(), one.data(), nullptr, nullptr,
                  1);
  quantize_blocks(element, Scaling{}, blocks, Rounding::stochastic, Random{5, 6, 8}, Dtype::float32, x.data(), many.data(), nullptr,
                  nullptr, 4);
  CHECK(same(one, many));
}

TEST(products_are_their_definition) {
  const Format half = float_format(5, 10, Specials::ieee, Overflow::infinity),
               brain = float_format(8, 7, Specials::ieee, Overflow::infinity);
  for (const Format* format : {&half, &brain})
    for (int64_t every : {int64_t{1}, int64_t{7}, int64_t{0}})
      for (int64_t columns : {1, 15, 16, 17, 33, 70})
        for (int64_t rows : {1, 4, 6}) {
          const int64_t inner = 19;
          const std::vector<float> a = wave(rows * inner), b = wave(inner * columns);
          std::vector<float> got(static_cast<size_t>(rows * columns)), want(got.size());
          matmul(*format, Rounding::nearest_even, every, a.data(), b.data(), got.data(), rows, inner, columns, 2);
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) {
              float sum = 0;
              for (int64_t k = 0; k < inner; ++k) {
                sum = std::fma(a[static_cast<size_t>(i * inner + k)], b[static_cast<size_t>(k * columns + j)], sum);
                if (k + 1 == inner || (every > 0 && (k + 1) % every == 0)) sum = rounded(*format, sum);
              }
              want[static_cast<size_t>(i * columns + j)] = sum + 0.0f;
            }
          CHECK(same(got, want));
        }
}

TEST(statistics_count_every_element_once) {
  const Format format = float_format(4, 3, Specials::finite_nan, Overflow::saturate);
  for (int64_t count : {0, 1, 16, 17, 1023, 1025, 70000}) {
    std::vector<float> x = wave(count), y(x.size());
    if (count > 2) x[2] = std::nanf("");
    const Statistics all = quantize_with_statistics(format, Rounding::nearest_even, Random{}, Dtype::float32, x.data(), y.data(), count, 2);
    int64_t sum = 0, zeroed = 0;
    for (int64_t bin : all.exponents) sum += bin;
    for (size_t i = 0; i < x.size(); ++i) zeroed += x[i] != 0 && y[i] == 0;
    CHECK_EQUAL(all.count, count);
    CHECK_EQUAL(sum, count);
    CHECK_EQUAL(all.zeroed, zeroed);
    CHECK_EQUAL(all.nan, int64_t{count > 2});
  }
}

TEST(bad_blocks_and_products_are_refused) {
  const Format element = float_format(2, 1, Specials::none, Overflow::saturate);
  const Format book(CodebookSpec{{0.0f, 1.0f}, {0, 1}, {}, 1, -1, false});
  float x = 1;
  const Blocks none{1, 1, 1, 1, 0};
  CHECK_THROWS(quantize_blocks(element, Scaling{}, none, Rounding::up, Random{}, Dtype::float32, &x, &x, nullptr, nullptr, 1),
               invalid_argument, "quantize: block is 0; expected at least 1");
  CHECK_THROWS(matmul(book, Rounding::up, 1, &x, &x, &x, 1, 1, 1, 1), unsupported, "matmul: accumulate is a code book");
  CHECK_THROWS(matmul(element, Rounding::stochastic, 1, &x, &x, &x, 1, 1, 1, 1), unsupported, "matmul: rounding is 'stochastic'");
  CHECK_THROWS(matmul(element, Rounding::up, 1, &x, &x, &x, -1, 1, 1, 1), invalid_argument, "matmul: a size is negative");
}
