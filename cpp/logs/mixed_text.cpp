// The text model of the level `max`: see mixed_text.h.

#include "logs/mixed_text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/large_pages.h"
#include "logs/hash.h"
#include "logs/mixing.h"
#include "logs/range_coder.h"

namespace slipstick::logs {
namespace {

constexpr int kContexts = 9;
constexpr int kInputs = 24;   // two a context, two a match model, one constant; padded
constexpr int kFlagContexts = 8;
constexpr int kFlagInputs = 24;
constexpr int kFlagRate = 10;
constexpr int32_t kFirstFlagWeight = (1 << 20) / 10;
constexpr int kMinBucketBits = 12, kMaxBucketBits = 16;
constexpr int kTextLimit = 255;          // of the bits' memory
constexpr int kFirstRate = 24, kLastRate = 5;
constexpr int32_t kFirstWeight = (1 << 20) / 10;

// The 15 bits of a context's next four, and what tells the context: one cache line.
struct alignas(64) Bucket {
  uint32_t check = 0;
  Bit bits[15];
};

int bucket_bits(size_t text_size) {
  int bits = kMinBucketBits;
  while (bits < kMaxBucketBits && (size_t{8} << bits) < text_size) ++bits;
  return bits;
}

// Follows the last place where the latest kMinimum bytes were the same.
class Match {
 public:
  Match(int minimum, int table_bits) : minimum_(static_cast<size_t>(minimum)), table_(size_t{1} << table_bits, 0) {}

  void update(const std::string& text) {
    size_t size = text.size();
    if (length_ > 0 && text[at_] == text[size - 1]) {
      ++length_;
      ++at_;
      missed_ = missed_ << 1 & 255;
    } else if (length_ > 0) {
      length_ = 0;
      missed_ = (missed_ << 1 | 1) & 255;
    }
    if (size < minimum_) return;
    uint64_t hash = hash_bytes(text.data() + size - minimum_, minimum_);
    uint32_t& entry = table_[hash & (table_.size() - 1)];
    if (length_ == 0 && entry > 0) {
      at_ = entry;
      while (length_ < 40 && length_ < at_ && text[at_ - 1 - length_] == text[size - 1 - length_]) ++length_;
      if (length_ < minimum_) length_ = 0;
    }
    entry = static_cast<uint32_t>(size);
  }
  void begin_byte(const std::string& text) { predicted_ = length_ > 0 ? static_cast<unsigned char>(text[at_]) | 256u : 0; }
  // 0, or the state that the expected bit is judged by.
  uint32_t state(uint32_t node, int shift) {
    following_ = predicted_ != 0 && predicted_ >> (shift + 1) == node;
    if (!following_) return 0;
    expected_ = predicted_ >> shift & 1;
    bit_ = &bits_[reliability()];
    return bucket();
  }
  // How long the repeat is: up to 22.
  uint32_t bucket() const {
    uint32_t length = static_cast<uint32_t>(std::min<size_t>(length_, 40));
    return length < 16 ? length : 16 + (length - 16) / 4;
  }
  // The same, and whether earlier ones ended lately.
  uint32_t reliability() const { return bucket() * 4 + (missed_ == 0 ? 0 : missed_ & 3 ? 2 : 1); }
  void put(int16_t* inputs) const {
    inputs[0] = inputs[1] = 0;
    if (!following_) return;
    int logit = stretch_bit(*bit_), lean = (static_cast<int>(bit_->one >> 12) - 512);
    inputs[0] = static_cast<int16_t>(expected_ ? logit : -logit);
    inputs[1] = static_cast<int16_t>(expected_ ? lean : -lean);
  }
  void learn_bit(bool bit) {
    if (following_) learn(*bit_, bit == expected_, 250);
  }
  // 0, or 256 and the byte.
  uint32_t expected_byte() const { return predicted_; }

