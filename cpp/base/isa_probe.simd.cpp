// The probe of one level: names the level by the compiler's feature macros, not by the name that the build gave it.
#include "base/isa_probe.h"

namespace slipstick::SLIPSTICK_ISA_NAMESPACE {
namespace {

const char* compiled_level() {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512BF16__)
  return "v4_bf16";
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  return "v4";
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI2__)
  return "v3";
#elif defined(__SSE4_2__) && defined(__POPCNT__)
  return "v2";
#elif defined(__ARM_NEON)
  return "neon";
#else
  return "none";
#endif
}

}  // namespace

const IsaProbe isa_probe{SLIPSTICK_ISA_NAME, compiled_level};

}  // namespace slipstick::SLIPSTICK_ISA_NAMESPACE
