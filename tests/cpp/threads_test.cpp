// Contract of parallel_for: every index once, grid results independent of the thread count, nested calls serial, the exception of the lowest
// throwing index, the caller's floating-point environment everywhere, concurrent callers, and a working pool in a forked child.
// Thread counts are 1, 2, 3 and 7 whatever the machine has.
#include "slipstick/threads.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "check.h"

using namespace slipstick;

namespace {

constexpr int kThreadCounts[] = {1, 2, 3, 7};

// Blocks each caller until `count` have come; false if they do not come. Shows that tasks really run at the same time.
class Meeting {
 public:
  explicit Meeting(int count) : missing_(count) {}
  bool wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (--missing_ == 0) all_here_.notify_all();
    return all_here_.wait_for(lock, std::chrono::seconds(60), [&] { return missing_ <= 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  int missing_;
};

// A sum whose rounding depends on its order: per slot of a fixed grid, merged in grid order.
double grid_sum(int threads) {
  constexpr int64_t kSlots = 100;
  std::vector<double> slots(kSlots);
  parallel_for(kSlots, threads, [&](int64_t slot) {
    for (int i = 1; i < 1000; ++i) slots[slot] += 1.0 / (static_cast<double>(slot) * 1000 + i);
  });
  double sum = 0;
  for (double part : slots) sum += part;
  return sum;
}

// Runs `in_child` in a forked child; true if it returned true within a minute.
template <typename Call>
bool holds_in_child(Call in_child) {
#if defined(__SANITIZE_THREAD__)
  static_cast<void>(in_child);
  std::printf("       not run: ThreadSanitizer cannot start threads in a forked child\n");
  return true;
#else
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a hang becomes a failure
    _exit(in_child() ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
#endif
}

bool all_meet(int threads) {
  Meeting meeting(threads);
  std::atomic<bool> met{true};
  parallel_for(threads, threads, [&](int64_t) {
    if (!meeting.wait()) met = false;
  });
  return met;
}

}  // namespace

TEST(every_index_runs_exactly_once) {
  for (int threads : kThreadCounts)
    for (int64_t count : {0, 1, 2, 3, 7, 8, 1000}) {
      std::vector<std::atomic<int>> runs(count);
      parallel_for(count, threads, [&](int64_t i) { ++runs[i]; });
      for (const std::atomic<int>& times : runs) CHECK_EQUAL(times.load(), 1);
    }
}

TEST(as_many_threads_run_as_were_asked_for) {
  for (int threads : kThreadCounts) CHECK(all_meet(threads));
}

TEST(grid_results_are_bitwise_equal_for_any_thread_count) {
  const double serial = grid_sum(1);
  for (int threads : kThreadCounts) CHECK(grid_sum(threads) == serial);
}

TEST(nested_calls_run_serially_on_the_thread_of_their_body) {
  std::atomic<int> runs{0}, elsewhere{0};
  parallel_for(5, 3, [&](int64_t) {
    const std::thread::id outer = std::this_thread::get_id();
    int64_t last = -1;
    parallel_for(10, 7, [&](int64_t i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // time for another thread to join, were it allowed to
      ++runs;
      if (std::this_thread::get_id() != outer || i != last + 1) ++elsewhere;
      last = i;
    });
  });
  CHECK_EQUAL(runs.load(), 50);
  CHECK_EQUAL(elsewhere.load(), 0);
  CHECK(all_meet(3));  // and the caller may go parallel again afterwards
}

TEST(the_exception_of_the_lowest_index_wins_and_work_stops) {
  for (int threads : kThreadCounts)
    for (int repeat = 0; repeat < 50; ++repeat) {
      constexpr int64_t kCount = 1000000;
      std::atomic<int64_t> runs{0};
      CHECK_THROWS(parallel_for(kCount, threads,
                                [&](int64_t i) {
                                  ++runs;
                                  if (i >= 5) throw Error(ErrorKind::corrupt_data, "index " + std::to_string(i) + " failed");
                                }),
                   corrupt_data, "index 5 failed");
      CHECK(runs < kCount);
    }
  CHECK(all_meet(3));
}

TEST(a_lower_index_that_throws_later_wins) {
  Meeting meeting(3);
  CHECK_THROWS(parallel_for(3, 3,
                            [&](int64_t i) {
                              meeting.wait();  // all three are running: none may be dropped for another's failure
                              std::this_thread::sleep_for(std::chrono::milliseconds(20 - 10 * i));
                              throw Error(ErrorKind::corrupt_data, "index " + std::to_string(i) + " failed");
                            }),
               corrupt_data, "index 0 failed");
}

TEST(an_exception_in_a_nested_call_crosses_both_loops) {
  CHECK_THROWS(parallel_for(4, 3,
                            [](int64_t i) {
                              parallel_for(4, 3, [i](int64_t j) {
                                if (i == 2 && j == 1) throw Error(ErrorKind::unsupported, "two and one");
                              });
                            }),
               unsupported, "two and one");
  CHECK(all_meet(2));
}

TEST(bodies_see_the_rounding_mode_of_the_caller) {
  CHECK(all_meet(3));  // workers exist already, with their own environment
  std::fesetround(FE_UPWARD);
  Meeting meeting(3);
  std::atomic<int> upward{0};
  parallel_for(3, 3, [&](int64_t) {
    meeting.wait();
    if (std::fegetround() == FE_UPWARD) ++upward;
  });
  std::fesetround(FE_TONEAREST);
  CHECK_EQUAL(upward.load(), 3);
  std::atomic<int> nearest{0};
  Meeting again(3);
  parallel_for(3, 3, [&](int64_t) {
    again.wait();
    if (std::fegetround() == FE_TONEAREST) ++nearest;
  });
  CHECK_EQUAL(nearest.load(), 3);
}

TEST(concurrent_callers_share_the_pool) {
  std::vector<std::thread> callers;
  std::atomic<int64_t> total{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 200; ++repeat) parallel_for(20, 3, [&](int64_t i) { total += i; });
    });
  for (std::thread& caller : callers) caller.join();
  CHECK_EQUAL(total.load(), 4 * 200 * 190);
}

TEST(a_forked_child_has_a_pool_of_its_own) {
  CHECK(all_meet(3));
  CHECK(holds_in_child([] { return all_meet(3) && grid_sum(7) == grid_sum(1); }));
  CHECK(holds_in_child([] { return all_meet(2) && holds_in_child([] { return all_meet(3); }); }));
  CHECK(all_meet(7));  // and the parent keeps its own
}

TEST(a_fork_while_another_thread_is_in_a_loop_leaves_a_working_child) {
#if defined(__SANITIZE_ADDRESS__)
  std::printf("       not run: AddressSanitizer's allocator may be locked by that thread, and then stays so in the child\n");
  return;
#endif
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) parallel_for(20, 3, [](int64_t) {});
  });
  for (int repeat = 0; repeat < 20; ++repeat) CHECK(holds_in_child([] { return all_meet(3); }));
  stop = true;
  busy.join();
}

