// Contract: what the core promises to C++ callers, beside what the Python tests reach: statistics and gradients against sums in double, the
// same bits for any number of threads, and errors that name the argument.
#include "slipstick/losses.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "check.h"
#include "losses/kernels.h"
#include "slipstick/random.h"

using namespace slipstick::losses;

namespace {

std::vector<float> normal(int64_t count, uint32_t purpose) {
  std::vector<uint32_t> words(static_cast<size_t>((count + 3) / 4 * 4));
  slipstick::RandomStream(7, purpose).fill(0, static_cast<int64_t>(words.size() / 4), words.data(), 1);
  std::vector<float> out;
  for (int64_t i = 0; i < count; ++i) {  // a sum of two uniforms is close enough
    const uint32_t word = words[static_cast<size_t>(i)];
    out.push_back(static_cast<float>((word & 0xffff) + (word >> 16)) / 32768.0f - 2.0f);
  }
  return out;
}

struct Case {
  int64_t rows = 61, width = 37, vocabulary = 4500;
  std::vector<float> hidden = normal(rows * width, 1), weight = normal(vocabulary * width, 2), bias = normal(vocabulary, 3);
  std::vector<int64_t> labels;
  Head head;

  Case() {
    for (int64_t n = 0; n < rows; ++n) labels.push_back(n % 5 == 2 ? -100 : n * 977 % vocabulary);
    head.hidden = hidden.data();
    head.weight = weight.data();
    head.bias = bias.data();
    head.rows = rows;
    head.width = head.hidden_stride = head.weight_stride = width;
    head.vocabulary = vocabulary;
    head.scale = 0.3;
  }
  Targets targets() const { return {labels.data(), -100}; }
  double logit(int64_t n, int64_t v) const {
    double z = static_cast<double>(bias[static_cast<size_t>(v)]);
    for (int64_t k = 0; k < width; ++k)
      z +=
          static_cast<double>(hidden[static_cast<size_t>(n * width + k)]) * static_cast<double>(weight[static_cast<size_t>(v * width + k)]);
    return z * 0.3;
  }
};

struct Result {
  std::vector<double> target, lse, expected, loss;
  std::vector<float> hidden, weight, bias;
  bool operator==(const Result& other) const {
    return target == other.target && lse == other.lse && expected == other.expected && loss == other.loss && hidden == other.hidden &&
           weight == other.weight && bias == other.bias;
  }
};

Result run(const Case& c, int threads, int64_t workspace) {
  Result r;
  const size_t rows = static_cast<size_t>(c.rows);
  r.target.resize(rows);
  r.lse.resize(rows);
  r.expected.resize(rows);
  r.loss.resize(rows);
  r.hidden.resize(c.hidden.size());
  r.weight.resize(c.weight.size());
  r.bias.resize(c.bias.size());
  Statistics out;
  out.target = r.target.data();
  out.lse = r.lse.data();
  out.expected = r.expected.data();
  row_statistics(c.head, c.targets(), out, threads);
  BackwardOptions options;
  options.threads = threads;
  options.workspace_bytes = workspace;
  std::vector<double> lse(rows);
  const Gradients gradients{r.hidden.data(), r.weight.data(), r.bias.data()};
  const double sum = cross_entropy(c.head, c.targets(), CrossEntropy{}, gradients, options, r.loss.data(), lse.data());
  CHECK(lse == r.lse);
  CHECK(std::abs(sum - std::accumulate(r.loss.begin(), r.loss.end(), 0.0)) <= 1e-12 * sum);
  return r;
}

}  // namespace

TEST(the_kernels_are_those_of_the_level_in_use) {
  CHECK_EQUAL(std::string(active_kernels().isa), std::string(slipstick::isa_name(slipstick::isa())));
}

