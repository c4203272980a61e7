// One table of function pointers per instruction set, and the choice among them.
//
// A room declares its table in ROOM/kernels.h, inside its namespace:
//   struct Kernels { const char* isa; float (*row_max)(const float* z, int64_t columns); };
//   SLIPSTICK_DECLARE_KERNELS(Kernels, kernels)
// defines it at the end of a NAME.simd.cpp, which is compiled once per level:
//   namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE { const Kernels kernels{SLIPSTICK_ISA_NAME, row_max}; }
// and calls it from ordinary code, looked up once a call:
//   const Kernels& k = active_kernels();
// The first member names the level that was compiled, so that a test can see that the forced level is the one running.
#pragma once
#include "slipstick/cpu.h"

// The level of a .simd.cpp as text: "v2", "v3", "v4", "v4_bf16" or "neon".
#define SLIPSTICK_ISA_NAME SLIPSTICK_TEXT_OF(SLIPSTICK_ISA_NAMESPACE)
#define SLIPSTICK_TEXT_OF(macro) SLIPSTICK_TEXT_OF_EXPANDED(macro)
#define SLIPSTICK_TEXT_OF_EXPANDED(text) #text

// Declares the table `name` of each level, and active_NAME(), which returns the one of isa() and throws as isa() does.
#if defined(__x86_64__)
#define SLIPSTICK_DECLARE_KERNELS(Table, name)              \
  namespace v2 {                                            \
  extern const Table name;                                  \
  }                                                         \
  namespace v3 {                                            \
  extern const Table name;                                  \
  }                                                         \
  namespace v4 {                                            \
  extern const Table name;                                  \
  }                                                         \
  namespace v4_bf16 {                                       \
  extern const Table name;                                  \
  }                                                         \
  inline const Table& active_##name() {                     \
    switch (::slipstick::isa()) {                           \
      case ::slipstick::Isa::v4_bf16: return v4_bf16::name; \
      case ::slipstick::Isa::v4: return v4::name;           \
      case ::slipstick::Isa::v3: return v3::name;           \
      default: return v2::name;                             \
    }                                                       \
  }
#elif defined(__aarch64__)
#define SLIPSTICK_DECLARE_KERNELS(Table, name) \
  namespace neon {                             \
  extern const Table name;                     \
  }                                            \
  inline const Table& active_##name() {        \
    ::slipstick::isa();                        \
    return neon::name;                         \
  }
#else
#error "slipstick: expected x86-64 or arm64"
#endif
