// The search: the input is a byte of options, a pattern up to the first line feed, then an archive. Checksums are made anew
// where a damaged payload still decodes, so that the search sees what no writer wrote. Without times and context, what it finds in such an
// archive must be what a look at every decoded line finds.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "logs/matcher.h"
#include "logs/pattern.h"
#include "logs_test.h"
#include "target.h"

using namespace logs_test;

namespace {

constexpr uint64_t kMaxRaw = uint64_t{1} << 16;

GrepQuery query_of(uint8_t options, std::string_view pattern) {
  GrepQuery query;
  query.pattern = std::string(pattern);
  query.syntax =
      static_cast<PatternSyntax>(options & 3) > PatternSyntax::fixed ? PatternSyntax::fixed : static_cast<PatternSyntax>(options & 3);
  query.ignore_case = (options & 4) != 0;
  query.invert = (options & 8) != 0;
  query.only_matching = (options & 16) != 0;
  query.before = (options & 32) != 0 ? 2 : 0;
  query.after = (options & 64) != 0 ? 1 : 0;
  if ((options & 128) != 0) query.since = "Jun 3 10:00";
  query.max_memory = 4 * kMaxRaw;
  return query;
}

// The number and text of each line or match.
using Found = std::vector<std::pair<uint64_t, std::string>>;

Found search(const Archive& archive, const GrepQuery& query) {
  Grep grep(archive, query, 1);
  GrepPrinter printer({true, true, true});
  GrepBatch batch;
  Found found;
  while (grep.next(batch)) {
    printer.print(batch);
    for (const GrepLine& line : batch.lines) found.emplace_back(line.number, batch.text.substr(line.begin, line.end - line.begin));
  }
  return found;
}

// The same from the raw bytes, a line at a time.
Found expected(std::string_view raw, const GrepQuery& query) {
  const Pattern pattern = compile_pattern(query.pattern, query.syntax, query.ignore_case);
  Matcher matcher(pattern);
  Found found;
  uint64_t number = 0;
  for (size_t at = 0; at < raw.size(); ++number) {
    const size_t feed = std::min(raw.find('\n', at), raw.size()), end = std::min(feed + 1, raw.size());
    const std::string_view line = raw.substr(at, feed - at), whole = raw.substr(at, end - at);
    at = end;
    Span span;
    if (matcher.next_line(whole, 0, span) == query.invert) continue;
    if (!query.only_matching) {
      found.emplace_back(number, whole);
    } else if (!query.invert) {
      for (size_t from = 0; matcher.next_match(line, from, span); from = span.end)
        found.emplace_back(number, line.substr(span.begin, span.end - span.begin));
    }
  }
  return found;
}

// Searches an archive whose checksums hold and aborts where the search finds something else than there is.
void check_search(std::string_view data, const GrepQuery& query) {
  RunCodec codec;
  const Archive archive(data, codec);
  const Found found = search(archive, query);
  if (!query.since.empty() || query.before > 0 || query.after > 0) return;
  std::string raw;
  for (size_t i = 0; i < archive.block_count(); ++i) {
    if (archive.block(i).raw_bytes == 0) return;   // no writer's: it parts a line that the block in front of it leaves open
    raw += archive.decompress_block(i);
  }
  if (found != expected(raw, query)) std::abort();
}

// The archive with the checksums that its payloads have, as far as they decode, and without records, which are of other bytes.
std::string resealed(std::string_view data) {
  Parts parts = Parts::read(data);
  RunCodec codec;
  std::string before;
  for (Parts::Block& block : parts.blocks) {
    block.payload_bytes = block.payload.size();
    block.index.clear();
    if (block.method >= kMethods || block.raw_bytes > kMaxRaw) continue;
    try {
      const std::string raw = unpack_block(static_cast<Method>(block.method), block.payload, block.lines >> 1, block.raw_bytes, codec,
                                           nullptr, prefix_of(before));
      block.checksum = hash64(raw.data(), raw.size());
      block.lines = count_lines(raw) << 1 | static_cast<uint64_t>(!raw.empty() && raw.back() != '\n');
      before = raw;
    } catch (const Error&) {
    }
  }
  return parts.written();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const std::string_view data(reinterpret_cast<const char*>(bytes + 1), size - 1);
  const size_t feed = data.find('\n');
  if (feed == std::string_view::npos) return 0;
  try {
    const GrepQuery query = query_of(bytes[0], data.substr(0, feed));
    const std::string_view archive = data.substr(feed + 1);
    try {
      RunCodec codec;
      search(Archive(archive, codec), query);
    } catch (const Error&) {
    }
    check_search(resealed(archive), query);
  } catch (const Error&) {
  }
  return 0;
}
