// Where the lines of a block go that is decoded: all into a string (Store), some into a string (Gather), or nowhere (Compare).
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "base/large_pages.h"
#include "logs/bytes.h"
#include "logs/lexer.h"
#include "slipstick/error.h"

namespace slipstick::logs {

[[noreturn]] inline void corrupt_block(const char* what) { throw Error(ErrorKind::corrupt_data, std::string("block: ") + what); }

// Into a string of the block's size.
class Store {
 public:
  explicit Store(size_t raw_size) {
    const size_t size = raw_size + 1 + kSlack;   // the last line may lack its line feed
    out_.reserve(size);
    prefer_large_pages(out_.data(), size);   // first touches of small ones take a tenth of the time
    out_.resize(size);
    begin_ = at_ = out_.data();
    end_ = at_ + raw_size + 1;
  }
  const char* at() const { return at_; }
  // `text` has kSlack bytes behind it: most texts are short, 16 bytes are copied blindly.
  void put_padded(const char* text, size_t size) {
    check(size);
    if (size <= 16) {
      std::memcpy(at_, text, 16);
    } else {
      std::memcpy(at_, text, size);
    }
    at_ += size;
  }
  void put(std::string_view text) {
    check(text.size());
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }
  void put_number(int kind, Value value) {
    at_ = render_number(kind, value, at_);
    check(0);
  }
  void end_line() {
    check(1);
    *at_++ = '\n';
  }
  std::string finish() {
    if (at_ == end_) --at_;
    if (at_ != end_ - 1) corrupt_block("the lines are shorter than the block");
    out_.resize(static_cast<size_t>(at_ - begin_));
    return std::move(out_);
  }
  static constexpr size_t kSlack = std::max<size_t>(kMaxRendered, 16);

 private:
  void check(size_t size) const {
    if (at_ > end_ || size > static_cast<size_t>(end_ - at_)) corrupt_block("the lines are longer than the block");
  }
  std::string out_;
  char* begin_;
  char* at_;
  char* end_;   // one byte past what the block may hold
};

// Nowhere: they are compared with the block that was packed.
class Compare {
 public:
  explicit Compare(std::string_view raw) : at_(raw.data()), end_(at_ + raw.size()) {}
  const char* at() const { return at_; }
  void put_padded(const char* text, size_t size) { put({text, size}); }
  void put(std::string_view text) {
    if (text.size() > static_cast<size_t>(end_ - at_) || !same_bytes(at_, text.data(), text.size()))
      corrupt_block("it does not come back as it was");
    at_ += text.size();
  }
  void put_number(int kind, Value value) {
    char rendered[kMaxRendered];
    put({rendered, static_cast<size_t>(render_number(kind, value, rendered) - rendered)});
  }
  void end_line() {
    if (at_ < end_ || open_) put("\n");
    if (at_ == end_) open_ = true;   // one line feed may be missing, at the very end
  }
  bool finish() const { return at_ == end_; }

 private:
  const char* at_;
  const char* end_;
  bool open_ = false;
};

// Of the lines that a search wants, into a string that grows.
class Gather {
 public:
  explicit Gather(size_t raw_size) : left_(raw_size + 1) {}
  const char* at() const { return out_.data() + size_; }
  void put_padded(const char* text, size_t size) {
    char* to = room(size);
    if (size <= 16) {
      std::memcpy(to, text, 16);
    } else {
      std::memcpy(to, text, size);
    }
    take(size);
  }
  void put(std::string_view text) {
    std::memcpy(room(text.size()), text.data(), text.size());
    take(text.size());
  }
  void put_number(int kind, Value value) {
    char* to = room(0);
    take(static_cast<size_t>(render_number(kind, value, to) - to));
  }
  void end_line() { put("\n"); }
  // Bytes that a line has at least and that are not written: a block has no more than it says.
  void pass(size_t size) {
    if (size > left_) corrupt_block("the lines are longer than the block");
    left_ -= size;
  }
  std::string finish() {
    out_.resize(size_);
    return std::move(out_);
  }

 private:
  char* room(size_t size) {
    if (out_.size() - size_ < size + Store::kSlack) out_.resize(out_.size() * 2 + size + kFirst);
    return out_.data() + size_;
  }
  void take(size_t size) {
    pass(size);
    size_ += size;
  }
  static constexpr size_t kFirst = size_t{1} << 14;
  std::string out_;
  size_t size_ = 0, left_;
};

}  // namespace slipstick::logs
