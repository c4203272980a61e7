// `slipstick._cuda.losses`: statistics and gradients of tiles of logits, over raw addresses.
#include <nanobind/stl/optional.h>

#include "cuda_arguments.h"
#include "slipstick/losses_cuda.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace losses = slipstick::losses;
namespace cuda = slipstick::losses::cuda;

namespace slipstick_bindings {
namespace {

// Fields of Tile in its order.
using TileFields =
    std::tuple<int, Address, int64_t, int64_t, int64_t, int64_t, int64_t, Address, double, Address, int, double, Address, int64_t>;

cuda::Tile tile(const TileFields& fields) {
  const auto [format, products, rows, columns, stride, first, vocabulary, bias, scale, factor, map, cap, targets, ignore] = fields;
  cuda::Tile out;
  out.format = static_cast<losses::Format>(format);
  out.products = at<void>(products);
  out.rows = rows;
  out.columns = columns;
  out.stride = stride;
  out.first_column = first;
  out.vocabulary = vocabulary;
  out.bias = at<void>(bias);
  out.scale = scale;
  out.factor = at<double>(factor);
  out.map = static_cast<losses::LogitMap>(map);
  out.cap = cap;
  out.targets = at<int64_t>(targets);
  out.ignore = ignore;
  return out;
}

}  // namespace

void bind_cuda_losses(nb::module_& module) {
  module.doc() = "Tiles of logits on CUDA. Private: use slipstick.losses.";
  module.attr("SEGMENT_COLUMNS") = cuda::kSegmentColumns;
  module.def(
      "statistics_bytes",
      [](int format, int64_t rows, int64_t columns) { return cuda::statistics_bytes(static_cast<losses::Format>(format), rows, columns); },
      "format"_a, "rows"_a, "columns"_a);
  module.def(
      "filter_bytes",
      [](int format, int64_t rows, int64_t columns) { return cuda::filter_bytes(static_cast<losses::Format>(format), rows, columns); },
      "format"_a, "rows"_a, "columns"_a);
  module.def(
      "add_statistics",
      [](const Place& place, const TileFields& fields, bool first, bool all, Address workspace, Address sums, int64_t stride,
         Address argmax) {
        cuda::add_statistics(queue(place), tile(fields), first, all, at<void>(workspace), {at<double>(sums), stride, at<int64_t>(argmax)});
      },
      "place"_a, "tile"_a, "first"_a, "all"_a, "workspace"_a, "sums"_a, "stride"_a, "argmax"_a);
  module.def(
      "add_tops",
      [](const Place& place, const TileFields& fields, bool first, int64_t count, Address values, Address indices) {
        cuda::add_tops(queue(place), tile(fields), first, {count, at<double>(values), at<int64_t>(indices)});
      },
      "place"_a, "tile"_a, "first"_a, "count"_a, "values"_a, "indices"_a);
  module.def(
      "form_gradient",
      [](const Place& place, const TileFields& fields, Address lse, Address a, Address b, Address c, Address d, int64_t entries,
         Address index, Address value, double eps, Address dropped, Address workspace, int out_format, Address out, int64_t out_stride) {
        losses::Coefficients of;
        of.lse = at<double>(lse);
        of.a = at<double>(a);
        of.b = at<double>(b);
        of.c = at<double>(c);
        of.d = at<double>(d);
        of.entries = entries;
        of.index = at<int64_t>(index);
        of.value = at<double>(value);
        const cuda::Filter filter{eps, at<double>(dropped), at<void>(workspace)};
        cuda::form_gradient(queue(place), tile(fields), of, filter, static_cast<losses::Format>(out_format), at<void>(out), out_stride);
      },
      "place"_a, "tile"_a, "lse"_a, "a"_a, "b"_a, "c"_a, "d"_a, "entries"_a, "index"_a, "value"_a, "eps"_a, "dropped"_a, "workspace"_a,
      "out_format"_a, "out"_a, "out_stride"_a);
  module.def(
      "divergence_bytes",
      [](int format, int64_t rows, int64_t columns) { return cuda::divergence_bytes(static_cast<losses::Format>(format), rows, columns); },
      "format"_a, "rows"_a, "columns"_a);
  module.def(
      "add_divergence",
      [](const Place& place, const TileFields& one, const TileFields& other, int kind, double mixture, Address first_lse,
         Address second_lse, bool first, Address workspace, Address sums, int64_t stride) {
        cuda::add_divergence(queue(place), {tile(one), tile(other)}, {static_cast<losses::DivergenceKind>(kind), mixture},
                             at<double>(first_lse), at<double>(second_lse), first, at<void>(workspace), at<double>(sums), stride);
      },
      "place"_a, "one"_a, "other"_a, "kind"_a, "mixture"_a, "first_lse"_a, "second_lse"_a, "first"_a, "workspace"_a, "sums"_a, "stride"_a);
  module.def(
      "form_divergence_gradient",
      [](const Place& place, const TileFields& one, const TileFields& other, int kind, double mixture,
         const std::tuple<Address, Address, Address, Address, Address, Address, Address, Address>& rows, Address to_first,
         Address to_second) {
        const auto [first_lse, second_lse, by_forward, by_reverse, by_first_lse, by_second_lse, forward_mean, reverse_mean] = rows;
        const cuda::DivergenceCoefficients of{at<double>(first_lse),    at<double>(second_lse),   at<double>(by_forward),
                                              at<double>(by_reverse),   at<double>(by_first_lse), at<double>(by_second_lse),
                                              at<double>(forward_mean), at<double>(reverse_mean)};
        cuda::form_divergence_gradient(queue(place), {tile(one), tile(other)}, {static_cast<losses::DivergenceKind>(kind), mixture}, of,
                                       at<void>(to_first), at<void>(to_second));
      },
      "place"_a, "one"_a, "other"_a, "kind"_a, "mixture"_a, "rows"_a, "to_first"_a, "to_second"_a);
  module.def(
      "combine",
      [](const Place& place, const TileFields& one, const std::optional<TileFields>& other, double coefficient, Address least,
         Address out) {
        cuda::combine(queue(place), {tile(one), other ? tile(*other) : cuda::Tile{}}, coefficient, at<double>(least), at<void>(out));
      },
      "place"_a, "one"_a, "other"_a.none(), "coefficient"_a, "least"_a, "out"_a);
  module.def(
      "form_combined_gradient",
      [](const Place& place, const TileFields& one, const TileFields& other, double coefficient, Address least, Address lse, Address by_lse,
         Address by_target, Address to_first, Address to_second) {
        const cuda::CombinedCoefficients of{coefficient, at<double>(least), at<double>(lse), at<double>(by_lse), at<double>(by_target)};
        cuda::form_combined_gradient(queue(place), {tile(one), tile(other)}, of, at<void>(to_first), at<void>(to_second));
      },
      "place"_a, "one"_a, "other"_a, "coefficient"_a, "least"_a, "lse"_a, "by_lse"_a, "by_target"_a, "to_first"_a, "to_second"_a);
}

}  // namespace slipstick_bindings
