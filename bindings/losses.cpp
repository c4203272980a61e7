// `slipstick._core.losses`: statistics of a linear head and their gradients, over addresses. The Python layer owns the arrays and has checked
// dtypes, shapes and layouts; a null address is 0. Nothing here is public.
#include "slipstick/losses.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <tuple>

#include "slipstick/error.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace losses = slipstick::losses;

namespace {

template <class T> T* pointer(uintptr_t address) { return reinterpret_cast<T*>(address); }

losses::Format format_of(const std::string& name) {
  if (name == "float32") return losses::Format::f32;
  if (name == "bfloat16") return losses::Format::bf16;
  if (name == "float16") return losses::Format::f16;
  if (name == "float64") return losses::Format::f64;
  throw slipstick::Error(slipstick::ErrorKind::invalid_argument,
                         "losses: dtype is " + name + "; expected float32, bfloat16, float16 or float64");
}

losses::LogitMap map_of(const std::string& name) {
  if (name.empty()) return losses::LogitMap::none;
  if (name == "softcap") return losses::LogitMap::softcap;
  if (name == "stablemax") return losses::LogitMap::stablemax;
  throw slipstick::Error(slipstick::ErrorKind::invalid_argument, "losses: logit_map is '" + name + "'; expected None or 'stablemax'");
}

struct PyHead {
  losses::Head head;
  losses::Targets targets;
};

void make_head(PyHead* self, const std::string& format, uintptr_t hidden, uintptr_t weight, uintptr_t bias, int64_t rows, int64_t width,
               int64_t vocabulary, int64_t hidden_stride, int64_t weight_stride, double scale, const std::string& map, double cap,
               uintptr_t targets, int64_t ignore_index) {
  new (self) PyHead;
  self->head.format = format_of(format);
  self->head.hidden = pointer<void>(hidden);
  self->head.weight = pointer<void>(weight);
  self->head.bias = pointer<void>(bias);
  self->head.rows = rows;
  self->head.width = width;
  self->head.vocabulary = vocabulary;
  self->head.hidden_stride = hidden_stride;
  self->head.weight_stride = weight_stride;
  self->head.scale = scale;
  self->head.map = map_of(map);
  self->head.cap = cap;
  self->targets.index = pointer<const int64_t>(targets);
  self->targets.ignore = ignore_index;
}

void row_statistics(const PyHead& head, uintptr_t target, uintptr_t lse, uintptr_t mean, uintptr_t second_moment, uintptr_t expected,
                    uintptr_t maximum, uintptr_t argmax, int64_t topk, uintptr_t top_values, uintptr_t top_indices, int threads) {
  losses::Statistics out;
  out.target = pointer<double>(target);
  out.lse = pointer<double>(lse);
  out.mean = pointer<double>(mean);
  out.second_moment = pointer<double>(second_moment);
  out.expected = pointer<double>(expected);
  out.maximum = pointer<double>(maximum);
  out.argmax = pointer<int64_t>(argmax);
  out.topk = topk;
  out.top_values = pointer<double>(top_values);
  out.top_indices = pointer<int64_t>(top_indices);
  nb::gil_scoped_release release;
  losses::row_statistics(head.head, head.targets, out, threads);
}

losses::BackwardOptions options_of(int64_t workspace, double filter_eps, uintptr_t dropped, int threads) {
  losses::BackwardOptions options;
  options.workspace_bytes = workspace;
  options.filter_eps = filter_eps;
  options.dropped = pointer<double>(dropped);
  options.threads = threads;
  return options;
}

losses::Gradients gradients_of(uintptr_t hidden, uintptr_t weight, uintptr_t bias) {
  return {pointer<void>(hidden), pointer<void>(weight), pointer<void>(bias)};
}

void backward(const PyHead& head, uintptr_t lse, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, int64_t entries, uintptr_t index,
              uintptr_t value, uintptr_t hidden, uintptr_t weight, uintptr_t bias, int64_t workspace, double filter_eps, uintptr_t dropped,
              int threads) {
  losses::Coefficients from;
  from.lse = pointer<const double>(lse);
  from.a = pointer<const double>(a);
  from.b = pointer<const double>(b);
  from.c = pointer<const double>(c);
  from.d = pointer<const double>(d);
  from.entries = entries;
  from.index = pointer<const int64_t>(index);
  from.value = pointer<const double>(value);
  nb::gil_scoped_release release;
  losses::backward(head.head, head.targets, from, gradients_of(hidden, weight, bias), options_of(workspace, filter_eps, dropped, threads));
}

double cross_entropy(const PyHead& head, uintptr_t row_weight, double label_smoothing, double z_loss, bool mean, uintptr_t hidden,
                     uintptr_t weight, uintptr_t bias, int64_t workspace, double filter_eps, uintptr_t dropped, int threads, uintptr_t loss,
                     uintptr_t lse) {
  const losses::CrossEntropy terms{pointer<const double>(row_weight), label_smoothing, z_loss, mean};
  nb::gil_scoped_release release;
  return losses::cross_entropy(head.head, head.targets, terms, gradients_of(hidden, weight, bias),
                               options_of(workspace, filter_eps, dropped, threads), pointer<double>(loss), pointer<double>(lse));
}

losses::Divergence divergence_of(const std::string& kind, double mixture) {
  using losses::DivergenceKind;
  if (kind == "kl") return {DivergenceKind::kl, mixture};
  if (kind == "jensen_shannon") return {DivergenceKind::jensen_shannon, mixture};
  if (kind == "binary_kl") return {DivergenceKind::bernoulli, mixture};
  if (kind == "binary_kl_norm") return {DivergenceKind::bernoulli_norm, mixture};
  throw slipstick::Error(slipstick::ErrorKind::invalid_argument,
                         "losses: kind is '" + kind + "'; expected 'kl', 'jensen_shannon', 'binary_kl' or 'binary_kl_norm'");
}

// Addresses of what is asked for by forward, reverse and both log-sum-exps.
using RowAddresses = std::tuple<uintptr_t, uintptr_t, uintptr_t, uintptr_t>;
// Addresses of hidden, weight and bias, for each head.
using HeadAddresses = std::tuple<uintptr_t, uintptr_t, uintptr_t>;
losses::TwoGradients gradients_of(const HeadAddresses& first, const HeadAddresses& second) {
  return {std::apply(static_cast<losses::Gradients (*)(uintptr_t, uintptr_t, uintptr_t)>(gradients_of), first),
          std::apply(static_cast<losses::Gradients (*)(uintptr_t, uintptr_t, uintptr_t)>(gradients_of), second)};
}

losses::DivergenceRows divergence_rows(uintptr_t forward, uintptr_t reverse, uintptr_t lse, uintptr_t second_lse) {
  return {pointer<double>(forward), pointer<double>(reverse), pointer<double>(lse), pointer<double>(second_lse)};
}

void divergence(const PyHead& head, const PyHead& second, const std::string& kind, double mixture, uintptr_t forward, uintptr_t reverse,
                uintptr_t lse, uintptr_t second_lse, int threads) {
  const losses::Divergence of = divergence_of(kind, mixture);
  nb::gil_scoped_release release;
  losses::divergence({head.head, second.head}, head.targets, of, divergence_rows(forward, reverse, lse, second_lse), threads);
}

void divergence_backward(const PyHead& head, const PyHead& second, const std::string& kind, double mixture, uintptr_t forward,
                         uintptr_t reverse, uintptr_t lse, uintptr_t second_lse, const RowAddresses& upstream,
                         const HeadAddresses& gradients, const HeadAddresses& second_gradients, int64_t workspace, int threads) {
  const losses::Divergence of = divergence_of(kind, mixture);
  nb::gil_scoped_release release;
  losses::divergence_backward({head.head, second.head}, head.targets, of, divergence_rows(forward, reverse, lse, second_lse),
                              {pointer<const double>(std::get<0>(upstream)), pointer<const double>(std::get<1>(upstream)),
                               pointer<const double>(std::get<2>(upstream)), pointer<const double>(std::get<3>(upstream))},
                              gradients_of(gradients, second_gradients), options_of(workspace, 0, 0, threads));
}

void combined_statistics(const PyHead& head, const PyHead& second, double coefficient, uintptr_t least, uintptr_t target, uintptr_t lse,
                         int threads) {
  losses::Statistics out;
  out.target = pointer<double>(target);
  out.lse = pointer<double>(lse);
  nb::gil_scoped_release release;
  losses::combined_statistics({head.head, second.head}, head.targets, {coefficient, pointer<const double>(least)}, out, threads);
}

void combined_backward(const PyHead& head, const PyHead& second, double coefficient, uintptr_t least, uintptr_t lse, uintptr_t by_lse,
                       uintptr_t by_target, const HeadAddresses& gradients, const HeadAddresses& second_gradients, int64_t workspace,
                       int threads) {
  nb::gil_scoped_release release;
  losses::combined_backward({head.head, second.head}, head.targets, {coefficient, pointer<const double>(least)}, pointer<const double>(lse),
                            pointer<const double>(by_lse), pointer<const double>(by_target), gradients_of(gradients, second_gradients),
                            options_of(workspace, 0, 0, threads));
}

void kth_largest(const PyHead& head, int64_t k, uintptr_t maximum, uintptr_t kth, int64_t workspace, int threads) {
  nb::gil_scoped_release release;
  losses::kth_largest(head.head, head.targets, k, pointer<double>(maximum), pointer<double>(kth), workspace, threads);
}

}  // namespace

