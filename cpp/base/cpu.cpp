// Detection of the instruction-set level and the process-wide choice of one.
#include "slipstick/cpu.h"

#include <atomic>
#include <cstdlib>

#include "base/isa_probe.h"
#include "slipstick/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace slipstick {
namespace {

#if defined(__x86_64__)

// Read from CPUID and XCR0 directly: __builtin_cpu_supports does not know every feature by name, and some builds of Clang's runtime
// answer false to all of them. Bits: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
struct CpuidWords {
  unsigned leaf1_ecx = 0, leaf7_ebx = 0, leaf7_1_eax = 0, extended1_ecx = 0, xcr0 = 0;
};

CpuidWords read_cpuid() {
  constexpr unsigned kOsSavesRegisters = 1u << 27;  // OSXSAVE: XCR0 may be read
  CpuidWords words;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d)) words.leaf1_ecx = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    words.leaf7_ebx = b;
    const unsigned last_subleaf = a;
    if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) words.leaf7_1_eax = a;
  }
  if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) words.extended1_ecx = c;
  if (words.leaf1_ecx & kOsSavesRegisters) {
    unsigned high = 0;
    __asm__ volatile("xgetbv" : "=a"(words.xcr0), "=d"(high) : "c"(0));
  }
  return words;
}

bool has_all(unsigned word, unsigned bits) { return (word & bits) == bits; }
constexpr unsigned bit(int position) { return 1u << position; }

std::vector<Isa> detect_levels() {
  const CpuidWords cpu = read_cpuid();
  std::vector<Isa> levels;
  constexpr unsigned kV2 = bit(0) | bit(9) | bit(13) | bit(19) | bit(20) | bit(23);  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT
  if (!has_all(cpu.leaf1_ecx, kV2)) return levels;
  levels.push_back(Isa::v2);
  constexpr unsigned kV3 = bit(12) | bit(22) | bit(28) | bit(29);      // FMA, MOVBE, AVX, F16C
  constexpr unsigned kV3Leaf7 = bit(3) | bit(5) | bit(8);              // BMI1, AVX2, BMI2
  constexpr unsigned kLzcnt = bit(5), kAvxState = bit(1) | bit(2);     // the system saves XMM and YMM
  if (!has_all(cpu.leaf1_ecx, kV3) || !has_all(cpu.leaf7_ebx, kV3Leaf7) || !has_all(cpu.extended1_ecx, kLzcnt) ||
      !has_all(cpu.xcr0, kAvxState))
    return levels;
  levels.push_back(Isa::v3);
  constexpr unsigned kV4Leaf7 = bit(16) | bit(17) | bit(28) | bit(30) | bit(31);  // AVX-512 F, DQ, CD, BW, VL
  constexpr unsigned kAvx512State = bit(5) | bit(6) | bit(7);                     // masks and both halves of ZMM
  if (!has_all(cpu.leaf7_ebx, kV4Leaf7) || !has_all(cpu.xcr0, kAvx512State)) return levels;
  levels.push_back(Isa::v4);
  constexpr unsigned kBf16 = bit(5);  // AVX512-BF16
  if (has_all(cpu.leaf7_1_eax, kBf16)) levels.push_back(Isa::v4_bf16);
  return levels;
}

#else

std::vector<Isa> detect_levels() { return {Isa::neon}; }

#endif

Isa level_named(const char* where, const std::string& name) {
  std::string expected;
  for (Isa level : isa_levels()) {
    if (name == isa_name(level)) return level;
    expected += std::string(expected.empty() ? "" : ", ") + "'" + isa_name(level) + "'";
  }
  throw Error(ErrorKind::invalid_argument,
              std::string(where) + ": '" + name + "' is not a level of this machine; expected one of " + expected);
}

Isa default_level() {
  if (isa_levels().empty())
    throw Error(ErrorKind::unsupported, "slipstick: the processor lacks SSE4.2 or POPCNT; expected x86-64-v2 or later");
  const char* wanted = std::getenv("SLIPSTICK_ISA");
  return wanted && *wanted ? level_named("SLIPSTICK_ISA", wanted) : isa_levels().back();
}

constexpr int kNotChosen = -1;
std::atomic<int> chosen_level{kNotChosen};

}  // namespace

const char* isa_name(Isa level) {
  switch (level) {
    case Isa::v2: return "v2";
    case Isa::v3: return "v3";
    case Isa::v4: return "v4";
    case Isa::v4_bf16: return "v4_bf16";
    case Isa::neon: return "neon";
  }
  throw Error(ErrorKind::internal,
              "isa_name: level is " + std::to_string(static_cast<int>(level)) + "; expected a level; please report this");
}

const std::vector<Isa>& isa_levels() {
  static const std::vector<Isa> levels = detect_levels();
  return levels;
}

Isa isa() {
  int level = chosen_level.load(std::memory_order_relaxed);
  if (level == kNotChosen) {
    level = static_cast<int>(default_level());
    int expected = kNotChosen;  // a set_isa that came first wins
    if (!chosen_level.compare_exchange_strong(expected, level, std::memory_order_relaxed)) level = expected;
  }
  return static_cast<Isa>(level);
}

void set_isa(const std::string& name) {
  const Isa level = name.empty() ? default_level() : level_named("set_isa", name);
  chosen_level.store(static_cast<int>(level), std::memory_order_relaxed);
}

IsaProof isa_proof() {
  const IsaProbe& probe = active_isa_probe();
  return {probe.isa, probe.compiled_level()};
}

}  // namespace slipstick
