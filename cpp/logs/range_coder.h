// Binary arithmetic coding with adaptive probabilities, in integers only: the same bits on every machine.
//
// A carry-less range coder: the interval [low, high] of 64 bits is split at each bit in proportion to its probability
// and its equal leading bytes are shifted out. Encoder and Decoder have the same members, so that a model is one
// template over the coder and cannot decode other than it encodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace slipstick::logs {

// The probability of a 1, learned, of 2^22. A young one moves fast: its rate is 1/(count + 1.5) up to a limit.
struct Bit {
  uint32_t one : 22;
  uint32_t count : 10;
  constexpr Bit() : one(1u << 21), count(0) {}
};

constexpr int kBitLimit = 500;             // longer memories gain nothing: logs change
constexpr uint32_t kMature = 30;           // a bit seen this often needs no general one beside it
constexpr uint32_t kMinProbability = 24;   // of 65536; keeps a surprise below 12 bits

struct BitTables {
  uint16_t rate[kBitLimit + 1];     // 65536 / (count + 1.5)
  uint16_t weight[kBitLimit + 1];   // trust in a specific bit beside a general one, of 65536
  constexpr BitTables() : rate(), weight() {
    for (int n = 0; n <= kBitLimit; ++n) {
      rate[n] = static_cast<uint16_t>(131072 / (2 * n + 3));
      weight[n] = static_cast<uint16_t>(65535 * n / (n + 2));
    }
  }
};
inline constexpr BitTables kBitTables;

inline void learn(Bit& bit, bool value, int limit) {
  int64_t target = value ? (1 << 22) - 1 : 0;
  int64_t one = bit.one;
  one += ((target - one) * kBitTables.rate[bit.count]) >> 16;
  bit.one = static_cast<uint32_t>(one) & ((1u << 22) - 1);
  if (static_cast<int>(bit.count) < limit) bit.count = (bit.count + 1u) & 1023u;
}

inline uint32_t clamp_probability(uint32_t one) {
  if (one < kMinProbability) return kMinProbability;
  if (one > 65536 - kMinProbability) return 65536 - kMinProbability;
  return one;
}

class Encoder {
 public:
  static constexpr bool kDecodes = false;

  // Codes `value`, whose probability of being 1 is one / 65536, 0 < one < 65536.
  bool code(bool value, uint32_t one) {
    uint64_t middle = low_ + ((high_ - low_) >> 16) * one;
    if (value) {
      high_ = middle;
    } else {
      low_ = middle + 1;
    }
    while (((low_ ^ high_) >> 56) == 0) {
      out_.push_back(static_cast<char>(high_ >> 56));
      low_ <<= 8;
      high_ = high_ << 8 | 255;
    }
    return value;
  }
  // The code's end: as many bytes as tell the interval apart; the reader supplies zeros after them.
  std::string finish() {
    int bytes = 1;
    while (bytes < 8) {
      uint64_t tail = (uint64_t{1} << (64 - 8 * bytes)) - 1;
      uint64_t candidate = (low_ + tail) & ~tail;
      if (candidate >= low_ && candidate <= high_) break;
      ++bytes;
    }
    uint64_t tail = bytes == 8 ? 0 : (uint64_t{1} << (64 - 8 * bytes)) - 1;
    uint64_t candidate = (low_ + tail) & ~tail;
    for (int i = 0; i < bytes; ++i) out_.push_back(static_cast<char>(candidate >> (56 - 8 * i)));
    while (!out_.empty() && out_.back() == 0) out_.pop_back();
    return std::move(out_);
  }

 private:
  uint64_t low_ = 0, high_ = ~uint64_t{0};
  std::string out_;
};

class Decoder {
 public:
  static constexpr bool kDecodes = true;

  Decoder(const char* data, size_t size) : at_(reinterpret_cast<const unsigned char*>(data)), end_(at_ + size) {
    for (int i = 0; i < 8; ++i) code_ = code_ << 8 | next_byte();
  }
  bool code(bool, uint32_t one) {
    uint64_t middle = low_ + ((high_ - low_) >> 16) * one;
    bool value = code_ <= middle;
    if (value) {
      high_ = middle;
    } else {
      low_ = middle + 1;
    }
    while (((low_ ^ high_) >> 56) == 0) {
      low_ <<= 8;
      high_ = high_ << 8 | 255;
      code_ = code_ << 8 | next_byte();
    }
    return value;
  }

 private:
  uint64_t next_byte() { return at_ < end_ ? *at_++ : 0; }
  const unsigned char* at_;
  const unsigned char* end_;
  uint64_t low_ = 0, high_ = ~uint64_t{0}, code_ = 0;
};

// One bit under one context.
template <class Coder>
bool code_bit(Coder& coder, bool value, Bit& bit, int limit = kBitLimit) {
  value = coder.code(value, clamp_probability(bit.one >> 6));
  learn(bit, value, limit);
  return value;
}

// One bit under a specific context, leaning on a general one while the specific one is young.
template <class Coder>
bool code_bit(Coder& coder, bool value, Bit& specific, Bit& general, int limit = kBitLimit) {
  if (specific.count >= kMature) return code_bit(coder, value, specific, limit);
  int64_t general_one = general.one;
  int64_t one = general_one + (((static_cast<int64_t>(specific.one) - general_one) * kBitTables.weight[specific.count]) >> 16);
  value = coder.code(value, clamp_probability(static_cast<uint32_t>(one >> 6)));
  learn(specific, value, limit);
  learn(general, value, kBitLimit);
  return value;
}

// `bits` bits that nothing is known of, the highest first.
template <class Coder>
uint64_t code_plain(Coder& coder, uint64_t value, int bits) {
  uint64_t out = 0;
  for (int i = bits - 1; i >= 0; --i) out = out << 1 | static_cast<uint64_t>(coder.code(value >> i & 1, 32768));
  return out;
}

}  // namespace slipstick::logs
