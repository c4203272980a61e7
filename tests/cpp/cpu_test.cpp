// Contract: set_isa really changes the kernels that run, only to levels this machine has; every other name is refused with the levels listed.
#include "slipstick/cpu.h"

#include <cstdlib>

#include "check.h"

using namespace slipstick;

TEST(levels_are_ascending_and_the_default_is_the_highest) {
  const std::vector<Isa>& levels = isa_levels();
  CHECK(!levels.empty());
  for (size_t i = 1; i < levels.size(); ++i) CHECK(levels[i - 1] < levels[i]);
  unsetenv("SLIPSTICK_ISA");
  set_isa("");
  CHECK(isa() == levels.back());
}

TEST(a_forced_level_is_the_one_running) {
  for (Isa level : isa_levels()) {
    std::printf("       level %s\n", isa_name(level));
    set_isa(isa_name(level));
    CHECK(isa() == level);
    CHECK_EQUAL(std::string(isa_proof().table), isa_name(level));
    CHECK_EQUAL(std::string(isa_proof().compiled), isa_name(level));
  }
  set_isa("");
}

TEST(an_unknown_level_is_refused_and_changes_nothing) {
  set_isa(isa_name(isa_levels().front()));
  CHECK_THROWS(set_isa("avx512"), invalid_argument, "set_isa: 'avx512' is not a level of this machine; expected one of '");
  CHECK_THROWS(set_isa("V2"), invalid_argument, "'V2'");
  CHECK(isa() == isa_levels().front());
  set_isa("");
}

TEST(the_environment_chooses_the_default) {
  const std::string lowest = isa_name(isa_levels().front());
  setenv("SLIPSTICK_ISA", lowest.c_str(), 1);
  set_isa("");
  CHECK_EQUAL(std::string(isa_name(isa())), lowest);
  setenv("SLIPSTICK_ISA", "mmx", 1);
  CHECK_THROWS(set_isa(""), invalid_argument, "SLIPSTICK_ISA: 'mmx' is not a level of this machine");
  unsetenv("SLIPSTICK_ISA");
  set_isa("");
  CHECK(isa() == isa_levels().back());
}
