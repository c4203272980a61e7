// Search in an archive: which blocks must be decoded, their lines that a pattern selects, and the lines around them.
//
// A segment is what can be searched alone: a block, with the next ones as long as they end inside a line. Those that have to be
// decoded are searched in parallel, one a thread at a time, whatever number is passed over between them; context is then added in order,
// for which a neighbour that was passed over may have to be decoded after all.

#include <algorithm>
#include <cstring>
#include <exception>

#include "logs/block_index.h"
#include "logs/continued.h"
#include "logs/line_filter.h"
#include "logs/line_time.h"
#include "logs/matcher.h"
#include "slipstick/error.h"
#include "slipstick/logs.h"
#include "slipstick/threads.h"

namespace slipstick::logs {
namespace {

struct Segment {
  size_t first = 0, last = 0;   // blocks
  uint64_t first_line = 0, lines = 0;
};

std::vector<Segment> segments_of(const Archive& archive) {
  std::vector<Segment> segments;
  for (size_t i = 0; i < archive.block_count(); ++i) {
    const BlockInfo& block = archive.block(i);
    if (i == 0 || !archive.block(i - 1).open) segments.push_back({i, i, block.first_line, 0});
    Segment& segment = segments.back();
    segment.last = i;
    segment.lines = block.first_line + block.lines - segment.first_line;
  }
  return segments;
}

size_t line_end(std::string_view text, size_t from) {
  const void* feed = std::memchr(text.data() + from, '\n', text.size() - from);
  return feed ? static_cast<size_t>(static_cast<const char*>(feed) - text.data()) + 1 : text.size();
}

// Where the line begins that is `count` lines in front of `at`, the begin of a line or the end of the text.
size_t back_lines(std::string_view text, size_t at, uint64_t count) {
  for (; count > 0 && at > 0; --count) {
    const void* feed = memrchr(text.data(), '\n', at - 1);
    at = feed ? static_cast<size_t>(static_cast<const char*>(feed) - text.data()) + 1 : 0;
  }
  return at;
}

uint64_t feeds_in(std::string_view text, size_t from, size_t to) {
  return static_cast<uint64_t>(std::count(text.data() + from, text.data() + to, '\n'));
}

// The lines of a time, or all.
class TimeRange {
 public:
  TimeRange(const std::string& since, const std::string& until)
      : since_(since.empty() ? kNoTime : parse_time(since)), until_(until.empty() ? kNoTime : parse_time(until)) {}
  bool any() const { return since_ != kNoTime || until_ != kNoTime; }

  bool has(Microseconds time) const {
    if (time == kNoTime) return since_ == kNoTime;   // in front of the first time
    bool since = since_ == kNoTime || !less(time, since_), until = until_ == kNoTime || less(time, until_);
    return wraps(time) ? since || until : since && until;
  }
  // False if no line of a block can be in the range, but for those in front of its first time.
  bool may_have(const BlockIndex& index) const {
    bool year = has_year(index.least);
    if (index.last == kNoTime || year != has_year(index.greatest) || wraps(index.least)) return true;
    if (year && ((since_ != kNoTime && !has_year(since_)) || (until_ != kNoTime && !has_year(until_)))) return true;
    return !(since_ != kNoTime && less(index.greatest, since_)) && !(until_ != kNoTime && !less(index.least, until_));
  }