 private:
  size_t minimum_;
  std::vector<uint32_t> table_;
  size_t at_ = 0, length_ = 0;
  uint32_t predicted_ = 0, missed_ = 0;
  bool following_ = false, expected_ = false;
  Bit* bit_ = nullptr;
  Bit bits_[23 * 4];
};

enum ByteKind : uint8_t { kOther, kSpace, kDigitByte, kLower, kUpper, kHigh };
ByteKind kind_of(unsigned char c) {
  if (c >= '0' && c <= '9') return kDigitByte;
  if (c >= 'a' && c <= 'z') return kLower;
  if (c >= 'A' && c <= 'Z') return kUpper;
  if (c >= 128) return kHigh;
  return c <= ' ' ? kSpace : kOther;
}

template <class Coder>
class MixedTextModel {
 public:
  MixedTextModel(Coder& coder, size_t text_size, SwitchedOff off = {})
      : coder_(coder),
        off_(off),
        bits_(bucket_bits(text_size + vocabulary().size())),
        buckets_(size_t{kContexts} << bits_),
        long_match_(8, bits_ + 3),
        short_match_(4, bits_ + 3),
        mixer_(3 * 256, 2048, kFirstWeight),
        order1_apm_(size_t{1} << 16),
        match_apm_(8 * 256),
        flags_(size_t{4} << bits_),
        flag_mixer_(23 * 3, 256, kFirstFlagWeight),
        flag_apm_(256) {
    text_.reserve(text_size + vocabulary().size());
    priming_ = true;
    for (char c : off.has(Technique::vocabulary) ? std::string_view() : vocabulary()) code_byte(static_cast<unsigned char>(c));
    priming_ = false;
    begin_section();
  }

  unsigned char code_byte(unsigned char byte) {
    begin_byte();
    if (code_expected(byte)) {
      byte = static_cast<unsigned char>(long_match_.expected_byte());
      end_byte(byte);
      return byte;
    }
    find_contexts();
    uint32_t node = 1;
    for (int i = 7; i >= 0; --i) node = node << 1 | static_cast<uint32_t>(code_bit_at(byte >> i & 1, node, i));
    end_byte(static_cast<unsigned char>(node));
    return static_cast<unsigned char>(node);
  }

 private:
  void begin_section() {
    section_ = 0;
    above_begin_ = above_end_ = line_begin_ = text_.size();
  }

  void end_byte(unsigned char byte) {
    text_.push_back(static_cast<char>(byte));
    ByteKind kind = kind_of(byte);
    last8_ = last8_ << 8 | byte;
    // Digits look alike, so that numbers have shapes.
    shape_ = shape_ << 8 | (kind == kDigitByte ? '0' : byte);
    if (byte == '\n') {
      if (text_.size() == line_begin_ + 1) ++section_;
      above_begin_ = line_begin_;
      above_end_ = text_.size() - 1;
      line_begin_ = text_.size();
      word_ = last_word_ = 0;
      field_ = 0;
      prefix_ = 0;
    } else {
      prefix_ = combine(prefix_, byte);
      if (kind >= kDigitByte) {
        word_ = combine(word_, byte | 32u);
      } else if (word_ != 0) {
        last_word_ = word_;
        word_ = 0;
      }
      // The name in front of a value, or the part of a path in front of this one.
      if (byte == '=' || byte == '/' || byte == ':' || byte == '"' || byte == ' ' || byte == '&' || byte == '?' || byte == '(' ||
          byte == ',') {
        field_ = combine(last_word_, byte);
        field_text_ = 0;
      } else {
        field_text_ = combine(field_text_, byte);
      }
    }
    if (byte == '\n') field_text_ = 0;
    long_match_.update(text_);
    short_match_.update(text_);
  }