void bind_losses(nb::module_& module) {
  module.doc() = "Streamed statistics of a linear head. Private: use slipstick.losses.";
  module.def("multiply_add_flops", &losses::multiply_add_flops, "steps"_a, "Float operations of a loop at the processor's peak.");
  module.attr("MAX_TOPK") = losses::kMaxTopk;
  nb::class_<PyHead>(module, "Head")
      .def("__init__", &make_head, "format"_a, "hidden"_a, "weight"_a, "bias"_a, "rows"_a, "width"_a, "vocabulary"_a, "hidden_stride"_a,
           "weight_stride"_a, "scale"_a, "map"_a, "cap"_a, "targets"_a, "ignore_index"_a);
  module.def("row_statistics", &row_statistics, "head"_a, "target"_a, "lse"_a, "mean"_a, "second_moment"_a, "expected"_a, "maximum"_a,
             "argmax"_a, "topk"_a, "top_values"_a, "top_indices"_a, "threads"_a);
  module.def("backward", &backward, "head"_a, "lse"_a, "a"_a, "b"_a, "c"_a, "d"_a, "entries"_a, "index"_a, "value"_a, "hidden"_a,
             "weight"_a, "bias"_a, "workspace"_a, "filter_eps"_a, "dropped"_a, "threads"_a);
  module.def("cross_entropy", &cross_entropy, "head"_a, "row_weight"_a, "label_smoothing"_a, "z_loss"_a, "mean"_a, "hidden"_a, "weight"_a,
             "bias"_a, "workspace"_a, "filter_eps"_a, "dropped"_a, "threads"_a, "loss"_a, "lse"_a);
  module.def("divergence", &divergence, "head"_a, "second"_a, "kind"_a, "mixture"_a, "forward"_a, "reverse"_a, "lse"_a, "second_lse"_a,
             "threads"_a);
  module.def("divergence_backward", &divergence_backward, "head"_a, "second"_a, "kind"_a, "mixture"_a, "forward"_a, "reverse"_a, "lse"_a,
             "second_lse"_a, "upstream"_a, "gradients"_a, "second_gradients"_a, "workspace"_a, "threads"_a);
  module.def("combined_statistics", &combined_statistics, "head"_a, "second"_a, "coefficient"_a, "least"_a, "target"_a, "lse"_a,
             "threads"_a);
  module.def("combined_backward", &combined_backward, "head"_a, "second"_a, "coefficient"_a, "least"_a, "lse"_a, "by_lse"_a, "by_target"_a,
             "gradients"_a, "second_gradients"_a, "workspace"_a, "threads"_a);
  module.def("kth_largest", &kth_largest, "head"_a, "k"_a, "maximum"_a, "kth"_a, "workspace"_a, "threads"_a);
}
