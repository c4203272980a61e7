// Logs, kept whole at a fraction of the size: a compressor that finds the structure of lines by itself.
//
// Floor: the raw bytes are read once and written once; everything between works on one 64-bit value for each variable
// piece of a line, which is a fifth to a fortieth of the bytes. Design:
//   1. lexer.h      numbers, times, identifiers of a line become slots; the rest is its shape.
//   2. structure.h  shapes that differ in words merge: templates. Lines are now template ids and values.
//   3. plan.h       each column (slots with the same local text; on wide lines, where that pays, one slot) gets the guesses that foretell
//                   it best, by trial.
//   4. row_model.h  `default`: each guess is one adaptive binary decision; only surprises are written out.
//      max_model.h  `max`: all contexts are asked, and every decision is mixed from what they say (mixing.h).
//      fast_model.h `fast`: runs of right guesses and surprises as bytes of a column, under zstd.
//   5. text_coder.h templates and new strings, by context mixing when they are few, by zstd when they are many;
//      mixed_text.h the same for `max`, by more contexts and from a vocabulary. random_digits.h takes digests out first.
//   6. container.cpp  blocks of whole lines with checksums, a footer index; compressor.cpp, decompressor.cpp and archive.cpp write
//                   and read them, on any number of threads. Blocks are independent, unless that costs too much (continued.h).
//   7. grep.cpp     searches blocks that their headers (block_index.h) do not rule out, by an automaton (pattern.h, matcher.h).
// Exact by construction: a value is typed only if it renders to the bytes it came from, and each block is decoded and
// compared before it is written; one that would not come back, or would not pay, is stored under zstd.
// The format is written down in cpp/logs/FORMAT.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slipstick::logs {

// The general byte codec (zstd) under the columns, supplied by the host. Calls come from several threads at once.
class ByteCodec {
 public:
  virtual ~ByteCodec() = default;
  // `level`: zstd's, or kLiteralsOnly.
  virtual std::string compress(std::string_view data, int level) = 0;
  // Exactly `raw_size` bytes, or Error{corrupt_data}.
  virtual std::string decompress(std::string_view data, size_t raw_size) = 0;
  // As compress, but what it gives may refer to `prefix`, which may be empty; or nothing, as soon as it is more than `limit` bytes. What
  // comes of the first `uncounted` bytes of the data does not count, but for the encoder's own blocks, of which one ends `first` bytes from
  // the begin unless that makes it larger.
  virtual std::string compress_below(std::string_view data, std::string_view prefix, int level, size_t limit, size_t uncounted,
                                     size_t first) = 0;
  // What compress_below made behind the same prefix, which is not empty.
  virtual std::string decompress_behind(std::string_view data, std::string_view prefix, size_t raw_size) = 0;
};

constexpr int kLiteralsOnly = 0;   // a level of ByteCodec: bytes by their frequency, no repeats

enum class Level : uint8_t { fast, standard, max };
// "fast", "default" or "max"; Error{invalid_argument} for other names.
Level level_of(std::string_view name);
const std::vector<std::string>& level_names();

// Raw bytes a block holds at most.
constexpr size_t kBlockBytes = size_t{32} << 20;

struct BlockInfo {
  uint64_t offset = 0;          // of the block in the archive
  uint64_t archive_bytes = 0;   // with its header
  uint64_t raw_bytes = 0;
  uint64_t lines = 0;           // line feeds, plus one if the block ends inside a line
  bool open = false;            // the last line has no line feed: it goes on in the next block, if there is one
  uint64_t first_line = 0;      // line feeds in front of the block
  std::string method;           // "stored", "zstd", "fast", "default", "max", "continued", "trimmed"
  bool continued = false;       // decodes only behind the block before it
  std::string_view index;       // of an Archive: what the header says for searches (cpp/logs/block_index.h)
};

// What a continued block may refer to: this many bytes in front of it, of the block before it. The window of zstd -3.
constexpr size_t kPrefixBytes = size_t{2} << 20;

