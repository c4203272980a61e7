// The one exception of the core: a kind that callers branch on, and a message that names what was wrong, what it got and what it wants.
// Messages read `WHERE: ARGUMENT is GOT; expected WANT`, lower case, no full stop. The bindings turn each kind into a Python exception.
#pragma once
#include <stdexcept>
#include <string>

namespace slipstick {

enum class ErrorKind {
  invalid_argument,  // the caller passed something outside the documented range
  corrupt_data,      // stored data is damaged, truncated or of another format
  limit_exceeded,    // the input is legal but larger than a stated limit
  unsupported,       // a version, feature or device that this build does not have
  internal,          // an invariant of slipstick itself failed: a bug to report
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace slipstick
