// Quantization that counts what it does, in one pass over memory: each block is rounded and looked at while it is in the cache.
#include <algorithm>

#include "lowbit/elements.h"

namespace slipstick::lowbit {
namespace {

struct Part {
  Statistics counts;
  double sums[32] = {};
};

void merge(Statistics& into, const Part& part) {
  const Statistics& from = part.counts;
  into.count += from.count;
  into.nan += from.nan;
  into.infinite += from.infinite;
  into.zero += from.zero;
  into.saturated += from.saturated;
  into.zeroed += from.zeroed;
  into.subnormal += from.subnormal;
  for (int i = 0; i < 16; ++i) {
    into.signal += part.sums[i];
    into.noise += part.sums[16 + i];
  }
  into.max_error = std::max(into.max_error, from.max_error);
  into.max_ulp_error = std::max(into.max_ulp_error, from.max_ulp_error);
  for (int i = 0; i < 256; ++i) into.exponents[i] += from.exponents[i];
}

}  // namespace

Statistics quantize_with_statistics(const Format& format, Rounding rounding, const Random& random, Dtype dtype, const void* x, void* y,
                                    int64_t count, int threads) {
  check_request("statistics", format, random, dtype, count);
  std::vector<Part> parts(static_cast<size_t>(count / kTaskElements + (count % kTaskElements != 0)));
  const float smallest_normal = format.smallest_normal() > 0 ? format.smallest_normal() : 0.0f;
  for_each_task(count, threads, [&](int64_t first, int64_t end) {
    Part& part = parts[static_cast<size_t>(first / kTaskElements)];
    float block[kBlock], results[kBlock];
    for (int64_t start = first; start < end; start += kBlock) {
      const int64_t length = std::min(kBlock, end - start);
      const float* v = load_block(dtype, x, start, length, block);
      round_block(format, rounding, random, v, results, start, length);
      active_statistics_kernels().add(format.grid(), format.max(), format.min(), smallest_normal, v, results, length, part.sums,
                                      &part.counts);
      if (y) store_block(dtype, results, y, start, length);
    }
  });
  Statistics all;
  for (const Part& part : parts) merge(all, part);
  return all;
}

}  // namespace slipstick::lowbit