 private:
  // Where one of the two has no year, none counts.
  static bool less(Microseconds a, Microseconds b) { return has_year(a) == has_year(b) ? a < b : without_year(a) < without_year(b); }
  // Without years a range may go over the end of a year.
  bool wraps(Microseconds time) const {
    if (since_ == kNoTime || until_ == kNoTime || (has_year(time) && has_year(since_) && has_year(until_))) return false;
    return without_year(until_) < without_year(since_) && !(has_year(since_) && has_year(until_) && until_ < since_);
  }
  Microseconds since_, until_;
};

// Lines of a segment that are in a range of time, next to each other.
struct Stretch {
  size_t begin = 0, end = 0;
  bool leading = false;   // in front of the first time: whether they are in depends on what was before
};

// Selected lines are listed and given in portions, so that a block of very many short ones does not take a multiple of its size.
constexpr size_t kMaxHits = size_t{1} << 16;

// Segments that are looked at before the caller is asked whether it wants to go on.
constexpr size_t kMaxSegments = 1024;

// A selected line of a segment, with its line feed.
struct Hit {
  uint64_t number;   // in the segment
  Span span;
  bool leading;
};

struct Searched {
  bool decoded = false;
  std::exception_ptr error;   // why it could not be searched: thrown when the segments in front of it have been given
  std::string raw;   // empty if the segment was passed over, and when nothing more is wanted of it
  std::vector<uint32_t> numbers;   // of the lines in `raw`, if it has not all of them
  std::vector<Hit> hits;
  uint64_t selected = 0, leading_selected = 0;   // of these hits
  Microseconds last_time = kNoTime;
  // How far the search is: the stretch, the line, its number, and for an inverted search the next line that matches.
  std::vector<Stretch> stretches;
  size_t stretch = 0, from = 0;
  bool done = true;
  uint64_t number = 0;
  size_t numbered = 0;    // where line `number` begins
  size_t gap_end = std::string::npos, behind_gap = 0;
  // How far giving lines is.
  bool begun = false, leading = false;
  size_t given_end = 0;   // end of the last line given as selected
};

}  // namespace

struct Grep::State {
  const Archive& archive;
  GrepQuery query;
  int threads;
  Pattern pattern;
  LineFilter filter;
  Matcher matcher;             // of the thread that gives lines
  TimeRange range;
  std::vector<Segment> segments;
  std::vector<uint64_t> memory_in_front;   // of each block, the most that one takes which it continues; where there is a limit
  uint64_t decoded = 0;
  // The segments that were last searched, from `first` on; work[at] is next to be given.
  std::vector<Searched> work;
  size_t first = 0, at = 0;
  // Context across segments.
  uint64_t after_left = 0;     // lines still to be given after a selected one
  Microseconds last_time = kNoTime;
  uint64_t given_to = 0;       // lines in front of this one were given or can no longer be

  State(const Archive& from, const GrepQuery& asked, int count)
      : archive(from),
        query(asked),
        threads(count),
        pattern(compile_pattern(asked.pattern, asked.syntax, asked.ignore_case)),
        filter(pattern),
        matcher(pattern),
        range(asked.since, asked.until),
        segments(segments_of(from)) {
    for (size_t i = 0; query.max_memory != 0 && i < archive.block_count(); ++i)
      memory_in_front.push_back(archive.block(i).continued ? std::max(memory_in_front.back(), decoding_memory(archive.block(i - 1))) : 0);
  }

  bool wants_context() const { return !query.count_only && (query.before > 0 || query.after > 0); }

  // Whether a look at the header is enough: no line of the segment matches. A line over two blocks may have what neither has.
  bool cannot_match(const Segment& segment, const BlockIndex& index) const {
    if (segment.first != segment.last || pattern.required.empty()) return false;
    return std::none_of(pattern.required.begin(), pattern.required.end(), [&](const std::vector<std::string>& all) {
      return std::all_of(all.begin(), all.end(), [&](const std::string& text) { return may_have(index, text); });
    });
  }
  // The same of times. Lines in front of the first time have the time that the block before ends with.
  bool cannot_be_in_range(const Segment& segment, const BlockIndex& index) const {
    if (segment.first != segment.last || range.may_have(index)) return false;
    Microseconds before = kNoTime;
    if (segment.first > 0) {
      before = read_block_index(archive.block(segment.first - 1).index).last;
      if (before == kNoTime) return false;
    }
    return !range.has(before);
  }

