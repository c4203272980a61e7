// What the kernels of the room share: numbers of a matrix in a device's memory, waves of work, and the sum of parts.
#pragma once
#include "base/host_device.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch {

// In double, and times that of its row where there is a scale.
SLIPSTICK_HOST_DEVICE inline double value_at(const Matrix& matrix, RowScale scale, int64_t row, int64_t column) {
  const int64_t at = row * matrix.row_stride + column * matrix.column_stride;
  const double value =
      matrix.single ? static_cast<double>(static_cast<const float*>(matrix.data)[at]) : static_cast<const double*>(matrix.data)[at];
  return scale ? times(scale[row], value) : value;
}

// The sum of what `parts` parts of the work have left `size` numbers apart, from the first one's on: so a negative zero stays one, as on the host.
SLIPSTICK_HOST_DEVICE inline double sum_of_parts(const double* partials, int64_t parts, int64_t size, int64_t at) {
  if (parts == 0) return 0;
  double sum = partials[at];
  for (int64_t part = 1; part < parts; ++part) sum = plus(sum, partials[part * size + at]);
  return sum;
}

// Jobs are few, so that their sums stay small. Where that would leave a device idle, the steps of a job are made all at once, a wave of them, and then
// added to the job's sum one after the other: more parallel work, and the order of every sum as before.
struct Waves {
  int64_t steps = 0;  // of a job in one wave
  int64_t count = 0;
};

// For what a job has at most, `size` numbers a step.
inline Waves waves_of(int64_t jobs, int64_t steps_a_job, int64_t size) {
  constexpr int64_t kMostNumbers = int64_t{1} << 22;  // 32 MiB, which second-level caches of large devices hold
  constexpr int64_t kMostSteps = 1 << 12;  // of an axis of a grid, whose limit is 65535
  Waves waves;
  if (steps_a_job == 0) return waves;
  const int64_t fit = kMostNumbers / (jobs * size > 0 ? jobs * size : 1), most = fit < kMostSteps ? fit : kMostSteps;
  waves.steps = most < 1 ? 1 : most < steps_a_job ? most : steps_a_job;
  waves.count = (steps_a_job + waves.steps - 1) / waves.steps;
  return waves;
}

}  // namespace slipstick::sketch
