// `slipstick._core.simd`: the vector functions over arrays, one at a time on the calling thread, and their error bounds. For the tests, which
// reach every instruction-set level by set_isa; nothing of it is public.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>

#include "simd/math_kernels.h"
#include "slipstick/error.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace simd = slipstick::simd;

namespace {

template <typename T> using Input = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T> using Output = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename T, typename Kernel> void bind(nb::module_& module, const simd::MathFunction<Kernel>& function) {
  const auto call = [function](Input<T> x, Output<T> out) {
    if (x.shape(0) != out.shape(0)) {
      throw slipstick::Error(slipstick::ErrorKind::invalid_argument, std::string(function.name) + ": out has length " +
                                                                         std::to_string(out.shape(0)) + "; expected " +
                                                                         std::to_string(x.shape(0)) + ", the length of x");
    }
    nb::gil_scoped_release release;
    (simd::active_math_kernels().*function.kernel)(x.data(), out.data(), static_cast<int64_t>(x.shape(0)));
  };
  module.def(function.name, call, "x"_a.noconvert(), "out"_a.noconvert(), "Writes the function of each element of x to out; out may be x.");
}

template <typename Functions> nb::typed<nb::dict, nb::str, double> bounds(const Functions& functions) {
  nb::dict by_name;
  for (const auto& function : functions) by_name[function.name] = function.max_ulp;
  return by_name;
}

}  // namespace

void bind_simd(nb::module_& module) {
  module.doc() = "The vector functions under the rooms. Private: for the tests.";
  for (const auto& function : simd::kF32Functions) bind<float>(module, function);
  for (const auto& function : simd::kF64Functions) bind<double>(module, function);
  module.def("isa", [] { return simd::active_math_kernels().isa; }, "Level that the functions run on.");
  module.def("max_ulp_float32", [] { return bounds(simd::kF32Functions); }, "Largest errors in float, in units in the last place.");
  module.def("max_ulp_float64", [] { return bounds(simd::kF64Functions); }, "Largest errors in double, in units in the last place.");
}