  // Whether the segment need not be decoded; then `out` is as if it had been.
  bool passes_over(const Segment& segment, Searched& out) const {
    BlockIndex index = read_block_index(archive.block(segment.last).index);
    if (range.any()) {
      if (index.last == kNoTime) return false;   // its last time would not be known
      if (!cannot_be_in_range(segment, index) && (query.invert || !cannot_match(segment, index))) return false;
      out.last_time = index.last;
      return true;
    }
    if (!cannot_match(segment, index) || (query.invert && !query.count_only)) return false;
    if (query.invert) out.selected = segment.lines;
    return true;
  }

  // The stretches of lines in range, and the last time.
  std::vector<Stretch> in_range(std::string_view raw, Microseconds& last) const {
    std::vector<Stretch> stretches;
    bool leading = true, has = true;
    for (size_t at = 0; at < raw.size();) {
      size_t end = line_end(raw, at);
      Microseconds time = line_time(raw.substr(at, end - at));
      if (time != kNoTime) {
        has = range.has(time);
        leading = false;
        last = time;
      }
      if (has && !stretches.empty() && stretches.back().end == at && stretches.back().leading == leading) {
        stretches.back().end = end;
      } else if (has) {
        stretches.push_back({at, end, leading});
      }
      at = end;
    }
    return stretches;
  }

  void check_memory(const Segment& segment) const {
    if (query.max_memory == 0) return;
    uint64_t memory = 0;
    for (size_t i = segment.first; i <= segment.last; ++i) memory += decoding_memory(archive.block(i));
    memory = std::max(memory, memory_in_front[segment.first]);
    if (memory > query.max_memory)
      throw Error(ErrorKind::limit_exceeded, "grep: a block needs " + std::to_string(memory) + " bytes of memory; expected at most " +
                                                 std::to_string(query.max_memory));
  }

  std::string decode(const Segment& segment) const {
    check_memory(segment);
    std::string raw = archive.decompress_block(segment.first);
    for (size_t i = segment.first + 1; i <= segment.last; ++i) raw += archive.decompress_block(i);
    return raw;
  }

  // What of a segment has to be searched: only some of its lines, where their neighbours and times are of no interest.
  void decode(const Segment& segment, Searched& out) const {
    if (!query.invert && !wants_context() && !range.any() && segment.first == segment.last && filter.tells()) {
      check_memory(segment);
      LineSelection lines;
      if (archive.select_lines(segment.first, filter, lines)) {
        out.raw = std::move(lines.text);
        out.numbers = std::move(lines.numbers);
        return;
      }
    }
    out.raw = decode(segment);
  }

  // Searches the next segments: up to one a thread that has to be decoded, and those in front of them.
  void search_next() {
    first += work.size();
    at = 0;
    work.clear();
    std::vector<size_t> wanted;   // in `work`, to be decoded
    while (first + work.size() < segments.size() && wanted.size() < static_cast<size_t>(threads) && work.size() < kMaxSegments) {
      const size_t index = work.size();
      Searched& here = work.emplace_back();
      if (caught(here, [&] { return !passes_over(segments[first + index], here); })) wanted.push_back(index);
    }
    // Of blocks that continue each other one thread decodes each only once.
    const auto is_continued = [&](size_t i) {
      return wanted[i] == wanted[i - 1] + 1 && archive.block(segments[first + wanted[i]].first).continued;
    };
    for_each_in_runs(wanted.size(), threads, is_continued, [&](size_t i) {
      Searched& here = work[wanted[i]];
      caught(here, [&] { return begin(segments[first + wanted[i]], here), true; });
      return true;
    });
    for (const Searched& each : work) decoded += each.decoded;
  }

  // What the work on a segment says; false, with its error, if it cannot be done.
  template <class Work>
  static bool caught(Searched& out, Work work) {
    try {
      return work();
    } catch (...) {
      out.error = std::current_exception();
      return false;
    }
  }

