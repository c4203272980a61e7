// Digits that nothing foretells: see random_digits.h.

#include "logs/random_digits.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "logs/hash.h"

namespace slipstick::logs {
namespace {

// The alphabets, in the order of their numbers.
struct Alphabet {
  std::string_view digits;
  int bits;   // of a digit
};
constexpr Alphabet kAlphabets[] = {
    {"0123456789abcdef", 4},
    {"0123456789ABCDEF", 4},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 6},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", 6},
};
constexpr int kAlphabetCount = 4;
constexpr int kAnyAlphabet = 15;   // bits of ByteTable::is

// Limits of the format.
constexpr size_t kMaxLayouts = 64;
constexpr size_t kMaxGroups = 16;
constexpr size_t kMaxGroupDigits = size_t{1} << 28;

// What the writer takes. Shorter and poorer runs are words and counters as often as digests.
constexpr size_t kLeastAnchor = 8;      // hexadecimal digits in a row
constexpr size_t kLeastGroup = 2;       // of other groups beside them
constexpr size_t kLeastDigits = 16;     // of all groups
constexpr int kLeastOf16 = 7;           // different ones; 16 random digits have fewer once in 1000 times
constexpr size_t kLeastBase64 = 40;
constexpr int kLeastOf64 = 24;          // different ones in the first 40, which have fewer once in 700 times if they are random
constexpr size_t kLeastOfLayout = 128;  // bytes of all its runs
constexpr size_t kLeastShare = 16;      // a sixteenth of the text
constexpr std::string_view kSeparators = "-/:";

// For each byte: bit i if it is a digit of alphabet i, and what else it is; and its values as a digit of hexadecimal and of base64.
constexpr uint8_t kAlphanumeric = 1 << 4, kSeparator = 1 << 5;
struct ByteTable {
  uint8_t is[256] = {};
  uint8_t value[2][256] = {};
  constexpr ByteTable() {
    for (size_t i = 0; i < kAlphabetCount; ++i) {
      for (size_t digit = 0; digit < kAlphabets[i].digits.size(); ++digit) {
        const unsigned char c = static_cast<unsigned char>(kAlphabets[i].digits[digit]);
        is[c] = static_cast<uint8_t>(is[c] | 1 << i);
        value[i / 2][c] = static_cast<uint8_t>(digit);
        if (digit < 62) is[c] |= kAlphanumeric;
      }
    }
    for (char c : kSeparators) is[static_cast<unsigned char>(c)] |= kSeparator;
  }
};
constexpr ByteTable kBytes;

// Numbers of some bits each, lowest first.
class BitWriter {
 public:
  void put(uint32_t value, int bits) {
    held_ |= static_cast<uint64_t>(value) << count_;
    for (count_ += bits; count_ >= 8; count_ -= 8, held_ >>= 8) out_.push_back(static_cast<char>(held_));
  }
  std::string finish() {
    if (count_ > 0) out_.push_back(static_cast<char>(held_));
    return std::move(out_);
  }

 private:
  std::string out_;
  uint64_t held_ = 0;
  int count_ = 0;
};

class BitReader {
 public:
  explicit BitReader(std::string_view data) : data_(data) {}
  // The caller knows that they are there.
  uint32_t take(int bits) {
    if (count_ < bits) {
      held_ |= static_cast<uint32_t>(static_cast<unsigned char>(data_[at_++])) << count_;
      count_ += 8;
    }
    const uint32_t value = held_ & ((1u << bits) - 1);
    held_ >>= bits;
    count_ -= bits;
    return value;
  }
  uint32_t left() const { return held_; }

 private:
  std::string_view data_;
  size_t at_ = 0;
  uint32_t held_ = 0;
  int count_ = 0;
};

struct Run {
  size_t at, size;
  uint32_t layout;
};

// Numbers of layouts by their keys: the number of the alphabet, then a run's bytes with a 0 for each digit.
class Keys {
 public:
  uint32_t number(std::string_view key) {
    const auto known = numbers_.find(key);
    if (known != numbers_.end()) return known->second;
    const uint32_t next = static_cast<uint32_t>(keys_.size());
    keys_.push_back(numbers_.emplace(key, next).first->first);
    return next;
  }
  std::string_view operator[](size_t number) const { return keys_[number]; }
  size_t size() const { return keys_.size(); }
  int alphabet(size_t number) const { return keys_[number][0]; }