  void begin_byte() {
    uint64_t column = text_.size() - line_begin_;
    above_ = 0;
    if (above_begin_ + column < above_end_) {
      above_ = static_cast<unsigned char>(text_[above_begin_ + column]) |
               static_cast<uint64_t>(static_cast<unsigned char>(text_[above_begin_ + column + 1])) << 8;
    }
    in_column_ = combine(above_, combine(last8_ & 255, std::min<uint64_t>(column, 255)));
    in_section_ = combine(section_, 1000);
    long_match_.begin_byte(text_);
    short_match_.begin_byte(text_);
  }

  // Is it the byte that the long match expects? One decision instead of eight where it is, and nothing else learns.
  bool code_expected(unsigned char byte) {
    if (long_match_.expected_byte() == 0 || off_.has(Technique::expected_byte) || off_.has(Technique::repeats)) return false;
    uint32_t expected = long_match_.expected_byte() & 255, other = short_match_.expected_byte();
    const uint64_t contexts[kFlagContexts] = {
        long_match_.reliability(),
        last8_ & 255,
        last8_ & 0xFFFFFF,
        last8_ & 0xFFFFFFFFFF,
        combine(word_, last_word_),
        in_column_,
        combine(prefix_, in_section_),
        combine(field_, field_text_),
    };
    Bit* found[kFlagContexts];
    for (size_t i = 0; i < kFlagContexts; ++i) {
      uint64_t hash = combine(combine(contexts[i], i == 0 ? 0 : expected), 100 + i);
      found[i] = &flags_[hash >> (64 - bits_ - 2)];
      __builtin_prefetch(found[i]);
    }
    int16_t* inputs = flag_mixer_.inputs;
    for (int i = 0; i < kFlagContexts; ++i) put_inputs(*found[i], inputs + 2 * i);
    inputs[2 * kFlagContexts] = 64;
    uint32_t agrees = other == 0 ? 0 : (other & 255) == expected ? 1 : 2;
    int logit = flag_mixer_.mix(long_match_.bucket() * 3 + agrees, expected);
    int refined = flag_apm_.refine(logit, expected);
    if (off_.has(Technique::corrections)) refined = squash(logit);
    int p = (squash(logit) * 3 + refined) >> 2;
    bool hit = byte == expected;
    if (!priming_) hit = coder_.code(hit, clamp_mixed(p));
    if (!off_.has(Technique::learned_weights)) flag_mixer_.learn(hit, kFlagRate);
    flag_apm_.learn(hit, 6);
    for (Bit* bit : found) learn(*bit, hit, kTextLimit);
    return hit;
  }

  void find_contexts() {
    const uint64_t contexts[kContexts] = {
        last8_ & 255,
        last8_ & 0xFFFF,
        last8_ & 0xFFFFFF,
        last8_ & 0xFFFFFFFFFF,
        combine(word_, last8_ & 255),
        in_column_,
        combine(in_section_, last8_ & 0xFFFF),
        combine(shape_ & 0xFFFFFFFFFFFF, 1),
        combine(combine(above_, in_section_), shape_ & 0xFFFF),
    };
    for (size_t i = 0; i < kContexts; ++i) hashes_[i] = combine(contexts[i], i + 1);
  }

  // Finds the buckets of the next four bits; a bucket of another context is taken over. The two of a byte are within
  // 1 KiB, on one page of memory.
  void find_buckets(uint32_t nibble) {
    size_t at[kContexts];
    for (size_t i = 0; i < kContexts; ++i) {
      at[i] = ((i << bits_) + (hashes_[i] >> (64 - bits_))) ^ nibble;
      __builtin_prefetch(&buckets_[at[i]]);
    }
    for (size_t i = 0; i < kContexts; ++i) {
      uint32_t check = (static_cast<uint32_t>(hashes_[i]) + nibble * 0x9E3779B1u) | 1;
      Bucket* bucket = &buckets_[at[i]];
      if (bucket->check != check) {
        Bucket* other = &buckets_[at[i] ^ 1];
        if (other->check == check || other->bits[0].count < bucket->bits[0].count) bucket = other;
        if (bucket->check != check) {
          *bucket = Bucket();
          bucket->check = check;
        }
      }
      found_[i] = bucket;
    }
  }