TEST(statistics_and_gradients_match_sums_in_double) {
  const Case c;
  for (const int64_t workspace : {int64_t{64} << 20, int64_t{1} << 16}) {
    const Result r = run(c, 2, workspace);
    std::vector<double> by_weight(c.weight.size()), by_bias(c.bias.size());
    for (int64_t n = 0; n < c.rows; ++n) {
      const int64_t label = c.labels[static_cast<size_t>(n)];
      double sum = 0, weighted = 0;
      std::vector<double> z(static_cast<size_t>(c.vocabulary)), by_hidden(static_cast<size_t>(c.width));
      for (int64_t v = 0; v < c.vocabulary; ++v) {
        z[static_cast<size_t>(v)] = c.logit(n, v);
        sum += std::exp(z[static_cast<size_t>(v)]);
        weighted += std::exp(z[static_cast<size_t>(v)]) * z[static_cast<size_t>(v)];
      }
      const double lse = label < 0 ? 0 : std::log(sum), target = label < 0 ? 0 : z[static_cast<size_t>(label)];
      CHECK(std::abs(r.lse[static_cast<size_t>(n)] - lse) <= 3e-6);
      CHECK(std::abs(r.target[static_cast<size_t>(n)] - target) <= 3e-6);
      CHECK(std::abs(r.expected[static_cast<size_t>(n)] - (label < 0 ? 0 : weighted / sum)) <= 6e-6);
      CHECK(std::abs(r.loss[static_cast<size_t>(n)] - (lse - target)) <= 6e-6);
      for (int64_t v = 0; label >= 0 && v < c.vocabulary; ++v) {
        const double g = 0.3 * (std::exp(z[static_cast<size_t>(v)] - lse) - (v == label ? 1 : 0));
        by_bias[static_cast<size_t>(v)] += g;
        for (int64_t k = 0; k < c.width; ++k) {
          by_hidden[static_cast<size_t>(k)] += g * static_cast<double>(c.weight[static_cast<size_t>(v * c.width + k)]);
          by_weight[static_cast<size_t>(v * c.width + k)] += g * static_cast<double>(c.hidden[static_cast<size_t>(n * c.width + k)]);
        }
      }
      for (int64_t k = 0; k < c.width; ++k)
        CHECK(std::abs(static_cast<double>(r.hidden[static_cast<size_t>(n * c.width + k)]) - by_hidden[static_cast<size_t>(k)]) <= 2e-6);
    }
    for (size_t i = 0; i < by_weight.size(); ++i) CHECK(std::abs(static_cast<double>(r.weight[i]) - by_weight[i]) <= 2e-6);
    for (size_t i = 0; i < by_bias.size(); ++i) CHECK(std::abs(static_cast<double>(r.bias[i]) - by_bias[i]) <= 2e-6);
  }
}

TEST(every_thread_count_gives_the_same_bits) {
  const Case c;
  for (const int64_t workspace : {int64_t{64} << 20, int64_t{1} << 16}) {
    const Result one = run(c, 1, workspace);
    for (const int threads : {2, 3, 8}) CHECK(run(c, threads, workspace) == one);
  }
}

TEST(two_heads_match_sums_in_double) {
  Case first, second;
  second.weight = normal(second.vocabulary * second.width, 4);
  second.head.weight = second.weight.data();
  const TwoHeads heads{first.head, second.head};
  const size_t rows = static_cast<size_t>(first.rows);
  const double b = 0.3, coefficient = -0.6;
  std::vector<double> forward(rows), reverse(rows), first_lse(rows), second_lse(rows), shannon(rows), to_mixture(rows), maximum(rows),
      kth(rows), target(rows), lse(rows);
  divergence(heads, first.targets(), {}, {forward.data(), reverse.data(), first_lse.data(), second_lse.data()}, 2);
  divergence(heads, first.targets(), {DivergenceKind::jensen_shannon, b},
             {shannon.data(), to_mixture.data(), first_lse.data(), second_lse.data()}, 2);
  constexpr int64_t kRank = 10;
  kth_largest(first.head, first.targets(), kRank, maximum.data(), kth.data(), 1 << 20, 2);
  Statistics combined;
  combined.target = target.data();
  combined.lse = lse.data();
  combined_statistics(heads, first.targets(), {coefficient, kth.data()}, combined, 2);
  for (int64_t row = 0; row < first.rows; ++row) {
    const size_t n = static_cast<size_t>(row);
    const int64_t label = first.labels[n];
    if (label < 0) {
      for (const auto* values : {&forward, &reverse, &first_lse, &second_lse, &shannon, &kth, &target, &lse})
        CHECK_EQUAL((*values)[n], 0.0);
      continue;
    }
    std::vector<double> z, w;
    double z_sum = 0, w_sum = 0;
    for (int64_t v = 0; v < first.vocabulary; ++v) {
      z.push_back(first.logit(row, v));
      w.push_back(second.logit(row, v));
      z_sum += std::exp(z.back());
      w_sum += std::exp(w.back());
    }
    double q_to_p = 0, p_to_q = 0, q_to_m = 0, p_to_m = 0, combined_sum = 0;
    int64_t larger = 0, likely = 0;
    for (size_t v = 0; v < z.size(); ++v) {
      const double p = std::exp(z[v]) / z_sum, q = std::exp(w[v]) / w_sum, m = b * q + (1 - b) * p;
      q_to_p += q * std::log(q / p);
      p_to_q += p * std::log(p / q);
      q_to_m += q * std::log(q / m);
      p_to_m += p * std::log(p / m);
      larger += z[v] > kth[n] + 1e-5;
      likely += z[v] > kth[n] - 1e-5;
      combined_sum += std::exp(z[v] + (z[v] > kth[n] - 1e-5 ? coefficient * w[v] : 0));
    }
    CHECK(larger < kRank && likely >= kRank);
    CHECK(std::abs(maximum[n] - *std::max_element(z.begin(), z.end())) <= 3e-6);
    CHECK(std::abs(forward[n] - q_to_p) <= 6e-6);
    CHECK(std::abs(reverse[n] - p_to_q) <= 6e-6);
    CHECK(std::abs(first_lse[n] - std::log(z_sum)) <= 3e-6);
    CHECK(std::abs(second_lse[n] - std::log(w_sum)) <= 3e-6);
    CHECK(std::abs(shannon[n] - (b * q_to_m + (1 - b) * p_to_m)) <= 6e-6);
    CHECK(std::abs(to_mixture[n] - p_to_m) <= 6e-6);
    const size_t at = static_cast<size_t>(label);
    CHECK(std::abs(target[n] - (z[at] + (z[at] > kth[n] - 1e-5 ? coefficient * w[at] : 0))) <= 3e-6);
    CHECK(std::abs(lse[n] - std::log(combined_sum)) <= 3e-6);
  }
}

