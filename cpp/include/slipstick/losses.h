// Statistics of a linear head's logits, streamed over the vocabulary, and one streamed backward for every loss made of them; the logits
// z = map(scale * (hidden . weight^T + bias)) are never held for all rows at once.
//
// Floor: with N rows, width D, vocabulary V, one unit is a product of 2 N D V flop. The forward is 1 unit; a materialised forward and backward
// is 3; recomputing the logits makes it 4, and a gradient filter about 2. The bytes (hidden and weight once per block of rows) stay below the
// flops from some 100 rows on. So the design is: own register-blocked product whose panels hold rows in lanes and whose other operand,
// the weight, is read in place; statistics taken from each 64-column tile while it is in the first cache; sums merged in double in the order
// of a fixed grid. Backward forms dz = p (a + b z) + c z + d + sum e tile by tile, straight into the layout that both products read: for a
// mean or sum of cross-entropy the logits of a chunk of rows stay in the workspace (3 units), otherwise they are computed again (4).
//
// Online merge of sums: Milakov and Gimelshein 2018 (arXiv:1805.02867), algorithm 3. Gradient filter: Wijmans et al. 2024 (arXiv:2411.09009),
// here per element, and with the dropped part spread evenly over the vocabulary.
//
// bf16: on processors that multiply pairs of bf16 (level v4_bf16) the logits are taken so, twice as fast; operands below 2^-126 count as 0
// there. The last products of the backward are taken so, too, for gradients of the log-probability of one target a row without softcap: those
// by single logits are rounded to bf16 before, except the target's and all that are more than a quarter of what the others of their row sum up
// to, which are added in float. Their logits may have been kept in 12 bits: off by 2^-10 of a natural log down to 2 below the largest of 64, by
// 2^-9 to 6, 2^-8 to 14, 2^-7 to 30. Other gradients are as on v4.
//
// Results are the same bits for any number of threads; they differ in the last bits between instruction sets, those of pairs of bf16 between
// processors, too.
// NaN in a row gives NaN in the statistics of that row only; an infinite logit gives its limit (lse = inf, probability 0 for -inf).
#pragma once
#include <cstdint>

