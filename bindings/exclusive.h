// Exclusive<T>: a T that changes with each call, bound so that threads of Python may share it: they wait for each other.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

#include "slipstick/error.h"

template <class T>
class Exclusive {
 public:
  template <class... Arguments, class = std::enable_if_t<std::is_constructible_v<T, Arguments...>>>
  explicit Exclusive(Arguments&&... arguments) : value_(std::forward<Arguments>(arguments)...) {}

  // work(T&), alone and without the interpreter lock. That is let go of before the wait: whoever is inside may need it to call zstd. A signal
  // handler that runs in that call must not come back here, as this thread would wait for itself.
  template <class Work>
  auto use(Work work) {
    if (user_ == std::this_thread::get_id())
      throw slipstick::Error(slipstick::ErrorKind::invalid_argument, "the object is in use by this thread, which was interrupted");
    nanobind::gil_scoped_release release;
    std::lock_guard<std::mutex> lock(mutex_);
    const User user(user_);
    return work(value_);
  }

 private:
  using Thread = std::atomic<std::thread::id>;
  struct User {
    explicit User(Thread& place) : user(place) { user = std::this_thread::get_id(); }
    ~User() { user = std::thread::id(); }
    Thread& user;
  };

  Thread user_{};
  std::mutex mutex_;
  T value_;
};
