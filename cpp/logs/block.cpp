// Packing and unpacking one block: see block.h.

#include "logs/block.h"

#include <algorithm>
#include <utility>

#include "logs/block_index.h"
#include "logs/bytes.h"
#include "logs/continued.h"
#include "logs/mixed_text.h"
#include "logs/model_block.h"
#include "logs/random_digits.h"
#include "logs/streams.h"
#include "logs/structure.h"
#include "logs/text_coder.h"
#include "logs/trimmed.h"
#include "slipstick/error.h"

namespace slipstick::logs {
namespace {

constexpr int kFastZstd = 3, kStandardZstd = 19;
constexpr size_t kSampleBytes = 256 * 1024;      // what the lexer's options are tried on
constexpr size_t kFastSampleBytes = 48 * 1024;
constexpr size_t kSureDigits = 64 * 1024;        // bytes; what marks and layouts cost is nothing beside them
constexpr size_t kWorthContinuing = 32;          // bytes; more would add up to more than zstd -3 of the whole file over many blocks
constexpr uint64_t kZstdBlockBytes = 128 * 1024;
constexpr size_t kBlockCosts = 128;              // a block's header, its part of the footer, and what zstd takes to begin anew: 43 + 85

// Tries the lexer's options on a part of the block and takes those that pack it best.
LexerOptions choose_options(std::string_view raw, Level level) {
  std::string_view sample = raw.substr(0, level == Level::fast ? kFastSampleBytes : kSampleBytes);
  if (sample.size() < raw.size()) sample = sample.substr(0, sample.rfind('\n') + 1);
  LexerOptions best;
  size_t best_size = SIZE_MAX;
  bool quotes = sample.find('"') != std::string_view::npos, paths = sample.find('/') != std::string_view::npos;
  for (int choice = 0; choice < 4; ++choice) {
    LexerOptions options{(choice & 1) != 0, (choice & 2) != 0};
    if ((options.quotes_are_values && !quotes) || (options.paths_are_values && !paths)) continue;
    // Both together pay only where one does.
    if (level == Level::fast && choice == 3 && !best.quotes_are_values && !best.paths_are_values) continue;
    ModelStreams streams = encode_model(find_structure(sample, options), Effort::sketch);
    size_t size = streams.symbols.size() + streams.text.size() / 6;   // text packs about that well
    // Values of any length slow the lexer down: they have to be worth it.
    size_t worth = level == Level::fast ? size + size / 8 : size + size / 40;
    if (choice == 0 || worth < best_size) {
      best_size = size;
      best = options;
    }
  }
  return best;
}

// The text as the level packs it, and how.
std::pair<StreamCodec, std::string> pack_text(std::string_view text, Level level, SwitchedOff off, ByteCodec& codec) {
  if (text.empty()) return {kStreamStored, {}};
  bool modelled = !off.has(Technique::text_model);
  if (level == Level::max && modelled && text.size() <= kMaxMixedText) {
    std::string packed = encode_mixed_text(text, off);
    if (is_plausible_mixed_text(text.size(), packed.size())) return {kStreamMax, std::move(packed)};
  }
  if (level == Level::standard && modelled && text.size() <= kMixedTextBytes) return {kStreamMixed, encode_text(text)};
  std::string packed = codec.compress(text, kFastZstd);
  // Text that is mostly random, like base64, has nothing that a longer search would find, and the search takes a second for 1 MB.
  bool random = packed.size() > text.size() / 3 * 2;
  if (level != Level::fast && !random) packed = codec.compress(text, kStandardZstd);
  return {kStreamZstd, std::move(packed)};
}

std::string text_stream(std::string_view text, Level level, SwitchedOff off, ByteCodec& codec) {
  std::string out;
  auto [how, packed] = pack_text(text, level, off, codec);
  if (how == kStreamStored || packed.size() >= text.size()) {
    put_stream(out, kStreamStored, text, text.size());
  } else {
    put_stream(out, how, packed, text.size());
  }
  return out;
}

// The text with random digits taken out of it, or as it is, whichever is smaller. To pack it as it is would take longer than all else, so it is
// not tried where most of it are hexadecimal digits and zstd -3 finds nothing: neither in their bits, nor in the text, where it sees repeats of
// fewer digits.
void put_text(std::string& out, std::string_view text, Level level, SwitchedOff off, ByteCodec& codec) {
  DigitParts parts;
  if (!take_digits(text, parts)) {
    out += text_stream(text, level, off, codec);
    return;
  }
  std::string without;
  put_stream(without, kStreamDigits, parts.layouts + text_stream(parts.rest, level, off, codec) + parts.digits, text.size());
  const bool sure = parts.hexadecimal && parts.digits.size() >= kSureDigits && parts.rest.size() <= text.size() / 2 &&
                    codec.compress(parts.digits, kFastZstd).size() >= parts.digits.size() &&
                    codec.compress(text, kFastZstd).size() >= without.size();
  const std::string whole = sure ? std::string() : text_stream(text, level, off, codec);
  out += sure || without.size() < whole.size() ? without : whole;
}

// The payload under a model, or nothing if it would not give the block back. Without some techniques it never would.
std::string pack_model(std::string_view raw, Level level, SwitchedOff off, ByteCodec& codec) {
  bool fast = level == Level::fast;
  Effort effort = fast ? Effort::fast : level == Level::max ? Effort::mixed : Effort::thorough;
  ModelStreams streams;
  size_t lines = 0;
  {
    Structure structure = find_structure(raw, off.has(Technique::lexer_options) ? LexerOptions() : choose_options(raw, level));
    lines = structure.line_templates.size();
    streams = encode_model(structure, effort, off);
  }
  if (!off.any() && !decodes_to(streams, effort, lines, raw)) return {};
  if (std::max(streams.symbols.size(), streams.text.size()) > max_text(raw.size())) return {};   // no reader would take it
  std::string payload;
  if (fast) {
    put_stream(payload, kStreamZstd, codec.compress(streams.symbols, kFastZstd), streams.symbols.size());
  } else {
    put_stream(payload, kStreamStored, streams.symbols, streams.symbols.size());
  }
  put_text(payload, streams.text, level, off, codec);
  return payload;
}

// zstd's level where zstd alone is better than the level's model: not slower than that is on logs.
int better_zstd(Level level) { return level == Level::fast ? 5 : level == Level::standard ? 9 : 16; }

// The block under zstd alone, given what zstd -3 makes of it.
PackedBlock pack_frame(std::string_view raw, std::string frame, int better, ByteCodec& codec) {
  for (int level : {kLiteralsOnly, better}) {
    std::string other = codec.compress(raw, level);
    if (other.size() < frame.size()) frame = std::move(other);
  }
  std::string trimmed = trim_frame(frame, raw.size());
  if (trimmed.empty()) return {Method::zstd, std::move(frame), {}};
  return {Method::trimmed, std::move(trimmed), {}};
}

struct Streams {
  Stream symbols, text;
};

Streams get_streams(std::string_view payload, size_t raw_size, ByteCodec& codec) {
  ByteReader in(payload);
  const size_t most = max_text(raw_size);
  Streams streams{get_stream(in, most, codec), get_stream(in, most, codec)};
  if (!in.done()) in.fail("goes on after the last stream of a block");
  return streams;
}

std::string unpack_model(Method method, std::string_view payload, size_t lines, size_t raw_size, ByteCodec& codec, Account* account) {
  const auto [symbols, text] = get_streams(payload, raw_size, codec);
  if (account) {
    Share& share = account->shares["text templates and new strings"];
    share.bits += static_cast<double>(text.packed_size - text.digits_packed) * 8;
    share.raw_bytes += text.view().size() - text.digits;
    if (text.digits > 0) {
      Share& digits = account->shares["text random digits"];
      digits.bits += static_cast<double>(text.digits_packed) * 8;
      digits.raw_bytes += text.digits;
    }
    if (method == Method::fast)
      account->shares["columns of all kinds, packed together"].bits += static_cast<double>(symbols.packed_size) * 8;
  }
  if (method == Method::fast) return decode_fast(symbols.view(), text.view(), lines, raw_size, account);
  if (method == Method::max) return decode_max(symbols.view(), text.view(), lines, raw_size, account);
  return decode_model(symbols.view(), text.view(), lines, raw_size, account);
}

}  // namespace

const char* method_name(Method method) {
  static constexpr const char* kNames[kMethods] = {"stored", "zstd", "fast", "default", "max", "continued", "trimmed"};
  return kNames[static_cast<int>(method)];
}

// Control bytes that text does not have are frequent in binary data.
bool is_text(std::string_view raw) {
  size_t size = std::min(raw.size(), kSampleBytes), odd = 0;
  for (size_t i = 0; i < size; ++i) {
    unsigned char c = static_cast<unsigned char>(raw[i]);
    odd += c < 32 && c != '\n' && c != '\r' && c != '\t' && c != 27;
  }
  return odd * 50 <= size;
}

uint64_t count_lines(std::string_view raw) {
  // Sums of bytes vectorise far better than std::count's sums of 64 bits.
  uint64_t feeds = 0;
  for (size_t at = 0; at < raw.size();) {
    size_t end = std::min(raw.size(), at + 255);
    uint8_t few = 0;
    for (; at < end; ++at) few = static_cast<uint8_t>(few + (raw[at] == '\n'));
    feeds += few;
  }
  return feeds + (!raw.empty() && raw.back() != '\n');
}

// An archive is at most 1 KiB larger than zstd -3 makes the whole input, if every block takes at most what zstd spends on its bytes there; so
// each must make up for kBlockCosts. A model's payload that is not so much smaller than the block's own frame meets what zstd alone can
// do. There, what has repeats gains far more at a better level, and what has none and is hurt by accidental ones, by its bytes' frequencies;
// what gains by neither is trimmed, which leaves 2 to 3 of the 3 bytes and more that zstd puts in front of each 128 KiB: some 500 a block.
// Stored bytes lack those 768 altogether. What zstd's window gives the next block, and more, a continued block has. zstd's own blocks
// begin where they would in the whole input, in case its bytes change there.
PackedBlock pack_block(std::string_view raw, Level level, ByteCodec& codec, std::string_view prefix, uint64_t offset) {
  PackedBlock best{Method::stored, {}, {}};
  if (raw.empty()) return best;
  size_t best_size = raw.size();
  if (is_text(raw)) {
    std::string payload = pack_model(raw, level, {}, codec);
    std::string index = payload.empty() ? std::string() : make_block_index(raw, payload.size());
    if (!payload.empty() && payload.size() + index.size() < best_size) {
      best_size = payload.size() + index.size();
      best = {level == Level::fast  ? Method::fast
              : level == Level::max ? Method::max
                                    : Method::standard,
              std::move(payload), std::move(index)};
    }
  }
  // zstd -3 is given up as soon as it is larger; of most logs that is after a small part. Behind its first window it makes of a block
  // what it would also make of it in the middle of the file: so where it is not given up there, the block may be worth continuing.
  const size_t first = static_cast<size_t>(-offset % kZstdBlockBytes);
  std::string packed = codec.compress_below(raw, {}, kFastZstd, best_size - 1 + kBlockCosts, prefix.empty() ? 0 : kPrefixBytes, first);
  if (!packed.empty()) {
    const int better = better_zstd(level);
    if (packed.size() < best_size + kBlockCosts) {
      PackedBlock frame = pack_frame(raw, std::move(packed), better, codec);
      if (frame.payload.size() < best_size) {
        best_size = frame.payload.size();
        best = std::move(frame);
      }
    }
    if (!prefix.empty() && best_size > kWorthContinuing) {
      std::string payload = pack_continued(raw, prefix, best_size - kWorthContinuing, better, first, codec);
      if (!payload.empty()) best = {Method::continued, std::move(payload), {}};
    }
  }
  if (best.method == Method::stored) best.payload = std::string(raw);
  return best;
}

size_t ablated_size(std::string_view raw, Level level, SwitchedOff off, ByteCodec& codec) {
  return pack_model(raw, level, off, codec).size();
}

std::string unpack_block(Method method, std::string_view payload, size_t lines, size_t raw_size, ByteCodec& codec, Account* account,
                         std::string_view prefix) {
  switch (method) {
    case Method::fast:
    case Method::standard:
    case Method::max: return unpack_model(method, payload, lines, raw_size, codec, account);
    case Method::zstd:
    case Method::stored:
    case Method::continued:
    case Method::trimmed: break;
  }
  if (account) {
    Share& share = account->shares[std::string("bytes ") + method_name(method)];
    share.bits += static_cast<double>(payload.size()) * 8;
    share.raw_bytes += raw_size;
  }
  if (method == Method::zstd) return codec.decompress(payload, raw_size);
  if (method == Method::trimmed) return codec.decompress(whole_frame(payload, raw_size), raw_size);
  if (method == Method::continued) return unpack_continued(payload, prefix, raw_size, codec);
  if (payload.size() != raw_size) throw Error(ErrorKind::corrupt_data, "block: stored bytes have another size than stated");
  return std::string(payload);
}

bool select_lines(Method method, std::string_view payload, size_t lines, size_t raw_size, ByteCodec& codec, const LineFilter& filter,
                  LineSelection& out) {
  if (method != Method::fast && method != Method::standard && method != Method::max) return false;
  const auto [symbols, text] = get_streams(payload, raw_size, codec);
  ModelKind kind = method == Method::fast ? ModelKind::fast : method == Method::max ? ModelKind::max : ModelKind::standard;
  out = select_model_lines(kind, symbols.view(), text.view(), lines, raw_size, filter);
  return true;
}

}  // namespace slipstick::logs