  // Decodes a segment and lists its first hits; called from several threads.
  void begin(const Segment& segment, Searched& out) const {
    decode(segment, out);
    out.decoded = true;
    out.done = false;
    out.stretches = {{0, out.raw.size(), false}};
    if (range.any()) out.stretches = in_range(out.raw, out.last_time);
    if (!out.stretches.empty()) out.from = out.stretches[0].begin;
    go_on(out);
    if (out.done && out.hits.empty() && !wants_context()) out.raw = std::string();
  }

  // Lists the next hits.
  void go_on(Searched& out) const {
    Matcher matcher(pattern);
    out.hits.clear();
    out.selected = out.leading_selected = 0;
    for (; out.stretch < out.stretches.size(); ++out.stretch) {
      const Stretch& stretch = out.stretches[out.stretch];
      out.from = std::max(out.from, stretch.begin);
      std::string_view text = std::string_view(out.raw).substr(0, stretch.end);
      if (!(query.invert ? select_others(matcher, text, stretch.leading, out) : select_matches(matcher, text, stretch.leading, out)))
        return;
    }
    out.done = true;
  }

  // These two return false when enough is listed.
  bool select_matches(Matcher& matcher, std::string_view text, bool leading, Searched& out) const {
    Span line;
    while (out.hits.size() < kMaxHits) {
      if (!matcher.next_line(text, out.from, line)) return true;
      out.from = std::min(line.end + 1, text.size());
      select({line.begin, out.from}, leading, out);
    }
    return false;
  }
  bool select_others(Matcher& matcher, std::string_view text, bool leading, Searched& out) const {
    while (out.from < text.size()) {
      if (out.gap_end == std::string::npos) {
        Span line;
        bool any = matcher.next_line(text, out.from, line);
        out.gap_end = any ? line.begin : text.size();
        out.behind_gap = any ? std::min(line.end + 1, text.size()) : text.size();
      }
      while (out.from < out.gap_end) {
        if (out.hits.size() >= kMaxHits) return false;
        size_t begin = out.from;
        out.from = line_end(text, begin);
        select({begin, out.from}, leading, out);
      }
      out.from = out.behind_gap;
      out.gap_end = std::string::npos;
    }
    return true;
  }

  void select(Span line, bool leading, Searched& out) const {
    ++(leading ? out.leading_selected : out.selected);
    if (query.count_only || (query.invert && query.only_matching && !wants_context())) return;
    out.number += feeds_in(out.raw, out.numbered, line.begin);   // line numbers are counted where hits are listed
    out.numbered = line.begin;
    out.hits.push_back({out.numbers.empty() ? out.number : out.numbers[out.number], line, leading});
  }

  void put(GrepBatch& batch, std::string_view text, uint64_t number, bool selected) {
    batch.lines.push_back({number, batch.text.size(), batch.text.size() + text.size(), selected});
    batch.text += text;
  }

  // A line of the output, or its matches. Those of lines that are not selected are asked for, too, if they are context because they match.
  void give(GrepBatch& batch, std::string_view line, uint64_t number, bool selected) {
    given_to = number + 1;
    if (!query.only_matching) return put(batch, line, number, selected);
    const size_t given = batch.lines.size();
    if (selected != query.invert) {
      if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
      Span match;
      for (size_t from = 0; matcher.next_match(line, from, match); from = match.end)
        put(batch, line.substr(match.begin, match.end - match.begin), number, selected);
    }
    if (batch.lines.size() == given && wants_context()) put(batch, {}, number, selected);   // it parts groups all the same
  }

  const std::string& raw_of(size_t index, std::string& raw) {
    if (raw.empty()) {
      raw = decode(segments[index]);
      ++decoded;
    }
    return raw;
  }