TEST(bad_arguments_are_refused) {
  const auto nothing = [](int64_t) {};
  CHECK_THROWS(parallel_for(-1, 1, nothing), invalid_argument, "parallel_for: count is -1; expected 0 or more");
  CHECK_THROWS(parallel_for(1, -1, nothing), invalid_argument, "threads is -1; expected a whole number from 1 to 1024");
  CHECK_THROWS(parallel_for(1, kMaxThreads + 1, nothing), invalid_argument, "threads is 1025");
  CHECK_THROWS(set_default_threads(-1), invalid_argument, "set_default_threads: threads is -1");
  CHECK_THROWS(set_default_threads(kMaxThreads + 1), invalid_argument, "threads is 1025");
}

TEST(the_default_count_is_the_set_one_else_the_environment_else_the_machine) {
  unsetenv("SLIPSTICK_NUM_THREADS");
  unsetenv("OMP_NUM_THREADS");
  const auto reread = [] {
    set_default_threads(0);
    return default_threads();
  };
  CHECK(reread() >= 1);
  setenv("OMP_NUM_THREADS", "5, 2", 1);
  CHECK_EQUAL(reread(), 5);
  setenv("SLIPSTICK_NUM_THREADS", "3", 1);
  CHECK_EQUAL(reread(), 3);
  set_default_threads(4);
  CHECK_EQUAL(default_threads(), 4);
  CHECK_EQUAL(resolve_threads(0), 4);
  CHECK_EQUAL(resolve_threads(6), 6);
  for (const char* bad : {"0", "-2", "two", "3x", "1025", "99999999999999999999", "2,3"}) {
    setenv("SLIPSTICK_NUM_THREADS", bad, 1);
    const std::string message = "SLIPSTICK_NUM_THREADS is '" + std::string(bad) + "'; expected a whole number from 1 to 1024";
    CHECK_THROWS(reread(), invalid_argument, message.c_str());
  }
  setenv("SLIPSTICK_NUM_THREADS", "", 1);
  setenv("OMP_NUM_THREADS", "many", 1);
  CHECK_THROWS(reread(), invalid_argument, "OMP_NUM_THREADS is 'many'");
  unsetenv("OMP_NUM_THREADS");
  CHECK(reread() >= 1);
}