 private:
  std::map<std::string, uint32_t, std::less<>> numbers_;
  std::vector<std::string_view> keys_;
};

// Finds runs and their layouts.
class Finder {
 public:
  explicit Finder(std::string_view text) : text_(text) {
    // Every run has kLeastAnchor digits in a row, of which one is met.
    for (size_t at = 0; at < text_.size();) {
      const uint8_t is = is_at(at);
      next_ = at + 1;
      if ((is & kAnyAlphabet) != 0 && !hex_run(at, 0) && !hex_run(at, 1)) base64_run(at, 2) || base64_run(at, 3);
      at += (next_ - at + kLeastAnchor - 1) / kLeastAnchor * kLeastAnchor;
    }
  }

  std::vector<Run> runs;
  Keys keys;

 private:
  uint8_t is_at(size_t at) const { return kBytes.is[static_cast<unsigned char>(text_[at])]; }
  bool is_separator(size_t at) const { return (is_at(at) & kSeparator) != 0; }
  bool alphanumeric_before(size_t at) const { return at > 0 && (is_at(at - 1) & kAlphanumeric) != 0; }
  bool alphanumeric_at(size_t at) const { return at < text_.size() && (is_at(at) & kAlphanumeric) != 0; }
  size_t begin_of(size_t at, int mask) const {
    while (at > behind_ && (is_at(at - 1) & mask) != 0) --at;
    return at;
  }
  size_t end_of(size_t at, int mask) const {
    while (at < text_.size() && (is_at(at) & mask) != 0) ++at;
    return at;
  }

  // Notes the run that the byte is part of, if it is one to take. What was looked at for that is not looked at again.
  bool hex_run(size_t at, int alphabet) {
    const int mask = 1 << alphabet;
    if ((is_at(at) & mask) == 0) return false;
    size_t begin = begin_of(at, mask), end = end_of(at, mask), digits = end - begin, groups = 1;
    next_ = std::max(next_, end);
    if (digits < kLeastAnchor) return false;
    if (!alphanumeric_before(begin) && !alphanumeric_at(end)) {
      for (; groups < kMaxGroups && begin > behind_ && is_separator(begin - 1); ++groups) {
        const size_t first = begin_of(begin - 1, mask), size = begin - 1 - first;
        if (size < kLeastGroup || alphanumeric_before(first)) break;
        begin = first;
        digits += size;
      }
      for (; groups < kMaxGroups && end < text_.size() && is_separator(end); ++groups) {
        const size_t last = end_of(end + 1, mask), size = last - end - 1;
        if (size < kLeastGroup || alphanumeric_at(last)) break;
        end = last;
        digits += size;
      }
    }
    if (digits < kLeastDigits || !is_random_hex(begin, end)) return false;
    note(begin, end, alphabet);
    return true;
  }

  bool base64_run(size_t at, int alphabet) {
    const int mask = 1 << alphabet;
    size_t& looked_at = looked_at_[alphabet - 2];   // there may be a hexadecimal run in it
    if ((is_at(at) & mask) == 0 || at < looked_at) return false;
    const size_t begin = begin_of(at, mask), end = end_of(at, mask);
    looked_at = end;
    // What ends before a digit of the other base64, or before its padding, is not of this one.
    if (end < text_.size() && ((is_at(end) & kAnyAlphabet) != 0 || (alphabet == 3 && text_[end] == '='))) return false;
    if (end - begin < kLeastBase64 || !is_random_base64(begin)) return false;
    note(begin, end, alphabet);
    return true;
  }

  // Enough different digits, and a letter among them: numbers in decimal have less to tell.
  bool is_random_hex(size_t begin, size_t end) const {
    uint32_t seen = 0;
    for (; begin < end; ++begin)
      if (!is_separator(begin)) seen |= 1u << kBytes.value[0][static_cast<unsigned char>(text_[begin])];
    return seen >> 10 != 0 && __builtin_popcount(seen) >= kLeastOf16;
  }

  // Unlike words and paths.
  bool is_random_base64(size_t begin) const {
    uint64_t seen[4] = {};
    int kinds = 0;
    for (size_t i = begin; i < begin + kLeastBase64; ++i) {
      const unsigned char c = static_cast<unsigned char>(text_[i]);
      seen[c >> 6] |= uint64_t{1} << (c & 63);
      kinds |= c <= '9' ? 1 : c <= 'Z' ? 2 : 4;
    }
    return kinds == 7 && __builtin_popcountll(seen[0]) + __builtin_popcountll(seen[1]) >= kLeastOf64;
  }

