// The text coder: see text_coder.h.

#include "logs/text_coder.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "logs/hash.h"
#include "logs/range_coder.h"

namespace slipstick::logs {
namespace {

constexpr size_t kContexts = 8;             // orders 1, 2, 3, 4, 6, word, word pair, above
constexpr size_t kInputs = 24;            // each context twice, the match twice, a constant; padded for vectors
constexpr int kStretchLimit = 2047;
constexpr size_t kMinMatch = 5;
constexpr int kWeightBits = 13;   // a weight of 1 is 2^13
constexpr int kRate = 14;         // of the mixer; 6 and 24 lose 1 to 8 % on the 2k samples
constexpr int kRateBits = 19;

constexpr int kMaxTableBits = 19;
// 65536 / (count + 1.6), not below 1/24
constexpr int kCellRates[16] = {40960, 25206, 18204, 14247, 11703, 9930, 8623, 7620, 6827, 6183, 5650, 5201, 4819, 4489, 4201, 2731};

// ln(p / (1 - p)) in 1/256 for p of 4096, and back. Made by integer interpolation over a fixed table, so that every
// machine has the same.
constexpr int squash(int x) {
  constexpr int kTable[33] = {1,    2,    3,    6,    10,   16,   27,   45,   73,   120,  194,  310,  488,  747,  1101, 1546, 2047,
                              2549, 2994, 3348, 3607, 3785, 3901, 3975, 4024, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094};
  if (x > kStretchLimit) return 4095;
  if (x < -kStretchLimit) return 0;
  int weight = x & 127;
  int at = (x >> 7) + 16;
  return (kTable[at] * (128 - weight) + kTable[at + 1] * weight + 64) >> 7;
}

struct StretchTable {
  int16_t of[4096];
  constexpr StretchTable() : of() {
    int next = 0;
    for (int x = -kStretchLimit; x <= kStretchLimit; ++x) {
      int p = squash(x);
      for (int i = next; i <= p; ++i) of[i] = static_cast<int16_t>(x);
      next = std::max(next, p + 1);
    }
    for (int i = next; i < 4096; ++i) of[i] = kStretchLimit;
  }
};
const StretchTable kStretch;

// A learned probability of 12 bits and, below it, how often it was seen, up to 15: small, because the coder waits for
// memory more than for anything else.
using Cell = uint16_t;
constexpr Cell kNewCell = 2048 << 4;
constexpr int kCellLimit = 15;
inline int probability(Cell cell) { return cell >> 4; }
inline void learn_cell(Cell& cell, bool bit) {
  int count = cell & 15;
  int p = cell >> 4;
  p += ((bit ? 4095 : 0) - p) * kCellRates[count] >> 16;
  cell = static_cast<Cell>(p << 4 | (count < kCellLimit ? count + 1 : count));
}

// Table sizes follow the text, so that small blocks stay small and all tables stay near the processor.
int table_bits(size_t text_size) {
  int bits = 14;
  while (bits < kMaxTableBits && (size_t{1} << bits) < text_size * 4) ++bits;
  return bits;
}

template <class Coder>
class TextModel {
 public:
  TextModel(Coder& coder, size_t text_size) : coder_(coder), bits_(table_bits(text_size)) {
    for (auto& table : tables_) table.assign(size_t{1} << bits_, kNewCell);
    match_table_.resize(size_t{1} << std::min(bits_, 18), 0);
    weights_.assign(256 * 3 * kInputs, (1 << kWeightBits) * 3 / 10);
    for (int i = 0; i < 1024; ++i)
      for (int j = 0; j < 33; ++j) refine_[static_cast<size_t>(i * 33 + j)] = static_cast<uint16_t>(squash((j - 16) * 128) * 16);
  }

  unsigned char code_byte(unsigned char byte, const std::string& text) {
    begin_byte(text);
    uint32_t node = 1;
    for (int i = 7; i >= 0; --i) {
      bool bit = byte >> i & 1;
      node = node << 1 | static_cast<uint32_t>(code_bit_at(bit, node, i));
    }
    return static_cast<unsigned char>(node);
  }

