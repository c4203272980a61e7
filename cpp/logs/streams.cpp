// Streams of payloads: see streams.h.

#include "logs/streams.h"

#include "logs/mixed_text.h"
#include "logs/random_digits.h"
#include "logs/text_coder.h"
#include "logs/trimmed.h"

namespace slipstick::logs {
namespace {

// What kStreamDigits packed.
void read_digits(Stream& stream, std::string_view packed, size_t size, ByteCodec& codec) {
  ByteReader in(packed);
  const DigitLayouts layouts(in);
  if (!in.done() && static_cast<uint8_t>(packed[in.at()]) >= kStreamContinued) in.fail("has digits taken out of a text of illegal codec");
  const Stream rest = get_stream(in, size, codec);
  const std::string_view digits = in.take(packed.size() - in.at());
  stream.own = layouts.put_back(rest.view(), digits, size);
  stream.digits_packed = digits.size();
  stream.digits = size - rest.view().size();
}

}  // namespace

void put_stream(std::string& out, StreamCodec codec, std::string_view packed, size_t size) {
  out.push_back(static_cast<char>(codec));
  put_varint(out, size);
  put_varint(out, packed.size());
  out += packed;
}

Stream get_stream(ByteReader& in, size_t most, ByteCodec& codec, std::string_view prefix) {
  const uint8_t how = in.byte();
  const uint64_t size = in.varint(), packed = in.varint();
  const std::string_view data = in.take(packed);
  if (size > most) in.fail("has a text of illegal size");
  Stream stream;
  stream.packed_size = packed;
  switch (how) {
    case kStreamStored:
      if (size != packed) in.fail("has a text of illegal size");
      stream.stored = data;
      return stream;
    case kStreamZstd: stream.own = codec.decompress(data, size); break;
    case kStreamMixed:
      if (size > kMixedTextBytes) in.fail("has a text of illegal size");
      stream.own = decode_text(data, size);
      break;
    case kStreamMax:
      if (size > kMaxMixedText || !is_plausible_mixed_text(size, packed)) in.fail("has a text of illegal size");
      stream.own = decode_mixed_text(data, size);
      break;
    case kStreamContinued:
    case kStreamTrimmed:
      if (prefix.empty()) in.fail("has a text that continues nothing");
      stream.own = codec.decompress_behind(how == kStreamTrimmed ? whole_frame(data, size) : data, prefix, size);
      break;
    case kStreamDigits: read_digits(stream, data, size, codec); break;
    default: in.fail("has a text of unknown codec");
  }
  if (stream.own.size() != size) in.fail("has a text of another size than stated");
  return stream;
}

}  // namespace slipstick::logs