TEST(bad_arguments_of_two_heads_are_named) {
  const Case c;
  std::vector<double> values(static_cast<size_t>(c.rows), 1.0);
  const DivergenceRows rows{values.data(), values.data(), values.data(), values.data()};
  TwoHeads heads{c.head, c.head};
  CHECK_THROWS(divergence(heads, {}, {DivergenceKind::kl, 1.0}, rows, 1), invalid_argument, "mixture is 1.0");
  DivergenceUpstream upstream;
  upstream.reverse = values.data();
  CHECK_THROWS(divergence_backward(heads, {}, {DivergenceKind::bernoulli, 0.5}, rows, upstream, {}, {}), invalid_argument,
               "there is a gradient by another than forward");
  BackwardOptions options;
  options.filter_eps = 0.1;
  CHECK_THROWS(divergence_backward(heads, {}, {}, rows, upstream, {}, options), invalid_argument, "filter_eps is not 0");
  CHECK_THROWS(combined_backward(heads, {}, {}, values.data(), nullptr, values.data(), {}, {}), invalid_argument, "targets is None");
  CHECK_THROWS(kth_largest(c.head, {}, 4501, values.data(), values.data(), 1 << 20, 1), invalid_argument, "k is 4501; expected 1 to 4500");
  CHECK_THROWS(kth_largest(c.head, {}, 0, values.data(), values.data(), 1 << 20, 1), invalid_argument, "k is 0");
  heads.second.vocabulary = 7;
  CHECK_THROWS(divergence(heads, {}, {}, rows, 1), invalid_argument, "the second head has 61 rows and 7 classes; expected 61 and 4500");
  heads.second = c.head;
  heads.second.format = Format::f64;
  CHECK_THROWS(divergence(heads, {}, {}, rows, 1), invalid_argument, "one head alone is float64");
}

TEST(bad_arguments_are_named) {
  Case c;
  Statistics out;
  std::vector<double> values(static_cast<size_t>(c.rows));
  out.lse = values.data();
  c.labels[3] = c.vocabulary;
  CHECK_THROWS(row_statistics(c.head, c.targets(), out, 1), invalid_argument,
               "targets[3] is 4500; expected 0 to 4499 or ignore_index (-100)");
  c.labels[3] = -1;
  CHECK_THROWS(row_statistics(c.head, c.targets(), out, 1), invalid_argument, "targets[3] is -1");
  c.labels[3] = 0;
  out.topk = kMaxTopk + 1;
  CHECK_THROWS(row_statistics(c.head, c.targets(), out, 1), invalid_argument, "topk is 257; expected 0 to 256");
  out.topk = 0;
  out.target = values.data();
  CHECK_THROWS(row_statistics(c.head, {}, out, 1), invalid_argument, "targets is None");
  c.head.map = LogitMap::softcap;
  CHECK_THROWS(row_statistics(c.head, c.targets(), out, 1), invalid_argument, "softcap is 0.0");
  c.head.map = LogitMap::none;
  const std::vector<int64_t> index(static_cast<size_t>(c.rows), c.vocabulary);
  Coefficients from;
  from.entries = 1;
  from.index = index.data();
  from.value = values.data();
  values.assign(values.size(), 1.0);
  CHECK_THROWS(backward(c.head, {}, from, {}, {}), invalid_argument, "an entry of row 0 has index 4500; expected less than 4500");
  BackwardOptions options;
  options.filter_eps = 1;
  CHECK_THROWS(backward(c.head, {}, {}, {}, options), invalid_argument, "filter_eps is 1.0");
  options.filter_eps = 0;
  options.workspace_bytes = 0;
  CHECK_THROWS(backward(c.head, {}, {}, {}, options), invalid_argument, "workspace is 0");
}
