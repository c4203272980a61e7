// Structure extraction: see structure.h.

#include "logs/structure.h"

#if defined(__linux__)
#include <malloc.h>
#endif

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "logs/bytes.h"
#include "logs/limits.h"
#include "logs/shapes.h"
#include "logs/template_text.h"
#include "slipstick/error.h"

namespace slipstick::logs {

namespace {

constexpr size_t kTrimmedBytes = size_t{1} << 20;   // of shapes; they take ten times that
constexpr size_t kMinMergedWords = 4;       // shapes that differ in one word merge from this many words on
constexpr uint32_t kFrequentWordLines = 24; // a word position whose words are all this frequent stays static ...
constexpr size_t kManyWords = 24;           // ... unless there are this many of them
constexpr int kMergeRounds = 3;
constexpr size_t kMinRareShapes = 3;        // rare shapes that agree in their frequent words merge from this many on
constexpr uint32_t kRareShapeLines = 4;     // a shape with at most this many lines is rare
constexpr uint32_t kLonelyShapeLines = 2;   // left alone with at most this many lines, it keeps only a common beginning
constexpr uint32_t kMinConstantLines = 64;   // lines a template needs before what they share counts as constant
constexpr uint32_t kMinPrefixLines = 12;    // lines that must share a beginning for it to be kept

bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9');
}

bool is_calendar_word(std::string_view word) {
  static constexpr std::string_view kWords[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
                                                "Nov", "Dec", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
  return word.size() == 3 && std::find(std::begin(kWords), std::end(kWords), word) != std::end(kWords);
}

uint64_t word_hash(size_t position, std::string_view word) {
  return mix(hash_bytes(word.data(), word.size()) + position * 0x9E3779B97F4A7C15u);
}
uint64_t variable_hash(size_t position) { return mix(position * 0xA24BAED4963EE407u + 1); }

// Cuts the static text between slots into words and gaps.
void fill_elements(Shape& shape) {
  auto add_static = [&](size_t begin, size_t end) {
    size_t at = begin;
    while (at < end) {
      size_t from = at;
      bool word = is_word_byte(shape.line[at]);
      while (at < end && is_word_byte(shape.line[at]) == word) ++at;
      Element element{word ? Element::kWord : Element::kGap, 0, false, static_cast<uint32_t>(at - from), shape.line.data() + from};
      if (word) {
        shape.words.push_back(static_cast<uint16_t>(shape.elements.size()));
        element.variable = is_calendar_word(element.text());
      }
      shape.elements.push_back(element);
    }
  };
  size_t at = 0;
  for (const Slot& slot : shape.slots) {
    add_static(at, slot.begin);
    shape.elements.push_back({Element::kLexed, slot.kind, false, 0, nullptr});
    at = slot.end;
  }
  add_static(at, shape.line.size());
  shape.elements.shrink_to_fit();
  shape.words.shrink_to_fit();
  uint64_t hash = 1;
  for (const Element& element : shape.elements) {
    uint64_t part = element.type == Element::kGap    ? hash_bytes(element.begin, element.size)
                    : element.type == Element::kWord ? 7
                                                     : 1000 + element.kind;
    hash = combine(hash, part);
  }
  shape.gaps_hash = hash;
}

uint64_t words_hash(const Shape& shape) {
  uint64_t hash = 0;
  for (size_t i = 0; i < shape.words.size(); ++i) {
    const Element& element = shape.elements[shape.words[i]];
    hash += element.variable ? variable_hash(i) : word_hash(i, element.text());
  }
  return hash;
}

// Pass 2: words that vary become slots.
class Clusters {
 public:
  explicit Clusters(std::vector<Shape>& shapes) : shapes_(shapes) {}

  void run() {
    for (Shape& shape : shapes_) fill_elements(shape);
    std::unordered_map<uint64_t, std::vector<uint32_t>> groups;
    std::vector<uint64_t> order;
    for (uint32_t id = 0; id < shapes_.size(); ++id) {
      auto [it, fresh] = groups.try_emplace(shapes_[id].gaps_hash);
      if (fresh) order.push_back(shapes_[id].gaps_hash);
      it->second.push_back(id);
    }
    for (uint64_t key : order) {
      const std::vector<uint32_t>& group = groups[key];
      if (group.size() >= kMinRareShapes && !shapes_[group[0]].words.empty()) cluster(group);
    }
    keep_beginnings();
  }

 private:
  void cluster(const std::vector<uint32_t>& group) {
    for (int round = 0; round < kMergeRounds; ++round)
      if (!merge_single_words(group)) break;
    merge_rare(group);
  }

  // Shapes that are equal but for the word at one position.
  bool merge_single_words(const std::vector<uint32_t>& group) {
    bool any = false;
    size_t words = shapes_[group[0]].words.size();
    std::vector<uint64_t> hashes(group.size());
    for (size_t i = 0; i < group.size(); ++i) hashes[i] = words_hash(shapes_[group[i]]);
    struct Bucket {
      std::vector<uint32_t> members;   // indices into group, one a distinct word
      std::vector<uint64_t> seen;
      uint64_t lines = 0;
    };
    for (size_t position = 0; position < words; ++position) {
      std::unordered_map<uint64_t, Bucket> buckets;
      for (size_t i = 0; i < group.size(); ++i) {
        const Shape& shape = shapes_[group[i]];
        const Element& element = shape.elements[shape.words[position]];
        if (element.variable) continue;
        uint64_t own = word_hash(position, element.text());
        Bucket& bucket = buckets[hashes[i] - own];
        bucket.members.push_back(static_cast<uint32_t>(i));
        if (std::find(bucket.seen.begin(), bucket.seen.end(), own) == bucket.seen.end() && bucket.seen.size() < kManyWords)
          bucket.seen.push_back(own);
        bucket.lines += shape.lines;
      }
      for (auto& [rest, bucket] : buckets) {
        if (bucket.seen.size() < kMinMergedWords) continue;
        if (bucket.seen.size() < kManyWords && bucket.lines / bucket.seen.size() >= kFrequentWordLines) continue;
        for (uint32_t i : bucket.members) {
          Shape& shape = shapes_[group[i]];
          shape.elements[shape.words[position]].variable = true;
          shape.merged = true;
          hashes[i] = rest + variable_hash(position);
        }
        any = true;
      }
    }
    return any;
  }

  // Rare shapes keep the words that are frequent at their position in the group; if several then agree, they merge.
  void merge_rare(const std::vector<uint32_t>& group) {
    size_t words = shapes_[group[0]].words.size();
    std::vector<std::unordered_map<uint64_t, uint32_t>> counts(words);
    for (uint32_t id : group)
      for (size_t i = 0; i < words; ++i) ++counts[i][word_hash(i, shapes_[id].elements[shapes_[id].words[i]].text())];
    uint32_t frequent = std::max<uint32_t>(3, static_cast<uint32_t>(group.size() / 16));
    std::unordered_map<uint64_t, std::vector<uint32_t>> buckets;
    for (uint32_t id : group) {
      Shape& shape = shapes_[id];
      if (shape.merged || shape.lines > kRareShapeLines) continue;
      uint64_t hash = 0;
      size_t kept = 0;
      for (size_t i = 0; i < words; ++i) {
        const Element& element = shape.elements[shape.words[i]];
        uint64_t own = word_hash(i, element.text());
        bool keep = !element.variable && counts[i][own] >= frequent;
        kept += keep;
        hash += keep ? own : variable_hash(i);
      }
      if (kept * 2 >= words) buckets[hash].push_back(id);
    }
    for (auto& [hash, members] : buckets) {
      if (members.size() < kMinRareShapes) continue;
      for (uint32_t id : members) {
        Shape& shape = shapes_[id];
        for (size_t i = 0; i < words; ++i) {
          Element& element = shape.elements[shape.words[i]];
          if (counts[i][word_hash(i, element.text())] < frequent) element.variable = true;
        }
        shape.merged = true;
      }
    }
  }

  static uint64_t element_hash(const Element& element) {
    if (element.type == Element::kLexed) return 1000 + element.kind;
    if (element.variable) return 3;
    return hash_bytes(element.begin, element.size);
  }

  // A lonely shape is cut after the longest beginning that many lines share.
  void keep_beginnings() {
    struct Beginning {
      uint32_t shape;
      uint64_t hash;
    };
    std::vector<Beginning> shared(shapes_.size());
    for (uint32_t id = 0; id < shapes_.size(); ++id) shared[id] = {id, 0};
    // Element by element: what follows a beginning that few lines share is shared by few, too, and need not be counted.
    for (uint32_t length = 1; !shared.empty(); ++length) {
      std::unordered_map<uint64_t, uint32_t> lines_with;
      auto ends = [&](const Beginning& it) { return shapes_[it.shape].elements.size() < length; };
      shared.erase(std::remove_if(shared.begin(), shared.end(), ends), shared.end());
      for (Beginning& it : shared) {
        it.hash = combine(it.hash, element_hash(shapes_[it.shape].elements[length - 1]));
        lines_with[it.hash] += shapes_[it.shape].lines;
      }
      auto is_rare = [&](const Beginning& it) {
        if (lines_with[it.hash] >= kMinPrefixLines) return false;
        Shape& shape = shapes_[it.shape];
        if (!shape.merged && shape.lines <= kLonelyShapeLines) shape.rest_from = length - 1;
        return true;
      };
      shared.erase(std::remove_if(shared.begin(), shared.end(), is_rare), shared.end());
    }
  }

  std::vector<Shape>& shapes_;
};

std::string template_text(const Shape& shape) {
  std::string text;
  for (uint32_t i = 0; i < shape.elements.size(); ++i) {
    const Element& element = shape.elements[i];
    if (i == shape.rest_from || element.variable) {
      text += kSlotMark;
      text += static_cast<char>(kString);
      if (i == shape.rest_from) break;
    } else if (element.type == Element::kLexed) {
      text += kSlotMark;
      text += static_cast<char>(element.kind);
    } else {
      text += element.text();
    }
  }
  return text;
}

// Pass 3: templates by number, constants within them, and every line's remaining values from left to right.
class Rows {
 public:
  Rows(std::string_view data, ShapeTable& table, Structure& out) : data_(data), table_(table), out_(out) {}

  void run() {
    number_templates();
    uses_.resize(out_.templates.size());
    for_each_row([&](uint32_t id, const Value* row, size_t slots) { uses_[id].note(row, slots); });
    fold_constants();
    // What is kept is written over what was lexed, and templates over shapes: both at once would be most of a packer's memory.
    const size_t room = room_in_front(), lexed = table_.values.size();
    table_.values.insert(table_.values.begin(), room, Value{0});
    Value* to = table_.values.data();
    uint32_t* line = table_.line_shapes.data();
    for_each_row(
        [&](uint32_t id, const Value* row, size_t) {
          *line++ = id;
          for (uint32_t slot : uses_[id].kept) *to++ = row[slot];
        },
        room);
    table_.values.resize(static_cast<size_t>(to - table_.values.data()));
    if (table_.values.size() < lexed / 2) table_.values.shrink_to_fit();
    out_.values = std::move(table_.values);
    out_.line_templates = std::move(table_.line_shapes);
  }

 private:
  // What a template's lines have in common.
  struct Use {
    uint32_t lines = 0;
    std::vector<Value> first;
    std::vector<uint8_t> varies;
    std::vector<uint32_t> kept;   // slots that are not constants
    void note(const Value* row, size_t slots) {
      if (lines++ == 0) {
        first.assign(row, row + slots);
        varies.assign(slots, 0);
      }
      for (size_t i = 0; i < slots; ++i) varies[i] |= row[i] != first[i];
    }
  };

  // By how many values the rows so far outnumber the lexed values that they come from, at most.
  size_t room_in_front() const {
    size_t kept = 0, lexed = 0, room = 0;
    for (uint32_t shape : table_.line_shapes) {
      kept += uses_[shape == kRawShape ? kRawTemplate : table_.shapes[shape].template_id].kept.size();
      lexed += shape == kRawShape ? 1 : table_.shapes[shape].slots.size();
      room = std::max(room, kept - std::min(kept, lexed));
    }
    return room;
  }

  void number_templates() {
    fits(kRawTemplateText);
    out_.templates.push_back(kRawTemplateText);
    std::unordered_map<std::string, uint32_t> ids{{kRawTemplateText, kRawTemplate}};
    fills_.resize(table_.shapes.size());
    for (size_t id = 0; id < table_.shapes.size(); ++id) {
      Shape& shape = table_.shapes[id];
      std::string text = template_text(shape);
      auto found = ids.find(text);
      if (found == ids.end() && !fits(text)) {
        shape.rest_from = 0;   // the whole line is one string
        found = ids.find(kRawTemplateText);
      } else if (found == ids.end()) {
        found = ids.emplace(text, static_cast<uint32_t>(out_.templates.size())).first;
        out_.templates.push_back(text);
      }
      shape.template_id = found->second;
      fills_[id] = make_fill(shape);
      shape.elements = std::vector<Element>();   // most of what a shape takes
    }
  }

  // Calls `with` for each line: its template and its values, constants included. Lexed values begin at `from`.
  template <class With>
  void for_each_row(With with, size_t from = 0) {
    const Value* lexed = table_.values.data() + from;
    for (size_t line = 0; line < table_.line_shapes.size(); ++line) {
      uint32_t shape_id = table_.line_shapes[line];
      if (shape_id == kRawShape) {
        with(kRawTemplate, lexed++, 1);
        continue;
      }
      const Shape& shape = table_.shapes[shape_id];
      const Fill& fill = fills_[shape_id];
      if (fill.direct) {
        with(shape.template_id, lexed, shape.slots.size());
      } else {
        fill_row(fill, shape, line, lexed);
        with(shape.template_id, row_.data(), row_.size());
      }
      lexed += shape.slots.size();
    }
  }

  // Step 4: a slot that never varies becomes text of its template.
  void fold_constants() {
    for (size_t id = 0; id < uses_.size(); ++id) {
      Use& use = uses_[id];
      bool may_fold = id != kRawTemplate && use.lines >= kMinConstantLines;
      for (uint32_t slot = 0; slot < use.varies.size(); ++slot)
        if (!may_fold || use.varies[slot]) use.kept.push_back(slot);
      if (use.kept.size() < use.varies.size()) fold(out_.templates[id], use);
    }
  }

  void fold(std::string& text, const Use& use) {
    std::string folded;
    size_t slot = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      folded += text[i];
      if (text[i] != kSlotMark) continue;
      int kind = static_cast<unsigned char>(text[++i]);
      if (use.varies[slot]) {
        folded += text[i];
      } else {
        folded += static_cast<char>(kind | kConstantBit);
        Value value = use.first[slot];
        if (is_string(value)) {
          folded += out_.strings.text(static_cast<uint32_t>(value & UINT32_MAX));
        } else {
          char rendered[kMaxRendered];
          folded.append(rendered, render_number(kind, value, rendered));
        }
        folded += kSlotMark;
      }
      ++slot;
    }
    text = std::move(folded);
  }

  // Counts the template's slots and columns against the block's limits.
  bool fits(const std::string& text) {
    std::vector<std::string> keys = column_keys(text);
    size_t fresh = 0;
    for (const std::string& key : keys) fresh += columns_.count(key) == 0;
    if (keys.size() > kMaxTemplateSlots || slots_ + keys.size() > kMaxSlots || columns_.size() + fresh > kMaxColumns) return false;
    slots_ += keys.size();
    for (std::string& key : keys) columns_.insert(std::move(key));
    return true;
  }

  struct Fill {
    bool direct = true;                                 // the lexed values as they are
    std::vector<std::pair<int32_t, Value>> values;      // index of a lexed value, or -1 and a constant
    bool rest = false;
    uint32_t rest_slot = 0;                             // lexed slots in front of the rest
    uint32_t rest_text = 0;                             // static bytes between the last of them and the rest
  };

  Fill make_fill(const Shape& shape) {
    Fill fill;
    int32_t lexed = 0;
    uint32_t static_bytes = 0;
    for (uint32_t i = 0; i < shape.elements.size(); ++i) {
      const Element& element = shape.elements[i];
      if (i == shape.rest_from) {
        fill.direct = false;
        fill.rest = true;
        fill.rest_slot = static_cast<uint32_t>(lexed);
        fill.rest_text = static_bytes;
        break;
      }
      if (element.variable) {
        fill.direct = false;
        fill.values.emplace_back(-1, kStringBit | out_.strings.intern(element.text()));
        static_bytes += element.size;
      } else if (element.type == Element::kLexed) {
        fill.values.emplace_back(lexed++, 0);
        static_bytes = 0;
      } else {
        static_bytes += element.size;
      }
    }
    return fill;
  }

  // The row of a line whose values are not just the lexed ones. Rows are made twice: strings keep their ids.
  void fill_row(const Fill& fill, const Shape& shape, size_t line, const Value* lexed) {
    row_.clear();
    for (const auto& [index, constant] : fill.values) row_.push_back(index < 0 ? constant : lexed[index]);
    if (!fill.rest) return;
    uint64_t begin = table_.line_begins[line];
    uint64_t end = line + 1 < table_.line_begins.size() ? table_.line_begins[line + 1] - 1 : data_.size();
    if (end > begin && end == data_.size() && data_[end - 1] == '\n') --end;
    std::string_view text = data_.substr(begin, end - begin);
    size_t rest = fill.rest_text + slots_end(shape, fill.rest_slot, lexed);
    row_.push_back(kStringBit | out_.strings.intern(text.substr(rest)));
  }

  // Where the first `count` slots of a line of this shape end. Lexing the line again could find other slots: lines are
  // also read by shapes that fit them.
  size_t slots_end(const Shape& shape, uint32_t count, const Value* lexed) const {
    size_t end = 0;
    for (uint32_t i = 0; i < count; ++i) {
      end += shape.slots[i].begin - (i == 0 ? 0 : shape.slots[i - 1].end);
      if (is_string(lexed[i])) {
        end += out_.strings.text(static_cast<uint32_t>(lexed[i] & UINT32_MAX)).size();
      } else {
        char rendered[kMaxRendered];
        end += static_cast<size_t>(render_number(shape.slots[i].kind, lexed[i], rendered) - rendered);
      }
    }
    return end;
  }

  std::string_view data_;
  ShapeTable& table_;
  Structure& out_;
  std::vector<Fill> fills_;
  std::vector<Use> uses_;   // of out_.templates
  std::vector<Value> row_;
  size_t slots_ = 0;
  std::unordered_set<std::string> columns_;
};

}  // namespace

Structure find_structure(std::string_view data, const LexerOptions& options) {
  Structure out;
  [[maybe_unused]] size_t shape_bytes = 0;
  {
    ShapeTable table(data, options, out.strings);
    table.run();
    for (const Shape& shape : table.shapes) shape_bytes += shape.line.size();
    Clusters(table.shapes).run();
    Rows(data, table, out).run();
  }
#if defined(__GLIBC__)
  // Many shapes were a million small pieces: freed, they would stay with the process while the block is coded. After few, to give memory
  // back only to ask for it again would cost a tenth of the time.
  if (shape_bytes >= kTrimmedBytes) malloc_trim(0);
#endif
  return out;
}

}  // namespace slipstick::logs