  void note(size_t begin, size_t end, int alphabet) {
    key_.assign(1, static_cast<char>(alphabet));
    for (size_t at = begin; at < end; ++at) key_.push_back((is_at(at) & 1 << alphabet) != 0 ? '0' : text_[at]);
    runs.push_back({begin, end - begin, keys.number(key_)});
    behind_ = end;
    next_ = std::max(next_, end);
  }

  std::string_view text_;
  size_t behind_ = 0;   // the end of the last run
  size_t next_ = 0;     // behind what was looked at
  size_t looked_at_[2] = {};   // the same for each base64
  std::string key_;
};

// Whether the first or last few digits of these runs are much alike, as the parts of a date are.
bool is_alike(std::string_view text, const std::vector<Run*>& runs, size_t from, size_t size) {
  std::set<std::string_view> values;
  for (const Run* run : runs) {
    values.insert(text.substr(run->at + from, size));
    if (4 * values.size() >= std::min<size_t>(runs.size(), 256)) return false;
  }
  return true;
}

// Outer groups that are much alike in the runs of a layout go back to the text, where they cost less.
void trim(std::string_view text, std::vector<Run>& runs, Keys& keys) {
  std::vector<std::vector<Run*>> of_layout(keys.size());
  for (Run& run : runs) of_layout[run.layout].push_back(&run);
  for (size_t layout = 0; layout < of_layout.size(); ++layout) {   // what is left may be a new layout, whose turn comes
    const std::string_view key = keys[layout];
    const size_t first = key.find_first_of(kSeparators), last = key.find_last_of(kSeparators), size = key.size() - 1;
    if (first == std::string_view::npos) continue;
    const size_t front = first - 1, back = key.size() - 1 - last;   // digits
    size_t begin = 0, end = size;
    if (front < kLeastAnchor && is_alike(text, of_layout[layout], 0, front)) {
      begin = front + 1;
    } else if (back < kLeastAnchor && is_alike(text, of_layout[layout], size - back, back)) {
      end -= back + 1;
    } else {
      continue;
    }
    const uint32_t left = keys.number(std::string(key.substr(0, 1)) + std::string(key.substr(1 + begin, end - begin)));
    of_layout.resize(keys.size());
    for (Run* run : of_layout[layout]) {
      *run = {run->at + begin, end - begin, left};
      of_layout[left].push_back(run);
    }
    of_layout[layout].clear();
  }
}

// Leaves the runs that stand in the text once.
void drop_repeats(std::string_view text, std::vector<Run>& runs) {
  const auto hash = [&](const Run& run) { return hash_bytes(text.data() + run.at, run.size); };
  std::vector<uint64_t> hashes;
  hashes.reserve(runs.size());
  for (const Run& run : runs) hashes.push_back(hash(run));
  std::sort(hashes.begin(), hashes.end());
  const auto repeats = [&](const Run& run) {
    const auto first = std::lower_bound(hashes.begin(), hashes.end(), hash(run));
    return first + 1 != hashes.end() && first[1] == *first;
  };
  runs.erase(std::remove_if(runs.begin(), runs.end(), repeats), runs.end());
}

// The bytes that stand for runs of each layout, -1 for layouts that get none, by how much a layout takes out.
std::vector<int> choose_marks(std::string_view text, const std::vector<Run>& runs, size_t layouts) {
  std::vector<size_t> bytes(layouts), order(layouts);
  for (const Run& run : runs) bytes[run.layout] += run.size;
  for (size_t i = 0; i < layouts; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });
  std::array<bool, 256> used{};
  for (char c : text) used[static_cast<unsigned char>(c)] = true;
  std::vector<int> marks(layouts, -1);
  int mark = 255;
  for (size_t i = 0; i < std::min(layouts, kMaxLayouts) && bytes[order[i]] >= kLeastOfLayout; ++i, --mark) {
    while (mark >= 0 && used[static_cast<size_t>(mark)]) --mark;
    if (mark < 0) break;
    marks[order[i]] = mark;
  }
  return marks;
}

// A layout as the archive tells it.
void put_layout(std::string& out, int mark, std::string_view key) {
  out.push_back(static_cast<char>(mark));
  out.push_back(key[0]);
  const std::string_view shape = key.substr(1);
  put_varint(out, 1 + static_cast<size_t>(std::count_if(shape.begin(), shape.end(), [](char c) { return c != '0'; })));
  for (size_t at = 0;;) {
    const size_t end = std::min(shape.find_first_not_of('0', at), shape.size());
    put_varint(out, end - at);
    if (end == shape.size()) return;
    out.push_back(shape[end]);
    at = end + 1;
  }
}

