// Byte classes of a text, 64 bytes a step. Exact.
#include "logs/classes.h"
#include "simd/bytes.h"

namespace slipstick::logs::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::SLIPSTICK_ISA_NAMESPACE::Bytes64;

void classify_group(const Bytes64& bytes, ByteClasses& out) {
  using namespace simd::SLIPSTICK_ISA_NAMESPACE;
  out.digit = bitmap_digits(bytes);
  out.word = out.digit | bitmap_letters(bytes) | bitmap_equal(bytes, '_') | bitmap_range(bytes, 128, 255);
  out.feed = bitmap_equal(bytes, '\n');
  out.quote = bitmap_equal(bytes, '"');
  out.nul = bitmap_equal(bytes, 0);
}

void classify(const char* text, int64_t size, ByteClasses* groups) {
  const uint8_t* at = reinterpret_cast<const uint8_t*>(text);
  for (; size >= 64; size -= 64, at += 64) classify_group(Bytes64::load(at), *groups++);
  if (size > 0) classify_group(Bytes64::load_first(at, size, ' '), *groups);
}

}  // namespace

const ClassKernels class_kernels{SLIPSTICK_ISA_NAME, classify};

}  // namespace slipstick::logs::SLIPSTICK_ISA_NAMESPACE
