// Bytes that kernel_numbers() and its like made, as what they were made of; and checks of what comes with them.
#pragma once
#include <cstring>
#include <string>
#include <string_view>

#include "lowbit/element.h"
#include "slipstick/error.h"

namespace slipstick::lowbit::element {

template <typename T> T of_bytes(const char* where, std::string_view bytes) {
  T numbers;
  if (bytes.size() != sizeof numbers)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": a format has " + std::to_string(bytes.size()) + " bytes; expected " +
                                                 std::to_string(sizeof numbers) + ", as this version makes them");
  std::memcpy(static_cast<void*>(&numbers), bytes.data(), sizeof numbers);
  return numbers;
}

inline void check_count(const char* where, int64_t count) {
  if (count < 0)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": count is " + std::to_string(count) + "; expected 0 or more");
}

// As check_request of elements.h.
inline void check_request(const char* where, const KernelFormat& format, const Random& random, Dtype dtype, int64_t count) {
  check_count(where, count);
  if (random.bits != 8 && random.bits != 16 && random.bits != 32)
    throw Error(ErrorKind::invalid_argument,
                std::string(where) + ": random_bits is " + std::to_string(random.bits) + "; expected 8, 16 or 32");
  if (dtype == Dtype::float64 && !format.is_codebook && format.grid.mantissa_bits > 21)
    throw Error(ErrorKind::unsupported, std::string(where) + ": x is float64 and the format has " +
                                            std::to_string(format.grid.mantissa_bits) + " mantissa bits; expected float32, or at most 21");
}

}  // namespace slipstick::lowbit::element