// Values of a layout's digits, one after another.
void put_digits(BitWriter& bits, std::string_view run, int alphabet) {
  const int wide = kAlphabets[alphabet].bits;
  for (char c : run)
    if ((kBytes.is[static_cast<unsigned char>(c)] & 1 << alphabet) != 0)
      bits.put(kBytes.value[alphabet / 2][static_cast<unsigned char>(c)], wide);
}

}  // namespace

bool take_digits(std::string_view text, DigitParts& parts) {
  Finder found(text);
  trim(text, found.runs, found.keys);
  drop_repeats(text, found.runs);
  const std::vector<int> marks = choose_marks(text, found.runs, found.keys.size());
  for (const Run& run : found.runs)
    if (marks[run.layout] >= 0) parts.taken += run.size;
  if (parts.taken < text.size() / kLeastShare || parts.taken == 0) return false;
  put_varint(parts.layouts, static_cast<size_t>(std::count_if(marks.begin(), marks.end(), [](int mark) { return mark >= 0; })));
  for (size_t i = 0; i < marks.size(); ++i)
    if (marks[i] >= 0) put_layout(parts.layouts, marks[i], found.keys[i]);
  BitWriter bits;
  size_t at = 0;
  for (const Run& run : found.runs) {
    if (marks[run.layout] < 0) continue;
    parts.rest += text.substr(at, run.at - at);
    parts.rest.push_back(static_cast<char>(marks[run.layout]));
    const int alphabet = found.keys.alphabet(run.layout);
    put_digits(bits, text.substr(run.at, run.size), alphabet);
    parts.hexadecimal &= kAlphabets[alphabet].bits == 4;
    at = run.at + run.size;
  }
  parts.rest += text.substr(at);
  parts.digits = bits.finish();
  return true;
}

DigitLayouts::DigitLayouts(ByteReader& in) : layouts_(256) {
  const uint64_t count = in.varint();
  if (count == 0 || count > kMaxLayouts) in.fail("has an illegal number of layouts of digits");
  for (uint64_t i = 0; i < count; ++i) {
    Layout& layout = layouts_[in.byte()];
    if (layout.bytes != 0) in.fail("has a mark of two layouts of digits");
    layout.alphabet = in.byte();
    if (layout.alphabet >= kAlphabetCount) in.fail("has digits of an unknown alphabet");
    const uint64_t groups = in.varint();
    if (groups == 0 || groups > kMaxGroups) in.fail("has a layout of an illegal number of groups of digits");
    for (uint64_t group = 0; group < groups; ++group) {
      const uint64_t digits = in.varint();
      if (digits == 0 || digits > kMaxGroupDigits) in.fail("has a group of an illegal number of digits");
      layout.digits += digits;
      layout.groups.push_back({digits, group + 1 < groups ? static_cast<char>(in.byte()) : '\0'});
    }
    layout.bytes = layout.digits + groups - 1;
  }
}

std::string DigitLayouts::put_back(std::string_view rest, std::string_view digits, size_t size) const {
  std::array<uint64_t, 256> count{};
  for (char c : rest) ++count[static_cast<unsigned char>(c)];
  // At most 2^28 of a byte, each for less than 2^33 bytes of text: no sum of these leaves 64 bits.
  uint64_t bytes = 0, bits = 0;
  for (size_t mark = 0; mark < 256; ++mark) {
    const Layout& layout = layouts_[mark];
    bytes += count[mark] * std::max<uint64_t>(layout.bytes, 1);
    if (layout.bytes != 0) bits += count[mark] * layout.digits * static_cast<uint64_t>(kAlphabets[layout.alphabet].bits);
  }
  if (bytes != size || (bits + 7) / 8 != digits.size())
    throw Error(ErrorKind::corrupt_data, "block: a text with digits taken out has another size than stated");
  std::string text;
  text.reserve(size);
  BitReader in(digits);
  for (char c : rest) {
    const Layout& layout = layouts_[static_cast<unsigned char>(c)];
    if (layout.bytes == 0) {
      text.push_back(c);
      continue;
    }
    const Alphabet& alphabet = kAlphabets[layout.alphabet];
    for (size_t i = 0; i < layout.groups.size(); ++i) {
      for (size_t left = layout.groups[i].digits; left > 0; --left) text.push_back(alphabet.digits[in.take(alphabet.bits)]);
      if (i + 1 < layout.groups.size()) text.push_back(layout.groups[i].behind);
    }
  }
  if (in.left() != 0) throw Error(ErrorKind::corrupt_data, "block: bits behind the last digit that was taken out are not 0");
  return text;
}

}  // namespace slipstick::logs
