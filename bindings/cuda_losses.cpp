// `slipstick._cuda.losses`: statistics and gradients of tiles of logits, over raw addresses.
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
         Address index, Address value, int out_format, Address out, int64_t out_stride) {
        losses::Coefficients of;
        of.lse = at<double>(lse);
        of.a = at<double>(a);
        of.b = at<double>(b);
        of.c = at<double>(c);
        of.d = at<double>(d);
        of.entries = entries;
        of.index = at<int64_t>(index);
        of.value = at<double>(value);
        cuda::form_gradient(queue(place), tile(fields), of, static_cast<losses::Format>(out_format), at<void>(out), out_stride);
      },
      "place"_a, "tile"_a, "lse"_a, "a"_a, "b"_a, "c"_a, "d"_a, "entries"_a, "index"_a, "value"_a, "out_format"_a, "out"_a, "out_stride"_a);
}

}  // namespace slipstick_bindings
