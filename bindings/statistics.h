// lowbit's statistics as a dict, for `_core` and `_cuda`.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <vector>

#include "slipstick/lowbit.h"

namespace slipstick_bindings {

inline nanobind::typed<nanobind::dict, nanobind::str, nanobind::any> dict_of(const slipstick::lowbit::Statistics& all) {
  nanobind::dict out;
  out["count"] = all.count;
  out["nan"] = all.nan;
  out["infinite"] = all.infinite;
  out["zero"] = all.zero;
  out["saturated"] = all.saturated;
  out["zeroed"] = all.zeroed;
  out["subnormal"] = all.subnormal;
  out["signal"] = all.signal;
  out["noise"] = all.noise;
  out["max_ulp_error"] = all.max_ulp_error;
  out["max_error"] = all.max_error;
  out["exponents"] = std::vector<int64_t>(all.exponents, all.exponents + 256);
  return out;
}

}  // namespace slipstick_bindings
