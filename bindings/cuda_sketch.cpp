// `slipstick._cuda.sketch`: sketches and residuals of rows in a device's memory, over raw addresses.
#include "cuda_arguments.h"
#include "slipstick/sketch_cuda.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace sketch = slipstick::sketch;

namespace slipstick_bindings {

void bind_cuda_sketch(nb::module_& module) {
  module.doc() = "Sketches on CUDA. Private: use slipstick.sketch.";
  module.def(
      "sketch_bytes",
      [](int kind, int64_t sketch_rows, int64_t nonzeros, int64_t rows, int64_t columns, uint64_t first_row) {
        return sketch::cuda::sketch_bytes({static_cast<sketch::Kind>(kind), 0, sketch_rows, nonzeros}, rows, columns, first_row);
      },
      "kind"_a, "sketch_rows"_a, "nonzeros"_a, "rows"_a, "columns"_a, "first_row"_a);
  module.def(
      "sketch",
      [](const Place& place, int kind, uint64_t seed, int64_t sketch_rows, int64_t nonzeros, Address data, bool single, int64_t rows,
         int64_t columns, int64_t row_stride, int64_t column_stride, Address scale, uint64_t first_row, Address workspace, Address out) {
        const sketch::Matrix a{at<void>(data), single, rows, columns, row_stride, column_stride};
        sketch::cuda::sketch(queue(place), {static_cast<sketch::Kind>(kind), seed, sketch_rows, nonzeros}, a, at<double>(scale), first_row,
                             at<void>(workspace), at<double>(out));
      },
      "place"_a, "kind"_a, "seed"_a, "sketch_rows"_a, "nonzeros"_a, "data"_a, "single"_a, "rows"_a, "columns"_a, "row_stride"_a,
      "column_stride"_a, "scale"_a, "first_row"_a, "workspace"_a, "out"_a);
  module.def("residual_bytes", &sketch::cuda::residual_bytes, "rows"_a, "columns"_a, "rights"_a);
  module.def("residual_most_rights", &sketch::cuda::residual_most_rights, "columns"_a);
  module.def(
      "residual",
      [](const Place& place, Address data, bool single, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
         Address right, bool right_single, int64_t rights, int64_t right_row_stride, int64_t right_column_stride, Address scale, Address x,
         Address workspace, Address out) {
        const sketch::Matrix a{at<void>(data), single, rows, columns, row_stride, column_stride};
        const sketch::Matrix b{at<void>(right), right_single, rows, rights, right_row_stride, right_column_stride};
        sketch::cuda::residual(queue(place), a, b, at<double>(scale), at<double>(x), at<void>(workspace), at<double>(out));
      },
      "place"_a, "data"_a, "single"_a, "rows"_a, "columns"_a, "row_stride"_a, "column_stride"_a, "right"_a, "right_single"_a, "rights"_a,
      "right_row_stride"_a, "right_column_stride"_a, "scale"_a, "x"_a, "workspace"_a, "out"_a);
}

}  // namespace slipstick_bindings
