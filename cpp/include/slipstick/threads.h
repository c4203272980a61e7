// Parallel loops over a fixed grid. The work is cut by the caller into `count` tasks that do not depend on the number of threads, each task
// writes its own slot, and the caller merges the slots in grid order: so results are bitwise equal for any number of threads.
#pragma once
#include <cstdint>
#include <functional>

namespace slipstick {

// Upper limit of every thread count; a larger one is a mistake, not a machine.
constexpr int kMaxThreads = 1024;

// Calls body(i) once for every i in [0, count), on the calling thread and up to threads - 1 workers of a shared pool, and returns when all are
// done. Indices are handed out in increasing order as threads become free, so tasks of very different length balance.
//   threads: 1 to kMaxThreads, or 0 for default_threads().
// A call from inside a body runs serially. Workers take the caller's floating-point environment (rounding, flush to zero) for the call.
// If bodies throw, no new index is started, and the exception of the lowest throwing index is rethrown here: the same for any thread count.
// Works in a child after fork(): the child starts workers of its own.
// Starting a sleeping worker costs about 10 us; below some 50 us of work pass threads = 1.
// Throws Error{invalid_argument} on negative count and on threads outside the range.
void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& body);

// Threads used where a call names none: the value of set_default_threads, else SLIPSTICK_NUM_THREADS, else OMP_NUM_THREADS (its first number),
// else the number of CPUs this process may run on. The environment is read once, and only if set_default_threads was not called.
// Throws Error{invalid_argument} naming the variable if its value is not a thread count.
int default_threads();

// threads: 1 to kMaxThreads, or 0 to return to the environment, which is then read again. Throws Error{invalid_argument}.
void set_default_threads(int threads);

// The thread count that a call with this argument uses: itself, or default_threads() for 0. Throws as parallel_for does.
int resolve_threads(int threads);

}  // namespace slipstick
