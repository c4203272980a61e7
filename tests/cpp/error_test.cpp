// Contract: an Error keeps its kind and message through throw, copy and std::exception_ptr, and is a std::runtime_error.
#include "slipstick/error.h"

#include "check.h"

using slipstick::Error;
using slipstick::ErrorKind;

TEST(error_keeps_kind_and_message) {
  const Error error(ErrorKind::limit_exceeded, "here: size is 9; expected at most 8");
  const Error copy = error;
  CHECK(copy.kind() == ErrorKind::limit_exceeded);
  CHECK_EQUAL(std::string(copy.what()), "here: size is 9; expected at most 8");
}

TEST(error_is_a_runtime_error) {
  try {
    throw Error(ErrorKind::internal, "text");
  } catch (const std::runtime_error& error) {
    CHECK_EQUAL(std::string(error.what()), "text");
  }
}

TEST(error_crosses_an_exception_pointer) {
  const std::exception_ptr pointer = std::make_exception_ptr(Error(ErrorKind::corrupt_data, "block 3"));
  CHECK_THROWS(std::rethrow_exception(pointer), corrupt_data, "block 3");
}
