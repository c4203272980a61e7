// `slipstick._core.sketch`: passes over tall matrices. Checks dtypes and shapes, and releases the interpreter lock around the work.
#include "slipstick/sketch.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <string>
#include <utility>

#include "slipstick/error.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace sketch = slipstick::sketch;

namespace {

using Any = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using Rows = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Dense = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutRow = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

constexpr std::pair<const char*, sketch::Kind> kKinds[] = {
    {"sjlt", sketch::Kind::sjlt},
    {"srht", sketch::Kind::srht},
    {"gaussian", sketch::Kind::gaussian},
    {"gaussian_pooled", sketch::Kind::gaussian_pooled},
    {"tensor_left", sketch::Kind::tensor_left},
    {"tensor_right", sketch::Kind::tensor_right},
};

[[noreturn]] void refuse(const std::string& message) { throw slipstick::Error(slipstick::ErrorKind::invalid_argument, message); }

sketch::Matrix matrix_of(const char* name, const Any& array) {
  const bool single = array.dtype() == nb::dtype<float>();
  if (!single && array.dtype() != nb::dtype<double>()) refuse(std::string(name) + " has another dtype; expected float32 or float64");
  return {array.data(),    single,         static_cast<int64_t>(array.shape(0)), static_cast<int64_t>(array.shape(1)),
          array.stride(0), array.stride(1)};
}

void check_shape(const char* name, const Out& out, int64_t rows, int64_t columns) {
  if (static_cast<int64_t>(out.shape(0)) != rows || static_cast<int64_t>(out.shape(1)) != columns)
    refuse(std::string(name) + " has shape (" + std::to_string(out.shape(0)) + ", " + std::to_string(out.shape(1)) + "); expected (" +
           std::to_string(rows) + ", " + std::to_string(columns) + ")");
}

// Null, or a pointer to one double for each row of A.
sketch::RowScale scale_of(const std::optional<Rows>& scale, const sketch::Matrix& a) {
  if (!scale) return nullptr;
  if (static_cast<int64_t>(scale->shape(0)) != a.rows)
    refuse("scale has length " + std::to_string(scale->shape(0)) + "; expected " + std::to_string(a.rows) + ", the rows of A");
  return scale->data();
}

void gram(const Any& a, const Any& b, const std::optional<Rows>& scale, const std::optional<Dense>& inverse_r, Out out, int threads) {
  const sketch::Matrix left = matrix_of("A", a), right = matrix_of("b", b);
  const sketch::RowScale rows = scale_of(scale, left);
  check_shape("out", out, left.columns + right.columns, left.columns + right.columns);
  if (inverse_r && (static_cast<int64_t>(inverse_r->shape(0)) != left.columns || static_cast<int64_t>(inverse_r->shape(1)) != left.columns))
    refuse("inverse_r is not square with the columns of A");
  nb::gil_scoped_release release;
  if (inverse_r) {
    sketch::preconditioned_gram(left, right, rows, inverse_r->data(), out.data(), threads);
  } else {
    sketch::gram(left, right, rows, out.data(), threads);
  }
}

void residual(const Any& a, const Any& b, const std::optional<Rows>& scale, const Dense& x, Out gradient, OutRow squared_norms,
              int threads) {
  const sketch::Matrix left = matrix_of("A", a), right = matrix_of("b", b);
  const sketch::RowScale rows = scale_of(scale, left);
  if (static_cast<int64_t>(x.shape(0)) != left.columns || static_cast<int64_t>(x.shape(1)) != right.columns)
    refuse("x has another shape; expected (columns of A, columns of b)");
  check_shape("gradient", gradient, left.columns, right.columns);
  if (static_cast<int64_t>(squared_norms.shape(0)) != right.columns) refuse("squared_norms has another length; expected the columns of b");
  nb::gil_scoped_release release;
  sketch::residual(left, right, rows, x.data(), gradient.data(), squared_norms.data(), threads);
}

void apply(const std::string& kind, uint64_t seed, int64_t nonzeros, const Any& a, const Any& b, const std::optional<Rows>& scale,
           uint64_t first_row, Out out, int threads) {
  const sketch::Matrix left = matrix_of("A", a), right = matrix_of("b", b);
  const sketch::RowScale rows = scale_of(scale, left);
  sketch::Sketch parameters;
  bool known = false;
  for (const auto& [name, value] : kKinds) {
    if (kind != name) continue;
    parameters.kind = value;
    known = true;
  }
  if (!known) refuse("kind is '" + kind + "'; expected a name of sketch::Kind");
  parameters.seed = seed;
  parameters.sketch_rows = static_cast<int64_t>(out.shape(0));
  parameters.nonzeros = nonzeros;
  check_shape("out", out, parameters.sketch_rows, left.columns + right.columns);
  nb::gil_scoped_release release;
  sketch::sketch(parameters, left, right, rows, first_row, out.data(), threads);
}

}  // namespace

void bind_sketch(nb::module_& module) {
  module.doc() = "Passes over tall matrices. Private: use slipstick.sketch.";
  module.def("gram", &gram, "A"_a, "b"_a, "scale"_a.none(), "inverse_r"_a.none(), "out"_a.noconvert(), "threads"_a = 0,
             "out = [W b]^T [W b], W = A or A inverse_r, rows scaled first.");
  module.def("residual", &residual, "A"_a, "b"_a, "scale"_a.none(), "x"_a.noconvert(), "gradient"_a.noconvert(),
             "squared_norms"_a.noconvert(), "threads"_a = 0, "gradient = A^T (b - A x), and the squared norms of the columns of b - A x.");
  module.def("sketch", &apply, "kind"_a, "seed"_a, "nonzeros"_a, "A"_a, "b"_a, "scale"_a.none(), "first_row"_a, "out"_a.noconvert(),
             "threads"_a = 0, "out = S [A b] for the sketch S of len(out) rows.");
}
