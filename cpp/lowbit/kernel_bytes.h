// Bytes that kernel_numbers() and its like made, as what they were made of.
#pragma once
#include <cstring>
#include <string>
#include <string_view>

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

}  // namespace slipstick::lowbit::element
