// The decoder: the input is an archive, read as a stream, at random, and by recover. Then, behind all checksums, each of its blocks'
// payloads as every method reads it, a continued one behind the archive itself; as `max`, which reads a vocabulary a block and is slow, only where the block says so.
#include "logs_test.h"
#include "target.h"

using namespace logs_test;

namespace {

template <class Read>
void survive(Read read) {
  try {
    read();
  } catch (const Error&) {
  }
}

constexpr uint64_t kMemory = uint64_t{1} << 20, kOutput = uint64_t{1} << 20;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view data(reinterpret_cast<const char*>(bytes), size);
  RunCodec codec;
  survive([&] { unpack(data, 1, kMemory, kOutput); });
  survive([&] {
    const Archive archive(data, codec);
    for (size_t i = 0; i < archive.block_count(); ++i)
      if (archive.block(i).raw_bytes <= kOutput) archive.decompress_block(i);
  });
  survive([&] { Archive::recovered(data, codec, 1); });
  survive([&] {
    for (const Parts::Block& block : Parts::read(data).blocks)
      for (int method = 0; method < kMethods; ++method)
        if (static_cast<Method>(method) != Method::max || block.method == method)
          survive([&] {
            unpack_block(static_cast<Method>(method), block.payload, block.lines >> 1, block.raw_bytes % kOutput, codec, nullptr, data);
          });
  });
  return 0;
}