  // Tells the model the byte that was coded; `text` has it already.
  void end_byte(unsigned char byte, const std::string& text) {
    bool letter =
        (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '_' || byte >= 128;
    if (byte == '\n') {
      line_begin_ = text.size();
      above_begin_ = previous_line_begin_;
      previous_line_begin_ = line_begin_;
      word_ = last_word_ = 0;
    } else if (letter) {
      word_ = combine(word_, byte);
    } else if (word_ != 0) {
      last_word_ = word_;
      word_ = 0;
    }
    update_match(text);
  }

 private:
  void begin_byte(const std::string& text) {
    size_t size = text.size();
    uint64_t last8 = 0;
    if (size >= 8) {
      last8 = __builtin_bswap64(load64(text.data() + size - 8));
    } else {
      for (size_t i = 0; i < size; ++i) last8 = last8 << 8 | static_cast<unsigned char>(text[i]);
    }
    size_t column = size - line_begin_;
    uint64_t above = 0;
    if (above_begin_ + column + 1 < line_begin_)
      above = static_cast<unsigned char>(text[above_begin_ + column]) |
              static_cast<uint64_t>(static_cast<unsigned char>(text[above_begin_ + column + 1])) << 8;
    order1_ = static_cast<uint32_t>(last8 & 255);
    hashes_[0] = combine(1, last8 & 0xFF);
    hashes_[1] = combine(2, last8 & 0xFFFF);
    hashes_[2] = combine(3, last8 & 0xFFFFFF);
    hashes_[3] = combine(4, last8 & 0xFFFFFFFF);
    hashes_[4] = combine(5, last8 & 0xFFFFFFFFFFFF);
    hashes_[5] = combine(combine(6, word_), last8 & 0xFF);
    hashes_[6] = combine(combine(7, word_), last_word_);
    hashes_[7] = combine(combine(8, above), combine(last8 & 0xFF, std::min<size_t>(column, 255)));
    if (match_at_ > 0 && match_length_ > 0) {
      predicted_ = static_cast<unsigned char>(text[match_at_]) | 256u;
    } else {
      predicted_ = 0;
    }
  }

  // The cells of a context's next four bits share a cache line.
  void find_lines(uint32_t node) {
    for (size_t i = 0; i < kContexts; ++i) {
      uint64_t at = mix(hashes_[i] + node * 0x9E3779B97F4A7C15u) >> (64 - bits_) & ~uint64_t{15};
      lines_[i] = &tables_[i][at];
    }
  }

  bool code_bit_at(bool bit, uint32_t node, int shift) {
    if (shift == 7 || shift == 3) find_lines(node);
    uint32_t nibble = shift > 3 ? node : (node & ((1u << (3 - shift)) - 1)) | 1u << (3 - shift);
    alignas(16) int16_t inputs[kInputs];
    for (size_t i = 0; i < kContexts; ++i) {
      Cell cell = lines_[i][nibble];
      int p = probability(cell);
      inputs[2 * i] = kStretch.of[p];
      // How sure a context is grows with what it has seen; a context that never erred says so.
      inputs[2 * i + 1] = static_cast<int16_t>((p - 2048) * kConfidence[cell & 15] >> 4);
    }
    bool following = predicted_ != 0 && (predicted_ >> (shift + 1)) == node;
    bool expected = following && (predicted_ >> shift & 1);
    Bit& match_cell = match_bits_[std::min<uint32_t>(match_length_, 31)];
    int sign = following ? (expected ? 1 : -1) : 0;
    inputs[2 * kContexts] = static_cast<int16_t>(sign * kStretch.of[match_cell.one >> 10]);
    inputs[2 * kContexts + 1] = static_cast<int16_t>(sign * (static_cast<int>(match_cell.one >> 10) - 2048));
    inputs[2 * kContexts + 2] = 256;
    for (size_t i = 2 * kContexts + 3; i < kInputs; ++i) inputs[i] = 0;
    uint32_t set = following ? (match_length_ < 16 ? 1 : 2) : 0;
    int16_t* weights = &weights_[(set * 256 + node) * kInputs];
    int32_t sum = 0;   // 24 products below 2^26
    for (size_t i = 0; i < kInputs; ++i) sum += static_cast<int32_t>(weights[i]) * inputs[i];
    int x = std::clamp(sum >> kWeightBits, -kStretchLimit, kStretchLimit);
    int p = squash(x);
    int final_p = (p + refine(x, order1_ * 4 + static_cast<uint32_t>(shift) / 2)) >> 1;
    bit = coder_.code(bit, static_cast<uint32_t>(std::clamp(final_p * 16, 32, 65536 - 32)));
    int32_t error = ((bit ? 4095 : 0) - p) * kRate;
    for (size_t i = 0; i < kInputs; ++i) {
      int32_t weight = weights[i] + ((inputs[i] * error + (1 << (kRateBits - 1))) >> kRateBits);
      weights[i] = static_cast<int16_t>(std::clamp(weight, -32768, 32767));
    }
    for (size_t i = 0; i < kContexts; ++i) learn_cell(lines_[i][nibble], bit);
    if (following) {
      learn(match_cell, bit == expected, 250);
      if (bit != expected) match_length_ = 0;
    }
    learn_refine(bit);
    return bit;
  }

  // The mixer's answer is corrected by what came of such answers after the same byte.
  int refine(int x, uint32_t context) {
    int position = (x + 2048) * 32;
    int low = position >> 12;
    int weight = position & 4095;
    refine_at_ = context * 33 + static_cast<uint32_t>(low + (weight >> 11));
    size_t at = context * 33 + static_cast<uint32_t>(low);
    return (refine_[at] * (4096 - weight) + refine_[at + 1] * weight) >> 16;
  }
  void learn_refine(bool bit) {
    int target = bit ? 65535 : 0;
    refine_[refine_at_] = static_cast<uint16_t>(refine_[refine_at_] + (target - refine_[refine_at_]) / 64);
  }

  void update_match(const std::string& text) {
    size_t size = text.size();
    if (match_length_ > 0 && text[match_at_] == text[size - 1]) {
      ++match_length_;
      ++match_at_;
    } else {
      match_length_ = 0;
    }
    if (size < kMinMatch) return;
    uint64_t hash = hash_bytes(text.data() + size - kMinMatch, kMinMatch);
    uint32_t& entry = match_table_[hash & (match_table_.size() - 1)];
    if (match_length_ == 0 && entry > 0) {
      match_at_ = entry;
      while (match_length_ < 32 && match_length_ < match_at_ && text[match_at_ - 1 - match_length_] == text[size - 1 - match_length_])
        ++match_length_;
      if (match_length_ < kMinMatch) match_length_ = 0;
    }
    entry = static_cast<uint32_t>(size);
  }

  static constexpr std::array<int, 16> kConfidence = {0, 2, 4, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 12, 13, 16};

  Coder& coder_;
  int bits_;
  std::array<std::vector<Cell>, kContexts> tables_;
  std::array<uint64_t, kContexts> hashes_{};
  std::array<Cell*, kContexts> lines_{};
  std::vector<uint32_t> match_table_;
  std::vector<int16_t> weights_;
  std::array<uint16_t, 1024 * 33 + 1> refine_{};
  size_t refine_at_ = 0;
  Bit match_bits_[32];
  size_t match_at_ = 0;
  uint32_t match_length_ = 0;
  uint32_t predicted_ = 0;
  uint32_t order1_ = 0;
  uint64_t word_ = 0, last_word_ = 0;
  size_t line_begin_ = 0, previous_line_begin_ = 0, above_begin_ = 0;
};

}  // namespace

std::string encode_text(std::string_view text) {
  Encoder coder;
  TextModel<Encoder> model(coder, text.size());
  std::string seen;
  seen.reserve(text.size());
  for (char c : text) {
    unsigned char byte = static_cast<unsigned char>(c);
    model.code_byte(byte, seen);
    seen.push_back(c);
    model.end_byte(byte, seen);
  }
  return coder.finish();
}

std::string decode_text(std::string_view code, size_t size) {
  Decoder coder(code.data(), code.size());
  TextModel<Decoder> model(coder, size);
  std::string text;
  text.reserve(size);
  while (text.size() < size) {
    unsigned char byte = model.code_byte(0, text);
    text.push_back(static_cast<char>(byte));
    model.end_byte(byte, text);
  }
  return text;
}

}  // namespace slipstick::logs
