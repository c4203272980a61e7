// One fuzz target: reads bytes that mean harm, and returns, or throws nothing but slipstick::Error inside. Linked to libFuzzer by
// clang (SLIPSTICK_FUZZERS), else to driver.cpp, which replays the corpus and mutates it by a seed.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
