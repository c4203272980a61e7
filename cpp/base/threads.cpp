// Default thread counts and the pool behind parallel_for: workers sleep on a condition variable (no spinning), start on first use, and are
// forgotten in a forked child, whose threads they are not.
#include "slipstick/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <list>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "slipstick/error.h"

namespace slipstick {
namespace {

// ---- The default count --------------------------------------------------------------------------------------------------------------

[[noreturn]] void throw_bad_count(const std::string& where, const std::string& got) {
  throw Error(ErrorKind::invalid_argument, where + " is " + got + "; expected a whole number from 1 to " + std::to_string(kMaxThreads));
}

// The count in an environment variable, 0 if it is unset or empty. OMP_NUM_THREADS may list one number per nesting level: the first counts.
int threads_from_environment(const char* variable, bool may_be_list) {
  const char* text = std::getenv(variable);
  if (!text || !*text) return 0;
  char* end = nullptr;
  const long count = std::strtol(text, &end, 10);
  while (*end == ' ') ++end;
  const bool ends_well = *end == '\0' || (may_be_list && *end == ',');
  if (end == text || !ends_well || count < 1 || count > kMaxThreads) throw_bad_count(variable, "'" + std::string(text) + "'");
  return static_cast<int>(count);
}

int available_cpus() {
#if defined(__linux__)
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return std::clamp(CPU_COUNT(&mask), 1, kMaxThreads);
#endif
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

int threads_of_environment() {
  if (const int count = threads_from_environment("SLIPSTICK_NUM_THREADS", false)) return count;
  if (const int count = threads_from_environment("OMP_NUM_THREADS", true)) return count;
  return available_cpus();
}

std::atomic<int> default_count{0};  // 0: not known yet

// ---- One parallel loop --------------------------------------------------------------------------------------------------------------

thread_local bool inside_body = false;

class InsideBody {
 public:
  InsideBody() : outer_(inside_body) { inside_body = true; }
  ~InsideBody() { inside_body = outer_; }

 private:
  bool outer_;
};

// A loop that several threads run through together. The exception kept is that of the lowest throwing index: every lower index was handed
// out before it, and is run to its end, so which one that is does not depend on timing.
class Loop {
 public:
  Loop(int64_t count, const std::function<void(int64_t)>& body) : count_(count), body_(body) { std::fegetenv(&environment_); }

  void run() noexcept {
    InsideBody inside;
    while (!failed_.load(std::memory_order_relaxed)) {
      const int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
      if (index >= count_) return;
      try {
        body_(index);
      } catch (...) {
        keep(index, std::current_exception());
      }
    }
  }

  void run_as_helper() noexcept {
    std::fenv_t own;
    std::fegetenv(&own);
    std::fesetenv(&environment_);
    run();
    std::fesetenv(&own);
  }

  void rethrow() {
    if (exception_) std::rethrow_exception(exception_);
  }

  int helpers_wanted = 0;   // these three are guarded by the pool's mutex
  int helpers_running = 0;
  std::condition_variable helper_left;

 private:
  void keep(int64_t index, std::exception_ptr exception) {
    std::lock_guard<std::mutex> lock(exception_mutex_);
    if (!exception_ || index < exception_index_) {
      exception_ = std::move(exception);
      exception_index_ = index;
    }
    failed_.store(true, std::memory_order_relaxed);
  }

  const int64_t count_;
  const std::function<void(int64_t)>& body_;
  std::fenv_t environment_;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex exception_mutex_;
  std::exception_ptr exception_;
  int64_t exception_index_ = 0;
};

// ---- The pool -----------------------------------------------------------------------------------------------------------------------

// Threads started meanwhile take no signals: those are for the threads of the program.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t previous_;
};

// Never destroyed: workers may sleep in it while the process exits, and a forked child must not touch mutexes in an unknown state.
class Pool {
 public:
  void run(Loop& loop, int helpers) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      start_workers(helpers);
      loop.helpers_wanted = std::min(helpers, workers_);
      if (loop.helpers_wanted > 0) waiting_.push_back(&loop);
    }
    for (int i = 0; i < helpers; ++i) work_came_.notify_one();
    loop.run();
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_.remove(&loop);  // whoever has not joined by now would find nothing left
    loop.helper_left.wait(lock, [&] { return loop.helpers_running == 0; });
  }

 private:
  // Grows the pool to the wanted number, or to what the system allows: the caller's own thread always makes progress.
  void start_workers(int wanted) {
    const SignalsBlocked blocked;
    try {
      for (; workers_ < wanted; ++workers_) std::thread([this] { work(); }).detach();
    } catch (const std::system_error&) {
    }
  }

  [[noreturn]] void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      work_came_.wait(lock, [&] { return !waiting_.empty(); });
      Loop& loop = *waiting_.front();
      if (--loop.helpers_wanted == 0) waiting_.pop_front();
      ++loop.helpers_running;
      lock.unlock();
      loop.run_as_helper();
      lock.lock();
      if (--loop.helpers_running == 0) loop.helper_left.notify_one();  // under the lock: the loop may be gone after it
    }
  }

  std::mutex mutex_;
  std::condition_variable work_came_;
  std::list<Loop*> waiting_;
  int workers_ = 0;
};

std::atomic<Pool*> shared_pool{nullptr};
std::atomic<Pool*> pool_of_parent{nullptr};  // keeps the abandoned pool reachable, so that leak checkers see no leak

void forget_pool_in_child() {
  if (Pool* pool = shared_pool.exchange(nullptr)) pool_of_parent.store(pool);
}

// At load time, not with the first pool: a fork in the middle of registering would leave the child without the handler.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, forget_pool_in_child);

Pool& pool() {
  Pool* current = shared_pool.load(std::memory_order_acquire);
  if (current) return *current;
  Pool* fresh = new Pool;
  if (shared_pool.compare_exchange_strong(current, fresh)) return *fresh;
  delete fresh;  // another thread was first; nothing runs in this one
  return *current;
}

}  // namespace

int default_threads() {
  int count = default_count.load(std::memory_order_relaxed);
  if (count == 0) {
    count = threads_of_environment();
    int expected = 0;  // a set_default_threads that came first wins
    if (!default_count.compare_exchange_strong(expected, count)) count = expected;
  }
  return count;
}

void set_default_threads(int threads) {
  if (threads < 0 || threads > kMaxThreads) throw_bad_count("set_default_threads: threads", std::to_string(threads));
  default_count.store(threads);
}

int resolve_threads(int threads) {
  if (threads < 0 || threads > kMaxThreads) throw_bad_count("parallel_for: threads", std::to_string(threads));
  return threads == 0 ? default_threads() : threads;
}

void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& body) {
  if (count < 0) throw Error(ErrorKind::invalid_argument, "parallel_for: count is " + std::to_string(count) + "; expected 0 or more");
  const int64_t useful = std::min<int64_t>(resolve_threads(threads), count);
  if (useful <= 1 || inside_body) {
    InsideBody inside;
    for (int64_t index = 0; index < count; ++index) body(index);
    return;
  }
  Loop loop(count, body);
  pool().run(loop, static_cast<int>(useful) - 1);
  loop.rethrow();
}

}  // namespace slipstick