// How much memory the decoding of a block takes, for a limit on it: the block and what becomes of it, each with a copy on its way.
inline uint64_t decoding_memory(const BlockInfo& block) {
  return 2 * block.raw_bytes + 2 * block.archive_bytes + (block.continued ? 2 * kPrefixBytes : 0);
}

// For benchmarks: what the coder of a level does, by name, and how large a block becomes without some of it. Such a block cannot be read.
std::vector<std::string> technique_names(Level level);
size_t size_without(std::string_view raw, Level level, const std::vector<std::string>& techniques, ByteCodec& codec);

// Packs a stream. The archive does not depend on how the stream is cut into writes, nor on the number of threads.
class Compressor {
 public:
  // threads: 0 for default_threads(). The codec must outlive the compressor.
  Compressor(Level level, int threads, ByteCodec& codec);
  ~Compressor();
  // Archive bytes that became ready; holds back at most one block for each thread.
  std::string write(std::string_view data);
  // The rest, with the footer. The compressor is spent.
  std::string finish();
  uint64_t raw_bytes() const;
  uint64_t archive_bytes() const;
  uint64_t lines() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Unpacks a stream of one or more archives.
class Decompressor {
 public:
  // max_memory: refuse blocks whose decoding_memory is more than this; max_output: refuse more raw bytes than this.
  // 0: no limit. Both throw Error{limit_exceeded}.
  Decompressor(int threads, uint64_t max_memory, uint64_t max_output, ByteCodec& codec);
  ~Decompressor();
  void feed(std::string_view data);
  // The next raw bytes, up to one block for each thread; false when more input is needed (or the archive has ended).
  bool next(std::string& out);
  // Throws Error{corrupt_data} unless the input ended at the end of an archive.
  void finish();
  uint64_t raw_bytes() const;
  uint64_t archive_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class LineFilter;      // logs/line_filter.h
struct LineSelection;

struct TemplateInfo {
  std::string text;      // with <*> for each slot
  uint64_t count = 0;    // lines
  std::string example;   // the first line that has it
};

// What varies in the lines of one template, column by column.
struct TemplateColumns {
  struct Column {
    enum Kind : uint8_t { text, number, decimal, time };
    Kind kind = text;                // what all values are; text if they differ
    int digits = 0;                  // behind the point of a decimal or the second of a time
    std::vector<int64_t> numbers;    // of a number; of a decimal or a time in units of its last digit. Empty for text
    std::string bytes;               // all values as they are written, one behind the other
    std::vector<uint64_t> ends;      // of each in `bytes`
  };
  std::vector<uint64_t> lines;       // their numbers, from 0
  std::vector<Column> columns;       // from left to right
};

struct StreamInfo {
  std::string name;
  std::string kind;
  uint64_t raw_bytes = 0;       // bytes of the log that it stands for
  uint64_t archive_bytes = 0;
  uint64_t values = 0;
};

// What an archive holds and where its bytes went.
struct ArchiveContents {
  std::vector<TemplateInfo> templates;   // by falling count, over all blocks
  std::vector<StreamInfo> streams;       // by falling size: columns by name, templates, text, containers
};

// A whole archive in memory (or mapped), read block by block. `data` must outlive it.
class Archive {
 public:
  Archive(std::string_view data, ByteCodec& codec);
  // Whatever the data are: all blocks in them that decode, in their order, by a look at every byte. Lines count as if there was nothing else.
  // In time linear in the data, also if they were made to be slow: what 64 damaged blocks claim as theirs is searched for no further ones.
  static Archive recovered(std::string_view data, ByteCodec& codec, int threads);
  size_t block_count() const { return blocks_.size(); }
  // Of recovered(): blocks that are whole but continue one that is not there.
  size_t orphans() const { return orphans_; }
  const BlockInfo& block(size_t index) const { return blocks_.at(index); }
  // A continued block needs those before it, up to an independent one. Those that were decoded last are remembered: in order it is as fast.
  std::string decompress_block(size_t index) const;
  // The lines of a block that `filter` cannot rule out. False if all of them have to be decoded for that; then `out` is as it was. The
  // payload's checksum is compared, that of the raw bytes cannot be.
  bool select_lines(size_t index, const LineFilter& filter, LineSelection& out) const;
  // Decodes every block.
  ArchiveContents contents() const;
  // The values of the lines whose template is shown as `text` by contents(). Decodes every block.
  TemplateColumns columns(const std::string& text) const;
  uint64_t raw_bytes() const { return raw_bytes_; }
  uint64_t lines() const { return lines_; }
  uint64_t archive_bytes() const { return data_.size(); }
  int version() const;
  Level level() const { return level_; }