  bool code_bit_at(bool bit, uint32_t node, int shift) {
    if (shift == 7 || shift == 3) find_buckets(shift == 7 ? 0 : (node & 15) + 1);
    uint32_t at = shift > 3 ? node - 1 : ((node & ((1u << (3 - shift)) - 1)) | 1u << (3 - shift)) - 1;
    int16_t* inputs = mixer_.inputs;
    for (int i = 0; i < kContexts; ++i) put_inputs(found_[static_cast<size_t>(i)]->bits[at], inputs + 2 * i);
    const bool repeats = !off_.has(Technique::repeats);   // a match that is asked for no state gives no inputs
    uint32_t long_state = repeats ? long_match_.state(node, shift) : 0;
    uint32_t short_state = repeats ? short_match_.state(node, shift) : 0;
    long_match_.put(inputs + 2 * kContexts);
    short_match_.put(inputs + 2 * kContexts + 2);
    inputs[2 * kContexts + 4] = 64;
    uint32_t match_set = long_state > 16 ? 2 : long_state + short_state > 0 ? 1 : 0;
    uint32_t last = static_cast<uint32_t>(last8_ & 255);
    int logit = mixer_.mix(match_set * 256 + node, last * 8 + static_cast<uint32_t>(shift));
    int p = squash(logit);
    int first = order1_apm_.refine(logit, last << 8 | node);
    int second = match_apm_.refine(logit, std::min(long_state + short_state, 7u) << 8 | node);
    if (off_.has(Technique::corrections)) first = second = p;
    int final_p = (2 * p + first + second) >> 2;
    if (!priming_) bit = coder_.code(bit, clamp_mixed(final_p));
    if (rate_ > kLastRate * 256) rate_ -= 1;
    if (!off_.has(Technique::learned_weights)) mixer_.learn(bit, rate_ >> 8);
    for (int i = 0; i < kContexts; ++i) learn(found_[static_cast<size_t>(i)]->bits[at], bit, kTextLimit);
    long_match_.learn_bit(bit);
    short_match_.learn_bit(bit);
    order1_apm_.learn(bit, 6);
    match_apm_.learn(bit, 6);
    return bit;
  }

  Coder& coder_;
  SwitchedOff off_;
  int bits_;
  LargeTable<Bucket> buckets_;
  Match long_match_, short_match_;
  Mixer<kInputs> mixer_;
  Apm order1_apm_, match_apm_;
  LargeTable<Bit> flags_;   // of "is it the expected byte"
  Mixer<kFlagInputs> flag_mixer_;
  Apm flag_apm_;
  int rate_ = kFirstRate * 256;
  bool priming_ = false;
  std::string text_;
  std::array<uint64_t, kContexts> hashes_{};
  std::array<Bucket*, kContexts> found_{};
  uint64_t last8_ = 0, shape_ = 0, section_ = 0, prefix_ = 0;
  uint64_t word_ = 0, last_word_ = 0, field_ = 0, field_text_ = 0;
  uint64_t above_ = 0, in_column_ = 0, in_section_ = 0;
  size_t line_begin_ = 0, above_begin_ = 0, above_end_ = 0;
};

}  // namespace

std::string encode_mixed_text(std::string_view text, SwitchedOff off) {
  Encoder coder;
  MixedTextModel<Encoder> model(coder, text.size(), off);
  for (char c : text) model.code_byte(static_cast<unsigned char>(c));
  return coder.finish();
}

std::string decode_mixed_text(std::string_view code, size_t size) {
  Decoder coder(code.data(), code.size());
  MixedTextModel<Decoder> model(coder, size);
  std::string text;
  text.reserve(size);
  while (text.size() < size) text.push_back(static_cast<char>(model.code_byte(0)));
  return text;
}

}  // namespace slipstick::logs
