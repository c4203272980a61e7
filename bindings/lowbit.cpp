// `slipstick._core.lowbit`: formats, and the entry points over raw addresses. Python has checked shapes and types and holds the arrays; the
// interpreter lock is released around the work.
#include "slipstick/lowbit.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "slipstick/error.h"
#include "statistics.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace lowbit = slipstick::lowbit;

namespace {

using Address = uintptr_t;

void* at(Address address) { return reinterpret_cast<void*>(address); }

template <typename Enum> Enum member(const char* name, int value, int count) {
  if (value < 0 || value >= count)
    throw slipstick::Error(slipstick::ErrorKind::invalid_argument,
                           std::string(name) + " is " + std::to_string(value) + "; expected 0 to " + std::to_string(count - 1));
  return static_cast<Enum>(value);
}
lowbit::Rounding rounding_of(int value) { return member<lowbit::Rounding>("rounding", value, lowbit::kRoundings); }
lowbit::Dtype dtype_of(int value) { return member<lowbit::Dtype>("dtype", value, lowbit::kDtypes); }

}  // namespace

void bind_lowbit(nb::module_& module) {
  module.doc() = "Number formats. Private: use slipstick.lowbit.";
  nb::set_leak_warnings(false);  // presets are kept in caches of Python modules, which the interpreter does not clear before it counts
  using Release = nb::call_guard<nb::gil_scoped_release>;

  nb::class_<lowbit::Format>(module, "Format")
      .def_prop_ro("bits", &lowbit::Format::bits)
      .def_prop_ro("code_bytes", &lowbit::Format::code_bytes)
      .def_prop_ro("nan_code", &lowbit::Format::nan_code)
      .def_prop_ro("max", &lowbit::Format::max)
      .def_prop_ro("min", &lowbit::Format::min)
      .def_prop_ro("smallest_positive", &lowbit::Format::smallest_positive)
      .def_prop_ro("smallest_normal", &lowbit::Format::smallest_normal);
  module.def(
      "float_format",
      [](bool is_signed, int exponent_bits, int mantissa_bits, int bias, int specials, bool flush_subnormals, int overflow) {
        return lowbit::Format(lowbit::FloatSpec{is_signed, exponent_bits, mantissa_bits, bias,
                                                member<lowbit::Specials>("specials", specials, lowbit::kSpecials), flush_subnormals,
                                                member<lowbit::Overflow>("overflow", overflow, lowbit::kOverflows)});
      },
      "signed"_a, "exponent_bits"_a, "mantissa_bits"_a, "bias"_a, "specials"_a, "flush_subnormals"_a, "overflow"_a);
  module.def(
      "integer_format",
      [](int bits, int fraction_bits, bool is_signed, bool symmetric) {
        return lowbit::Format(lowbit::IntegerSpec{bits, fraction_bits, is_signed, symmetric});
      },
      "bits"_a, "fraction_bits"_a, "signed"_a, "symmetric"_a);
  module.def(
      "codebook_format",
      [](std::vector<float> values, std::vector<uint32_t> codes, std::vector<double> thresholds, int bits, int64_t nan_code,
         bool keep_nonzero) {
        return lowbit::Format(
            lowbit::CodebookSpec{std::move(values), std::move(codes), std::move(thresholds), bits, nan_code, keep_nonzero});
      },
      "values"_a, "codes"_a, "thresholds"_a, "bits"_a, "nan_code"_a, "keep_nonzero"_a);

  module.def(
      "quantize",
      [](const lowbit::Format& format, int rounding, uint64_t seed, uint32_t stream, int random_bits, int dtype, Address x, Address y,
         int64_t count, int threads) {
        lowbit::quantize(format, rounding_of(rounding), {seed, stream, random_bits}, dtype_of(dtype), at(x), at(y), count, threads);
      },
      "format"_a, "rounding"_a, "seed"_a, "stream"_a, "random_bits"_a, "dtype"_a, "x"_a, "y"_a, "count"_a, "threads"_a, Release());
  module.def(
      "encode",
      [](const lowbit::Format& format, int rounding, uint64_t seed, uint32_t stream, int random_bits, int dtype, Address x, Address codes,
         int64_t count, int threads) {
        lowbit::encode(format, rounding_of(rounding), {seed, stream, random_bits}, dtype_of(dtype), at(x), at(codes), count, threads);
      },
      "format"_a, "rounding"_a, "seed"_a, "stream"_a, "random_bits"_a, "dtype"_a, "x"_a, "codes"_a, "count"_a, "threads"_a, Release());
  module.def(
      "decode",
      [](const lowbit::Format& format, Address codes, int dtype, Address y, int64_t count, int threads) {
        lowbit::decode(format, at(codes), dtype_of(dtype), at(y), count, threads);
      },
      "format"_a, "codes"_a, "dtype"_a, "y"_a, "count"_a, "threads"_a, Release());
  module.def("packed_bytes", &lowbit::packed_bytes, "count"_a, "bits"_a);
  module.def(
      "pack",
      [](Address codes, Address packed, int64_t count, int bits, int threads) {
        lowbit::pack(static_cast<const uint8_t*>(at(codes)), static_cast<uint8_t*>(at(packed)), count, bits, threads);
      },
      "codes"_a, "packed"_a, "count"_a, "bits"_a, "threads"_a, Release());
  module.def(
      "unpack",
      [](Address packed, Address codes, int64_t count, int bits, int threads) {
        lowbit::unpack(static_cast<const uint8_t*>(at(packed)), static_cast<uint8_t*>(at(codes)), count, bits, threads);
      },
      "packed"_a, "codes"_a, "count"_a, "bits"_a, "threads"_a, Release());

  nb::class_<lowbit::Scaling>(module, "Scaling")
      .def(
          "__init__",
          [](lowbit::Scaling* self, bool power_of_two, int rule, const lowbit::Format* format, float tensor_scale) {
            new (self) lowbit::Scaling{power_of_two, member<lowbit::ScaleRule>("rule", rule, lowbit::kScaleRules),
                                       format ? std::make_shared<const lowbit::Format>(*format) : nullptr, tensor_scale};
          },
          "power_of_two"_a, "rule"_a, "format"_a.none(), "tensor_scale"_a);
  nb::class_<lowbit::Blocks>(module, "Blocks")
      .def(
          "__init__",
          [](lowbit::Blocks* self, int64_t outer, int64_t rows, int64_t columns, int64_t block_rows, int64_t block_columns, bool shared) {
            new (self) lowbit::Blocks{outer, rows, columns, block_rows, block_columns, shared};
          },
          "outer"_a, "rows"_a, "columns"_a, "block_rows"_a, "block_columns"_a, "shared"_a);
  // What slipstick._cuda takes: formats and scalings as bytes.
  const auto bytes = [](const std::string& text) { return nb::bytes(text.data(), text.size()); };
  module.def("kernel_numbers", [bytes](const lowbit::Format& format) { return bytes(lowbit::kernel_numbers(format)); }, "format"_a);
  module.def("kernel_tables", [bytes](const lowbit::Format& format) { return bytes(lowbit::kernel_tables(format)); }, "format"_a);
  module.def(
      "kernel_scaling",
      [bytes](const lowbit::Format& element, const lowbit::Scaling& scaling) { return bytes(lowbit::kernel_scaling(element, scaling)); },
      "element"_a, "scaling"_a);
  module.def(
      "quantize_blocks",
      [](const lowbit::Format& element, const lowbit::Scaling& scaling, const lowbit::Blocks& blocks, int rounding, uint64_t seed,
         uint32_t stream, int random_bits, int dtype, Address x, Address y, Address codes, Address scales, int threads) {
        lowbit::quantize_blocks(element, scaling, blocks, rounding_of(rounding), {seed, stream, random_bits}, dtype_of(dtype), at(x), at(y),
                                at(codes), at(scales), threads);
      },
      "element"_a, "scaling"_a, "blocks"_a, "rounding"_a, "seed"_a, "stream"_a, "random_bits"_a, "dtype"_a, "x"_a, "y"_a, "codes"_a,
      "scales"_a, "threads"_a, Release());
  module.def(
      "decode_blocks",
      [](const lowbit::Format& element, const lowbit::Scaling& scaling, const lowbit::Blocks& blocks, Address codes, Address scales,
         int dtype, Address y,
         int threads) { lowbit::decode_blocks(element, scaling, blocks, at(codes), at(scales), dtype_of(dtype), at(y), threads); },
      "element"_a, "scaling"_a, "blocks"_a, "codes"_a, "scales"_a, "dtype"_a, "y"_a, "threads"_a, Release());
  module.def(
      "greatest_magnitude",
      [](int dtype, Address x, int64_t count, int threads) { return lowbit::greatest_magnitude(dtype_of(dtype), at(x), count, threads); },
      "dtype"_a, "x"_a, "count"_a, "threads"_a, Release());

  module.def(
      "statistics",
      [](const lowbit::Format& format, int rounding, uint64_t seed, uint32_t stream, int random_bits, int dtype, Address x, Address y,
         int64_t count, int threads) -> nb::typed<nb::dict, nb::str, nb::any> {
        lowbit::Statistics all;
        {
          nb::gil_scoped_release release;
          all = lowbit::quantize_with_statistics(format, rounding_of(rounding), {seed, stream, random_bits}, dtype_of(dtype), at(x), at(y),
                                                 count, threads);
        }
        return slipstick_bindings::dict_of(all);
      },
      "format"_a, "rounding"_a, "seed"_a, "stream"_a, "random_bits"_a, "dtype"_a, "x"_a, "y"_a, "count"_a, "threads"_a);
  module.def(
      "matmul",
      [](const lowbit::Format* accumulator, int rounding, int64_t round_every, Address a, Address b, Address c, int64_t rows, int64_t inner,
         int64_t columns, int threads) {
        const auto* left = static_cast<const float*>(at(a));
        const auto* right = static_cast<const float*>(at(b));
        auto* product = static_cast<float*>(at(c));
        if (!accumulator) return lowbit::matmul_float32(left, right, product, rows, inner, columns, threads);
        lowbit::matmul(*accumulator, rounding_of(rounding), round_every, left, right, product, rows, inner, columns, threads);
      },
      "accumulator"_a.none(), "rounding"_a, "round_every"_a, "a"_a, "b"_a, "c"_a, "rows"_a, "inner"_a, "columns"_a, "threads"_a, Release());
}
