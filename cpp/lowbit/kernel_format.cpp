// A format as kernels of other devices take it: bytes for numbers, bytes for tables.
#include <cstring>

#include "lowbit/element.h"

namespace slipstick::lowbit {
namespace {

template <typename T> void append(std::string& bytes, const std::vector<T>& numbers) {
  bytes.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T));
}

}  // namespace

std::string kernel_numbers(const Format& format) {
  element::KernelFormat numbers;
  if (format.grid()) numbers.grid = *format.grid();
  numbers.has_nan = format.has_nan();
  numbers.bits = format.bits();
  numbers.code_bytes = format.code_bytes();
  numbers.max = format.max();
  numbers.min = format.min();
  numbers.smallest_normal = format.smallest_normal() > 0 ? format.smallest_normal() : 0.0f;
  numbers.nan_code = format.has_nan() ? static_cast<uint32_t>(format.nan_code()) : 0;
  if (const Codebook* book = format.codebook()) {
    numbers.is_codebook = true;
    numbers.values = static_cast<int64_t>(book->values.size());
    numbers.steps = book->steps;
  }
  return std::string(reinterpret_cast<const char*>(&numbers), sizeof numbers);
}

std::string kernel_tables(const Format& format) {
  std::string bytes;
  if (const Codebook* book = format.codebook()) {  // in the order of element::Tables
    append(bytes, book->values);
    append(bytes, book->codes);
    append(bytes, book->by_code);
    for (const std::vector<float>& cuts : book->cuts) append(bytes, cuts);
  }
  return bytes;
}

}  // namespace slipstick::lowbit
