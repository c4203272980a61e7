// The table behind isa_proof(): shows that set_isa took effect and that the build gave each level its flags.
#pragma once
#include "base/kernel_table.h"

namespace slipstick {

struct IsaProbe {
  const char* isa;                   // the level's name, set by the build
  const char* (*compiled_level)();   // the level that the compiler's own feature macros show; runs code of that object
};

SLIPSTICK_DECLARE_KERNELS(IsaProbe, isa_probe)

}  // namespace slipstick
