// Continued blocks: see continued.h. Two streams: repeats of 4 KiB and more, and the bytes between them as zstd packs them behind the
// prefix. zstd alone would not do: one that begins anew often does not find the long repeat in which zstd on its way would have been.

#include "logs/continued.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "logs/bytes.h"
#include "logs/repeats.h"
#include "logs/streams.h"
#include "logs/trimmed.h"

namespace slipstick::logs {
namespace {

constexpr int kZstdLevel = 3;

// Repeats and what they leave, as they are written.
struct Pieces {
  std::string repeats, literals;
  size_t first = 0;   // of the literals, see ByteCodec
};

Pieces cut_repeats(std::string_view raw, std::string_view prefix) {
  std::string text;
  text.reserve(prefix.size() + raw.size());
  text += prefix;
  text += raw;
  Pieces pieces;
  size_t at = prefix.size();
  for (const Repeat& repeat : find_repeats(text, at)) {
    put_varint(pieces.repeats, repeat.at - at);
    put_varint(pieces.repeats, repeat.length);
    put_varint(pieces.repeats, repeat.distance);
    pieces.literals.append(text, at, repeat.at - at);
    at = repeat.at + repeat.length;
  }
  pieces.literals.append(text, at);
  return pieces;
}

std::string pack_pieces(const Pieces& pieces, std::string_view prefix, size_t limit, int level, ByteCodec& codec) {
  const auto& [repeats, literals, first] = pieces;
  std::string out;
  std::string packed = repeats.empty() ? std::string() : codec.compress(repeats, kZstdLevel);
  const bool pays = packed.size() < repeats.size();
  put_stream(out, pays ? kStreamZstd : kStreamStored, pays ? packed : repeats, repeats.size());
  if (literals.empty()) {
    put_stream(out, kStreamStored, literals, 0);
  } else {
    packed = codec.compress_below(literals, prefix, level, limit, 0, first);
    if (packed.empty()) return {};
    const std::string trimmed = trim_frame(packed, literals.size());
    put_stream(out, trimmed.empty() ? kStreamContinued : kStreamTrimmed, trimmed.empty() ? packed : trimmed, literals.size());
  }
  if (out.size() > limit) return {};
  return out;
}

}  // namespace

std::string pack_continued(std::string_view raw, std::string_view prefix, size_t limit, int better_level, size_t first, ByteCodec& codec) {
  Pieces pieces{{}, std::string(raw), first};
  std::string best = pack_pieces(pieces, prefix, limit, kZstdLevel, codec);
  if (Pieces cut = cut_repeats(raw, prefix); !cut.repeats.empty()) {
    std::string other = pack_pieces(cut, prefix, best.empty() ? limit : best.size() - 1, kZstdLevel, codec);
    if (!other.empty()) {
      best = std::move(other);
      pieces = std::move(cut);
    }
  }
  if (best.empty()) return best;
  std::string better = pack_pieces(pieces, prefix, best.size() - 1, better_level, codec);
  return better.empty() ? best : better;
}

std::string unpack_continued(std::string_view payload, std::string_view prefix, size_t raw_size, ByteCodec& codec) {
  ByteReader in(payload);
  const Stream repeats = get_stream(in, raw_size, codec), literals = get_stream(in, raw_size, codec, prefix);
  if (!in.done()) in.fail("goes on after the last stream of a block");
  std::string out;
  out.reserve(raw_size);
  ByteReader text(literals.view());
  for (ByteReader each(repeats.view()); !each.done();) {
    const uint64_t count = each.varint();
    if (count > raw_size - out.size()) each.fail("has more literals than its block");
    out += text.take(count);
    uint64_t length = each.varint(), distance = each.varint();
    if (length == 0 || length > raw_size - out.size() || distance == 0 || distance > prefix.size() + out.size())
      each.fail("has a repeat of what is not there");
    if (distance > out.size()) {
      const size_t back = distance - out.size(), from_prefix = std::min<size_t>(back, length);
      out += prefix.substr(prefix.size() - back, from_prefix);
      length -= from_prefix;
    }
    // What overlaps itself repeats in pieces that double.
    for (size_t from = out.size() - std::min<size_t>(distance, out.size()); length > 0;) {
      const size_t piece = std::min<size_t>(length, out.size() - from);
      out.append(out, from, piece);
      length -= piece;
    }
  }
  out += text.take(literals.view().size() - text.at());
  if (out.size() != raw_size) in.fail("has a block of another size than stated");
  return out;
}

}  // namespace slipstick::logs