 private:
  Archive(std::string_view data, ByteCodec& codec, Level level);
  void add_block(BlockInfo block);
  bool is_continued(size_t index) const { return index < blocks_.size() && blocks_[index].continued; }

  std::string_view data_;
  ByteCodec& codec_;
  std::vector<BlockInfo> blocks_;
  uint64_t raw_bytes_ = 0, lines_ = 0;
  size_t orphans_ = 0;
  Level level_ = Level::standard;
  class Prefixes;
  std::shared_ptr<Prefixes> prefixes_;   // what was decoded last in front of continued blocks
};

// Blocks that exist put together to one archive: their bytes, each block's at offset and archive_bytes of its archive, between these two.
std::string archive_header(Level level);
std::string archive_footer(const std::vector<BlockInfo>& blocks);

// How a pattern is written: a basic or extended regular expression of POSIX with GNU's additions, or plain strings.
enum class PatternSyntax : uint8_t { basic, extended, fixed };

struct GrepQuery {
  std::string pattern;            // each of its lines is an alternative
  PatternSyntax syntax = PatternSyntax::basic;
  bool ignore_case = false;       // of ASCII letters
  bool invert = false;            // lines that do not match
  bool only_matching = false;     // the matches, not the lines they are in
  bool count_only = false;        // no texts, only GrepBatch::selected
  uint64_t before = 0, after = 0; // lines of context
  uint64_t max_memory = 0;        // refuse blocks whose decoding_memory is more, together; 0: no limit
  // Only lines whose time is since <= time < until, as they are written; a line without a time has that of the line before it. Empty: no
  // limit. Written like the times of logs, also as a date alone.
  std::string since, until;
};

struct GrepLine {
  uint64_t number = 0;            // from 0
  size_t begin = 0, end = 0;      // in GrepBatch::text; a line with its line feed, if it has one, or a match without
  bool selected = true;  // false: context; with only_matching its text is empty, unless `invert` makes lines that match the context
};

struct GrepBatch {
  std::string text;
  std::vector<GrepLine> lines;  // in order; matches of a line follow each other
  uint64_t selected = 0;  // lines
};

// The lines of an archive that a pattern selects, as `LC_ALL=C grep -a` finds them in the raw bytes. Blocks that cannot have such a
// line, by what their headers say, are not decoded; the others are decoded one a thread.
class Grep {
 public:
  // threads: 0 for default_threads(); does not change the result. The archive must outlive it. Throws what compile_pattern throws.
  Grep(const Archive& archive, const GrepQuery& query, int threads);
  ~Grep();
  // The lines of the next blocks, perhaps none; false at the end.
  bool next(GrepBatch& batch);
  uint64_t blocks_decoded() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Batches as grep(1) prints them.
class GrepPrinter {
 public:
  struct Format {
    bool names = false, numbers = false;
    bool groups = false;  // "--" between lines that do not follow each other
  };
  explicit GrepPrinter(Format format) : format_(format) {}
  void begin_file(std::string name);
  std::string print(const GrepBatch& batch);

 private:
  Format format_;
  std::string name_;
  bool used_ = false, first_ = true;
  uint64_t last_ = 0;  // number of the last line printed
};

}  // namespace slipstick::logs
