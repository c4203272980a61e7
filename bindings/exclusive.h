// Exclusive<T>: a T that changes with each call, bound so that threads of Python may share it: they wait for each other.
#pragma once

#include <nanobind/nanobind.h>

#include <mutex>
#include <type_traits>
#include <utility>

template <class T>
class Exclusive {
 public:
  template <class... Arguments, class = std::enable_if_t<std::is_constructible_v<T, Arguments...>>>
  explicit Exclusive(Arguments&&... arguments) : value_(std::forward<Arguments>(arguments)...) {}

  // work(T&), alone and without the interpreter lock. That is let go of before the wait: whoever is inside may need it to call zstd.
  template <class Work>
  auto use(Work work) {
    nanobind::gil_scoped_release release;
    std::lock_guard<std::mutex> lock(mutex_);
    return work(value_);
  }

 private:
  std::mutex mutex_;
  T value_;
};
