// Bytes by column: what the `fast` level writes. Each column has two byte streams of varints: how many guesses in a row
// were right, and what came instead of the wrong ones. Streams of a kind stand together, so that zstd finds repeats.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "logs/bytes.h"
#include "logs/limits.h"

namespace slipstick::logs {

// Layout: varint sizes (header, count of columns, then misses and runs of each), header, all misses, all runs.
class StreamWriter {
 public:
  static constexpr bool kDecodes = false;

  // The plain numbers of a block: sizes and plans.
  uint64_t plain(uint64_t value) {
    put_varint(header_, value);
    return value;
  }
  void add_column() { columns_.emplace_back(); }

  // One guess: right or wrong. A wrong one is followed by miss().
  bool guess(uint32_t column, bool right) {
    Column& here = columns_[column];
    if (right) {
      ++here.run;
    } else {
      put_varint(here.runs, here.run);
      here.run = 0;
    }
    return right;
  }
  uint64_t miss(uint32_t column, uint64_t value) {
    put_varint(columns_[column].misses, value);
    return value;
  }

  std::string finish() {
    std::string out;
    put_varint(out, header_.size());
    put_varint(out, columns_.size());
    for (const Column& column : columns_) {
      put_varint(out, column.misses.size());
      put_varint(out, column.runs.size());
    }
    out += header_;
    for (const Column& column : columns_) out += column.misses;
    for (const Column& column : columns_) out += column.runs;
    return out;
  }

 private:
  struct Column {
    std::string misses, runs;
    uint64_t run = 0;
  };
  std::string header_;
  std::vector<Column> columns_;
};

class StreamReader {
 public:
  static constexpr bool kDecodes = true;

  StreamReader(const char* data, size_t size) : data_(data, size), header_(data_) {
    ByteReader in(data_);
    uint64_t header_size = in.varint(), count = in.varint();
    if (count > kMaxColumns + 1) in.fail("has too many columns");   // the first stream is of template ids
    sizes_.resize(count);
    for (auto& [misses, runs] : sizes_) {
      misses = in.varint();
      runs = in.varint();
    }
    header_ = ByteReader(in.take(header_size));
    for (auto& [misses, runs] : sizes_) columns_.push_back({ByteReader(in.take(misses)), ByteReader(std::string_view()), 0});
    for (size_t i = 0; i < count; ++i) {
      columns_[i].runs = ByteReader(in.take(sizes_[i].second));
      columns_[i].next_run();
    }
    if (!in.done()) in.fail("goes on after the last column");
  }

  uint64_t plain(uint64_t) { return header_.varint(); }
  void add_column() {
    if (++used_ > columns_.size()) throw Error(ErrorKind::corrupt_data, "block: a column is missing");
  }
  bool guess(uint32_t column, bool) {
    Column& here = columns_[column];
    if (here.run > 0) {
      --here.run;
      return true;
    }
    here.next_run();
    return false;
  }
  uint64_t miss(uint32_t column, uint64_t) { return columns_[column].misses.varint(); }

 private:
  struct Column {
    ByteReader misses, runs;
    uint64_t run;
    // After the last run every guess is right.
    void next_run() { run = runs.done() ? UINT64_MAX : runs.varint(); }
  };
  std::string_view data_;
  ByteReader header_;
  std::vector<std::pair<uint64_t, uint64_t>> sizes_;
  std::vector<Column> columns_;
  size_t used_ = 0;
};

}  // namespace slipstick::logs
