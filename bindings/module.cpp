// The extension module `slipstick._core`: what the base offers, the translation of errors, and one submodule a room.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "errors.h"
#include "slipstick/cpu.h"
#include "slipstick/error.h"
#include "slipstick/random.h"
#include "slipstick/threads.h"
#include "slipstick/version.h"

namespace nb = nanobind;
using namespace nb::literals;

// One line for each room; its functions are in bindings/ROOM.cpp.
void bind_logs(nb::module_& module);
void bind_losses(nb::module_& module);
void bind_lowbit(nb::module_& module);
void bind_sketch(nb::module_& module);
void bind_simd(nb::module_& module);  // no room: the tests of cpp/simd

namespace {

std::vector<std::string> isa_level_names() {
  std::vector<std::string> names;
  for (slipstick::Isa level : slipstick::isa_levels()) names.push_back(slipstick::isa_name(level));
  return names;
}

nb::bytes random_bytes(uint64_t seed, uint32_t purpose, uint64_t first_block, int64_t blocks, int threads) {
  constexpr int64_t kMaxBlocks = int64_t{1} << 40;  // 16 TiB: keeps sizes far from overflow
  if (blocks > kMaxBlocks)
    throw slipstick::Error(slipstick::ErrorKind::limit_exceeded,
                           "random_bytes: blocks is " + std::to_string(blocks) + "; expected at most " + std::to_string(kMaxBlocks));
  std::vector<uint32_t> words(blocks > 0 ? 4 * static_cast<size_t>(blocks) : 0);
  {
    nb::gil_scoped_release release;
    slipstick::RandomStream(seed, purpose).fill(first_block, blocks, words.data(), threads);
  }
  return nb::bytes(words.data(), words.size() * sizeof(uint32_t));
}

void bind_base(nb::module_& module) {
  module.def("version", &slipstick::version, "Version of the package.");
  module.def("isa_levels", &isa_level_names, "Instruction-set levels that run here, lowest first.");
  module.def("isa", [] { return slipstick::isa_name(slipstick::isa()); }, "The level in use.");
  module.def("set_isa", &slipstick::set_isa, "name"_a, "Force a level; an empty name returns to the default.");
  module.def(
      "isa_proof",
      [] {
        const slipstick::IsaProof proof = slipstick::isa_proof();
        return std::make_pair(proof.table, proof.compiled);
      },
      "Levels of the kernels in use, by the name of their table and by the compiler's feature macros.");
  module.attr("MAX_THREADS") = slipstick::kMaxThreads;
  module.def("default_threads", &slipstick::default_threads, "Threads used where a call names none.");
  module.def("set_default_threads", &slipstick::set_default_threads, "threads"_a, "Set that count; 0 returns to the environment.");
  module.def("philox4x32", &slipstick::philox4x32, "counter"_a, "key"_a, "One block of Philox4x32-10: 4 words of counter, 2 of key.");
  module.def("random_bytes", &random_bytes, "seed"_a, "purpose"_a, "first_block"_a, "blocks"_a, "threads"_a = 0,
             "16 * blocks bytes of a random stream, from block first_block on; little-endian words.");
}

}  // namespace

NB_MODULE(_core, module) {
  module.doc() = "The compiled core of slipstick. Private: use the slipstick package.";
  if (slipstick::isa_levels().empty())
    throw nb::import_error("slipstick needs a processor with SSE4.2 and POPCNT (x86-64-v2, 2009 and later)");
  nb::register_exception_translator(slipstick_bindings::translate);
  bind_base(module);
  nb::module_ logs = module.def_submodule("logs");
  bind_logs(logs);
  nb::module_ losses = module.def_submodule("losses");
  bind_losses(losses);
  nb::module_ lowbit = module.def_submodule("lowbit");
  bind_lowbit(lowbit);
  nb::module_ sketch = module.def_submodule("sketch");
  bind_sketch(sketch);
  nb::module_ simd = module.def_submodule("simd");
  bind_simd(simd);
}