namespace slipstick::losses {

// Of hidden and weight. Sums are taken in float, for f64 in double.
enum class Format { f32, bf16, f16, f64 };

// What is applied to scale * (hidden . weight^T + bias): nothing, cap * tanh(z / cap), or sign(z) log(1 + |z|), whose softmax is StableMax
// (Prieto et al. 2025, arXiv:2501.04697, proposition 1).
enum class LogitMap { none, softcap, stablemax };

struct Head {
  Format format = Format::f32;
  const void* hidden = nullptr;  // [rows] of width elements, hidden_stride elements apart
  const void* weight = nullptr;  // [vocabulary] of width elements, weight_stride elements apart
  const void* bias = nullptr;  // null, or [vocabulary] of float, for f64 of double
  int64_t rows = 0, width = 0, vocabulary = 0;
  int64_t hidden_stride = 0, weight_stride = 0;
  double scale = 1;
  LogitMap map = LogitMap::none;
  double cap = 0;
};

// Rows whose target is `ignore` are skipped: statistics 0, indices -1, no gradient. A null pointer means that no row has a target.
struct Targets {
  const int64_t* index = nullptr;  // [rows]
  int64_t ignore = -100;
};

// Where the statistics go; a null pointer is not computed. All [rows], except that the top ones are [rows, topk].
struct Statistics {
  double* target = nullptr;  // logit of the target; at most maximum, so lse - target >= 0
  double* lse = nullptr;  // log sum_j e^z_j, natural log
  double* mean = nullptr;  // (1/V) sum_j z_j
  double* second_moment = nullptr;  // (1/V) sum_j z_j^2
  double* expected = nullptr;  // sum_j p_j z_j, p = softmax(z); the entropy is lse - expected
  double* maximum = nullptr;
  int64_t* argmax = nullptr;  // the lowest index of the maximum; some index where a logit is NaN
  int64_t topk = 0;  // at most kMaxTopk and vocabulary
  double* top_values = nullptr;  // falling, equal ones by rising index; some of the row's where a logit is NaN
  int64_t* top_indices = nullptr;
};
constexpr int64_t kMaxTopk = 256;

// Throws Error{invalid_argument} on sizes below 0, a target outside [0, vocabulary), a missing target, topk out of range, vocabulary == 0
// with rows, or an option out of range. Memory: 16 MiB and O(rows), 24 bytes per row and 4096 columns.
void row_statistics(const Head& head, const Targets& targets, const Statistics& out, int threads);

// dz = p (a + b z) + c z + d + sum_k value_k [j == index_k], z the mapped logits, p = e^(z - lse). Null arrays are zeros.
struct Coefficients {
  const double* lse = nullptr;  // [rows], as row_statistics gave it
  const double* a = nullptr;  // [rows]
  const double* b = nullptr;
  const double* c = nullptr;
  const double* d = nullptr;
  int64_t entries = 0;  // single logits with a gradient of their own
  const int64_t* index = nullptr;  // [rows, entries], negative for none
  const double* value = nullptr;  // [rows, entries]
};

// Where gradients go; a null pointer is not computed. Contiguous, in the head's format; that of the bias in float, for f64 in double.
struct Gradients {
  void* hidden = nullptr;  // [rows, width]
  void* weight = nullptr;  // [vocabulary, width]
  void* bias = nullptr;  // [vocabulary]
};

struct BackwardOptions {
  // For all buffers beyond the gradients but those that each thread at work has of its own, up to 1 KiB * (width + rows of a chunk): so chunks do
  // not depend on the number of threads. Beyond it, too, is a float sum of a 16-bit gradient of the weight, which is needed where the rows do
  // not fit one chunk, or where a filter leaves more than fits a quarter of the workspace in 12 bytes each.
  int64_t workspace_bytes = int64_t{64} << 20;
  // Elements with |p (a + b z)| < eps (|a| + |b|) are dropped and their sum is spread evenly; 0: exact. A gradient with c, or with d behind a
  // map of the logits, is small nowhere and is taken exactly.
  double filter_eps = 0;
  double* dropped = nullptr;  // [rows], null or written: sum of the dropped p (a + b z)
  int threads = 0;
};

// Error against the same sums in double: a few 2^-24 sqrt(rows or vocabulary) of sum |terms|; 2^-9 relative more where the format is 16 bits.
// Throws Error{invalid_argument} as row_statistics, and on filter_eps outside [0, 1).
void backward(const Head& head, const Targets& targets, const Coefficients& coefficients, const Gradients& out,
              const BackwardOptions& options);

// Cross-entropy with its gradient in one go: w (lse - (1 - s) z_y - s mean + zeta lse^2), w = row_weight, s = label_smoothing.
struct CrossEntropy {
  const double* row_weight = nullptr;  // [rows], null for ones
  double label_smoothing = 0;
  double z_loss = 0;
  bool mean = false;  // w is divided by its sum over the rows that are not ignored
};
// Returns the sum of the losses, NaN where it is the mean of nothing. loss [rows], null or written: with its weight, 0 where ignored; lse [rows],
// null or written. options.dropped holds probabilities here.
double cross_entropy(const Head& head, const Targets& targets, const CrossEntropy& loss, const Gradients& out,
                     const BackwardOptions& options, double* losses, double* lse);

// ---- two heads over the same rows and classes ------------------------------------------------------------------------------------------------
//
// z are the mapped logits of the first head, w those of the second, p and q their softmaxes, d = z - w. One pass streams both weights, tile by
// tile; a unit is a product of the size of one head here, so the forward is two units, and the backward two more, and two for each head that
// gets gradients. Heads may differ in width and format, but f64 goes with f64 only.
struct TwoHeads {
  Head first, second;
};
struct TwoGradients {
  Gradients first, second;
};

// kl: KL(q || p) and KL(p || q). jensen_shannon: b KL(q || m) + (1 - b) KL(p || m), m = b q + (1 - b) p, b the mixture. With s the sigmoid,
// bernoulli: sum_j KL(Bernoulli(s(w_j)) || Bernoulli(s(z_j))), and bernoulli_norm: sum_j KL(Bernoulli(1/2) || Bernoulli(s(d_j))).
enum class DivergenceKind { kl, jensen_shannon, bernoulli, bernoulli_norm };
struct Divergence {
  DivergenceKind kind = DivergenceKind::kl;
  double mixture = 0.5;
};

// [rows] each; all are written by the forward and read by the backward. 0 in rows that are skipped.
struct DivergenceRows {
  double* forward = nullptr;  // KL(q || p), or the divergence
  double* reverse = nullptr;  // kl: KL(p || q); jensen_shannon: KL(p || m); else 0
  double* first_lse = nullptr;  // kl and jensen_shannon, else 0
  double* second_lse = nullptr;
};

// Throws Error{invalid_argument} as row_statistics, on heads that do not fit each other and on a mixture outside (0, 1). Classes of probability
// 0 (below e^-87 in float) count for nothing; where both logits are the same infinity, d is 0. jensen_shannon takes two passes. Values are off
// by some 2^-20 (float) or 2^-48 of 1 + the largest |logit|, for the Bernoulli kinds times the vocabulary, and may be below 0 by as much.
void divergence(const TwoHeads& heads, const Targets& targets, const Divergence& divergence, const DivergenceRows& out, int threads);

// What is asked for by each of DivergenceRows; null for 0. All but forward are null where the kind is not kl.
struct DivergenceUpstream {
  const double* forward = nullptr;  // [rows]
  const double* reverse = nullptr;
  const double* first_lse = nullptr;
  const double* second_lse = nullptr;
};
// Gradients of the sum over rows of upstream times `rows`, which divergence() wrote. filter_eps must be 0.
void divergence_backward(const TwoHeads& heads, const Targets& targets, const Divergence& divergence, const DivergenceRows& rows,
                         const DivergenceUpstream& upstream, const TwoGradients& out, const BackwardOptions& options);

// The logits z + coefficient w, w counted only where z >= least and z is not -inf.
struct Combination {
  double coefficient = -1;
  const double* least = nullptr;  // [rows], null for no filter
};
// As row_statistics, of the combined logits.
void combined_statistics(const TwoHeads& heads, const Targets& targets, const Combination& combination, const Statistics& out, int threads);

// Gradients of sum_n by_lse[n] lse[n] + by_target[n] target[n]; either may be null. filter_eps must be 0.
void combined_backward(const TwoHeads& heads, const Targets& targets, const Combination& combination, const double* lse,
                       const double* by_lse, const double* by_target, const TwoGradients& out, const BackwardOptions& options);

// The k-th largest logit of every row, the same bits as the streamed logits have: for `least` above. A NaN in the row gives NaN. 0 in rows that
// are skipped. Logits of as many rows as fit workspace_bytes are held. Throws as row_statistics, and on k outside 1 ... vocabulary.
void kth_largest(const Head& head, const Targets& targets, int64_t k, double* maximum, double* kth, int64_t workspace_bytes, int threads);

// Runs multiply-adds that wait for nothing, and says how many float operations they were: the peak that benchmarks compare with.
double multiply_add_flops(int64_t steps);

}  // namespace slipstick::losses