  // Context in front of line `number`, which begins at `begin` in segments[index]: what was not given of query.before lines.
  void give_before(GrepBatch& batch, size_t index, uint64_t number, size_t begin) {
    uint64_t from = std::max(given_to, number - std::min(number, query.before));
    while (from < number) {
      size_t which = index;
      while (segments[which].first_line > from) --which;
      std::string again;   // of a segment that an earlier call has searched
      std::string_view raw = raw_of(which, which >= first ? work[which - first].raw : again);
      size_t to = which == index ? begin : raw.size();
      uint64_t end = which == index ? number : segments[which].first_line + segments[which].lines;
      size_t line = back_lines(raw, to, end - from);
      for (; from < end && line < raw.size(); ++from) {
        to = line_end(raw, line);
        give(batch, raw.substr(line, to - line), from, false);
        line = to;
      }
      from = end;   // a header may state more lines than there are
    }
  }

  // The lines from given_to on, as long as some are due and `limit` is not reached.
  void give_after(GrepBatch& batch, size_t index, std::string& raw, size_t begin, uint64_t limit) {
    if (after_left == 0 || given_to >= limit) return;
    raw_of(index, raw);
    while (after_left > 0 && given_to < limit && begin < raw.size()) {
      size_t to = line_end(raw, begin);
      give(batch, std::string_view(raw).substr(begin, to - begin), given_to, false);
      begin = to;
      --after_left;
    }
  }

  // Gives the hits that work[at] lists, with their context, and lists the next ones or goes to the next segment.
  void give_portion(GrepBatch& batch) {
    Searched& here = work[at];
    const size_t index = first + at;
    const Segment& segment = segments[index];
    if (!here.begun) {
      here.begun = true;
      here.leading = range.has(last_time);   // whether lines in front of the first time are in range
      if (here.last_time != kNoTime) last_time = here.last_time;
    }
    batch.selected += here.selected + (here.leading ? here.leading_selected : 0);
    for (const Hit& hit : here.hits) {
      if (hit.leading && !here.leading) continue;
      uint64_t number = segment.first_line + hit.number;
      give_after(batch, index, here.raw, here.given_end, number);
      if (query.before > 0) give_before(batch, index, number, hit.span.begin);
      std::string_view line = std::string_view(here.raw).substr(hit.span.begin, hit.span.end - hit.span.begin);
      give(batch, line, number, true);
      after_left = query.after;
      here.given_end = hit.span.end;
    }
    if (!here.done) {
      go_on(here);
      return;
    }
    if (!query.count_only) give_after(batch, index, here.raw, here.given_end, segment.first_line + segment.lines);
    if (!wants_context()) here = Searched();
    ++at;
  }
};

Grep::Grep(const Archive& archive, const GrepQuery& query, int threads) : state_(new State(archive, query, resolve_threads(threads))) {}
Grep::~Grep() = default;

bool Grep::next(GrepBatch& batch) {
  State& state = *state_;
  batch = GrepBatch();
  if (state.at == state.work.size()) {
    state.search_next();
    if (state.work.empty()) return false;
  }
  while (state.at < state.work.size() && batch.lines.size() < kMaxHits) {
    if (state.work[state.at].error) {
      if (!batch.lines.empty() || batch.selected > 0) break;
      std::rethrow_exception(state.work[state.at].error);
    }
    state.give_portion(batch);
  }
  return true;
}

uint64_t Grep::blocks_decoded() const { return state_->decoded; }

void GrepPrinter::begin_file(std::string name) {
  name_ = std::move(name);
  first_ = true;
}

std::string GrepPrinter::print(const GrepBatch& batch) {
  std::string out;
  out.reserve(batch.text.size() + batch.lines.size() * 16);
  for (const GrepLine& line : batch.lines) {
    bool follows = !first_ && line.number <= last_ + 1;
    if (format_.groups && used_ && !follows) out += "--\n";
    first_ = false;
    used_ = true;
    last_ = line.number;
    if (line.begin == line.end) continue;   // context of matches
    char mark = line.selected ? ':' : '-';
    if (format_.names) {
      out += name_;
      out += mark;
    }
    if (format_.numbers) {
      out += std::to_string(line.number + 1);
      out += mark;
    }
    out.append(batch.text, line.begin, line.end - line.begin);
    if (out.back() != '\n') out += '\n';
  }
  return out;
}

}  // namespace slipstick::logs
