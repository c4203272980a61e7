// From text to steps: see pattern.h. The grammar is that of GNU grep 3.8, with its readings of what POSIX leaves open.

#include "logs/pattern.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "slipstick/error.h"

namespace slipstick::logs {
namespace {

using Bytes = std::bitset<256>;

constexpr int kMaxRepeat = 32767;         // RE_DUP_MAX of glibc
constexpr size_t kMaxSteps = 100 * 1000;
constexpr int kMaxDepth = 500;            // of the tree, which is walked by recursion
constexpr int kNoLimit = -1;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::invalid_argument, "pattern: " + what); }

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(unsigned char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
char lower(char c) { return is_letter(static_cast<unsigned char>(c)) ? static_cast<char>(c | 32) : c; }

Bytes range_of(unsigned from, unsigned to) {
  Bytes set;
  for (unsigned c = from; c <= to; ++c) set.set(c);
  return set;
}

Bytes class_of(std::string_view name) {
  Bytes lowers = range_of('a', 'z'), uppers = range_of('A', 'Z'), digits = range_of('0', '9'), graph = range_of(33, 126);
  if (name == "alpha") return lowers | uppers;
  if (name == "lower") return lowers;
  if (name == "upper") return uppers;
  if (name == "digit") return digits;
  if (name == "alnum") return lowers | uppers | digits;
  if (name == "space") return range_of(9, 13) | range_of(32, 32);
  if (name == "blank") return range_of(9, 9) | range_of(32, 32);
  if (name == "graph") return graph;
  if (name == "print") return range_of(32, 126);
  if (name == "punct") return graph & ~(lowers | uppers | digits);
  if (name == "cntrl") return range_of(0, 31) | range_of(127, 127);
  if (name == "xdigit") return digits | range_of('a', 'f') | range_of('A', 'F');
  refuse("[:" + std::string(name) + ":] is no character class; expected one such as [:alpha:]");
}

Bytes word_bytes() { return class_of("alnum") | range_of('_', '_'); }

struct Node {
  enum Kind : uint8_t { kEmpty, kSet, kAssert, kConcat, kAlternate, kRepeat } kind = kEmpty;
  Bytes set;
  Assertion assertion = kLineStart;
  int least = 0, most = 0;
  std::vector<uint32_t> children;
  int depth = 1;
};

// The tree of a pattern. Node 0 is empty.
class Tree {
 public:
  Tree() : nodes_(1) {}
  const Node& operator[](uint32_t id) const { return nodes_[id]; }
  static constexpr uint32_t kEmpty = 0;

  uint32_t set(const Bytes& bytes) {
    Node node;
    node.kind = Node::kSet;
    node.set = bytes;
    node.set.reset('\n');
    return add(std::move(node));
  }
  uint32_t assertion(Assertion which) {
    Node node;
    node.kind = Node::kAssert;
    node.assertion = which;
    return add(std::move(node));
  }
  // Nothing repeated is nothing: otherwise nested repeats of it would be walked 32767 times each without a step that is counted.
  uint32_t repeat(uint32_t child, int least, int most) {
    if (child == kEmpty || most == 0) return kEmpty;
    Node node;
    node.kind = Node::kRepeat;
    node.least = least;
    node.most = most;
    node.children = {child};
    return add(std::move(node));
  }
  uint32_t joined(Node::Kind kind, std::vector<uint32_t> children) {
    if (kind == Node::kConcat) children.erase(std::remove(children.begin(), children.end(), kEmpty), children.end());
    if (children.size() == 1) return children[0];
    if (children.empty()) return kEmpty;
    Node node;
    node.kind = kind;
    node.children = std::move(children);
    return add(std::move(node));
  }

 private:
  uint32_t add(Node node) {
    for (uint32_t child : node.children) node.depth = std::max(node.depth, nodes_[child].depth + 1);
    if (node.depth > kMaxDepth || nodes_.size() >= kMaxSteps) throw Error(ErrorKind::limit_exceeded, "pattern: is too large");
    nodes_.push_back(std::move(node));
    return static_cast<uint32_t>(nodes_.size() - 1);
  }
  std::vector<Node> nodes_;
};

// One line of a pattern.
class Parser {
 public:
  Parser(Tree& tree, std::string_view text, bool extended, bool ignore_case)
      : tree_(tree), text_(text), extended_(extended), ignore_case_(ignore_case) {}

  uint32_t run() {
    size_t size = text_.size();
    if (size >= 4 && text_[0] == '[' && text_[1] == ':' && text_[size - 2] == ':' && text_[size - 1] == ']')
      refuse("is " + std::string(text_) + "; expected [" + std::string(text_) + "] for a character class");
    return alternatives(0);
  }

 private:
  bool done() const { return at_ == text_.size(); }
  // Whether an operator comes next: itself in extended patterns, behind a backslash in basic ones.
  bool is_next(char op) const {
    if (extended_) return at_ < text_.size() && text_[at_] == op;
    return at_ + 1 < text_.size() && text_[at_] == '\\' && text_[at_ + 1] == op;
  }
  void skip_operator() { at_ += extended_ ? 1 : 2; }

  uint32_t alternatives(int depth) {
    if (depth > kMaxDepth) throw Error(ErrorKind::limit_exceeded, "pattern: is too large");
    std::vector<uint32_t> branches;
    while (true) {
      branches.push_back(branch(depth));
      if (done() || !is_next('|')) break;
      skip_operator();
    }
    return tree_.joined(Node::kAlternate, std::move(branches));
  }

  uint32_t branch(int depth) {
    std::vector<uint32_t> parts;
    bool start = true;   // nothing yet that could be repeated
    bool begins = true;  // nothing at all yet
    while (!done() && !is_next('|') && !(is_next(')') && (depth > 0 || !extended_))) {
      if (extended_ && start && repeat_nothing(depth, parts)) {
        begins = false;
        continue;
      }
      bool assertion = false;
      uint32_t part = atom(depth, start, begins, assertion);
      start = assertion && (start || extended_);
      begins = false;
      int least = 0, most = 0;
      while (!start && repetition(false, least, most)) part = tree_.repeat(part, least, most);
      parts.push_back(part);
    }
    if (!done() && is_next(')') && depth == 0) refuse("has an unmatched )");
    return tree_.joined(Node::kConcat, std::move(parts));
  }

  // What repeats nothing or an assertion, in an extended pattern; false if there is none. GNU grep matches by an automaton that repeats what
  // is in front, but first asks a second parser, which passes over such operators and takes a bracket right behind them for an unmatched one.
  bool repeat_nothing(int depth, std::vector<uint32_t>& parts) {
    const size_t from = at_;
    bool interval = false;
    int least = 0, most = 0;
    while (true) {
      const bool brace = is_next('{');
      if (!repetition(true, least, most)) break;
      interval = interval || brace;
      if (!parts.empty()) parts.back() = tree_.repeat(parts.back(), least, most);
    }
    if (at_ == from) return false;
    if (!interval && depth > 0 && is_next(')')) refuse("has an unmatched (");
    return true;
  }

  // Takes `*`, `+`, `?` or an interval, if one comes next. `start`: there is nothing in front of it that it could repeat.
  bool repetition(bool start, int& least, int& most) {
    if (done()) return false;
    least = 0;
    most = kNoLimit;
    if (text_[at_] == '*') {
      ++at_;
      return true;
    }
    if (is_next('+') || is_next('?')) {
      bool plus = is_next('+');
      skip_operator();
      least = plus ? 1 : 0;
      most = plus ? kNoLimit : 1;
      return true;
    }
    return is_next('{') && interval(start, least, most);
  }

  // {M}, {M,}, {M,N}, {,N}. In an extended pattern what is none of these is plain text, at the start also {M,N} with M above N.
  bool interval(bool start, int& least, int& most) {
    size_t at = at_ + (extended_ ? 1 : 2);
    auto number = [&] {
      if (at == text_.size() || !is_digit(text_[at])) return -1;
      int value = 0;
      for (; at < text_.size() && is_digit(text_[at]); ++at) value = std::min(value * 10 + (text_[at] - '0'), kMaxRepeat + 1);
      return value;
    };
    least = most = number();
    if (at < text_.size() && text_[at] == ',') {
      ++at;
      least = std::max(least, 0);
      most = number();
    }
    std::string_view close = extended_ ? "}" : "\\}";
    bool legal = text_.substr(at, close.size()) == close && least >= 0 && (most == kNoLimit || least <= most);
    if (!legal && extended_ && (start || text_.substr(at, 1) != "}" || least < 0)) return false;
    if (!legal && text_.find(close, at) == std::string_view::npos) refuse("has an unmatched {");
    if (!legal) refuse("has an illegal interval; expected {M}, {M,}, {,N} or {M,N} with M at most N");
    if (least > kMaxRepeat || most > kMaxRepeat) throw Error(ErrorKind::limit_exceeded, "pattern: repeats more than 32767 times");
    at_ = at + close.size();
    return true;
  }

  uint32_t literal(char c) {
    Bytes set;
    set.set(static_cast<unsigned char>(c));
    return tree_.set(folded(set));
  }
  Bytes folded(Bytes set) const {
    if (!ignore_case_) return set;
    for (unsigned c = 'a'; c <= 'z'; ++c)
      if (set[c] || set[c - 32]) set.set(c).set(c - 32);
    return set;
  }

  uint32_t atom(int depth, bool start, bool begins, bool& assertion) {
    if (is_next('(')) {
      skip_operator();
      uint32_t inner = alternatives(depth + 1);
      if (done() || !is_next(')')) refuse("has an unmatched (");
      skip_operator();
      return inner;
    }
    char c = text_[at_++];
    switch (c) {
      case '\\': return escape(start, assertion);
      case '[': return bracket();
      case '.': return tree_.set(~Bytes());
      case '^':
        if (!extended_ && !begins) break;
        assertion = true;
        return tree_.assertion(kLineStart);
      case '$':
        if (!extended_ && !done() && !is_next(')') && !is_next('|')) break;
        assertion = true;
        return tree_.assertion(kLineEnd);
      default: break;
    }
    return literal(c);
  }

  uint32_t escape(bool start, bool& assertion) {
    if (done()) refuse("ends in a backslash");
    char c = text_[at_++];
    assertion = c != '\0' && std::strchr("bB<>`'", c) != nullptr;
    switch (c) {
      case 'w': return tree_.set(word_bytes());
      case 'W': return tree_.set(~word_bytes());
      case 's': return tree_.set(class_of("space"));
      case 'S': return tree_.set(~class_of("space"));
      case 'b': return tree_.assertion(kWordEdge);
      case 'B': return tree_.assertion(kNoWordEdge);
      case '<': return tree_.assertion(kWordStart);
      case '>': return tree_.assertion(kWordEnd);
      case '`': return tree_.assertion(kLineStart);
      case '\'': return tree_.assertion(kLineEnd);
      default: break;
    }
    if (c >= '1' && c <= '9')
      throw Error(ErrorKind::unsupported, std::string("pattern: has the back-reference \\") + c + ", which is not supported");
    if (is_letter(static_cast<unsigned char>(c)) || c == '0')
      refuse(std::string("has \\") + c + ", which grep takes for " + c + "; expected a bracket such as [0-9], or " + c);
    if (c == '{' && !extended_ && !start) refuse("has an unmatched {");
    return literal(c);
  }

  uint32_t bracket() {
    Bytes set;
    bool inverted = at_ < text_.size() && text_[at_] == '^';
    at_ += inverted;
    bool first = true;
    while (true) {
      unsigned char from = next_in_bracket();
      if (from == ']' && !first) break;
      first = false;
      if (from == '[' && at_ < text_.size() && text_[at_] == ':') {
        std::string_view name = named(':');
        if (ignore_case_ && (name == "upper" || name == "lower")) name = "alpha";
        set |= class_of(name);
        continue;
      }
      from = collated(from);
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        unsigned char to = collated(next_in_bracket());
        if (from > to) refuse("has a range whose end is before its begin");
        set |= range_of(from, to);
      } else {
        set.set(from);
      }
    }
    set = folded(set);
    return tree_.set(inverted ? ~set : set);
  }
  unsigned char next_in_bracket() {
    if (done()) refuse("has an unmatched [");
    return static_cast<unsigned char>(text_[at_++]);
  }
  // [=c=] and [.c.] are c: bytes have no equivalents.
  unsigned char collated(unsigned char c) {
    if (c != '[' || done() || (text_[at_] != '.' && text_[at_] != '=')) return c;
    std::string_view name = named(text_[at_]);
    if (name.size() != 1) refuse("has the collating element '" + std::string(name) + "'; expected one byte");
    return static_cast<unsigned char>(name[0]);
  }
  // What stands between [x and x], the first bracket being behind us.
  std::string_view named(char mark) {
    const char close[] = {mark, ']'};
    size_t end = text_.find(std::string_view(close, 2), at_ + 1);
    if (end == std::string_view::npos) refuse("has an unmatched [");
    std::string_view name = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 2;
    return name;
  }

  Tree& tree_;
  std::string_view text_;
  bool extended_, ignore_case_;
  size_t at_ = 0;
};

// Steps are written from the back, so that each knows what follows it.
class Emitter {
 public:
  Emitter(const Tree& tree, Pattern& out) : tree_(tree), out_(out) {}

  void run(uint32_t root) {
    uint32_t match = add({PatternStep::kMatch});
    out_.start = emit(root, match);
    classify();
  }

 private:
  uint32_t add(PatternStep step) {
    if (out_.steps.size() >= kMaxSteps) throw Error(ErrorKind::limit_exceeded, "pattern: is too large");
    out_.steps.push_back(step);
    return static_cast<uint32_t>(out_.steps.size() - 1);
  }

  uint32_t emit(uint32_t id, uint32_t next) {
    const Node& node = tree_[id];
    switch (node.kind) {
      case Node::kEmpty: return next;
      case Node::kSet: return add({PatternStep::kBytes, set_number(node.set), next});
      case Node::kAssert: out_.has_assertions = true; return add({PatternStep::kAssertion, node.assertion, next});
      case Node::kConcat:
        for (size_t i = node.children.size(); i-- > 0;) next = emit(node.children[i], next);
        return next;
      case Node::kAlternate: {
        uint32_t entry = emit(node.children.back(), next);
        for (size_t i = node.children.size() - 1; i-- > 0;) {
          uint32_t branch = emit(node.children[i], next);
          entry = add({PatternStep::kSplit, 0, branch, entry});
        }
        return entry;
      }
      case Node::kRepeat: return emit_repeat(node, next);
    }
    return next;
  }

  uint32_t emit_repeat(const Node& node, uint32_t next) {
    uint32_t child = node.children[0];
    int copies = node.least;
    if (node.most == kNoLimit) {
      uint32_t loop = add({PatternStep::kSplit, 0, 0, next});
      uint32_t entry = emit(child, loop);
      out_.steps[loop].next = entry;
      next = copies > 0 ? entry : loop;
      copies = std::max(copies - 1, 0);
    } else {
      uint32_t end = next;
      for (int i = node.least; i < node.most; ++i) next = add({PatternStep::kSplit, 0, emit(child, next), end});
    }
    for (; copies > 0; --copies) next = emit(child, next);
    return next;
  }

  uint32_t set_number(const Bytes& set) {
    auto [it, fresh] = numbers_.try_emplace(set.to_string(), static_cast<uint32_t>(out_.sets.size()));
    if (fresh) out_.sets.push_back(set);
    return it->second;
  }

  void classify() {
    std::array<uint32_t, 256> classes;
    classes.fill(1);
    classes['\n'] = 0;
    uint32_t count = 2;
    auto split = [&](const Bytes& set) {
      std::map<uint32_t, std::array<uint32_t, 2>> halves;   // by class: its members outside and inside
      for (unsigned c = 0; c < 256; ++c)
        if (c != '\n') ++halves[classes[c]][set[c]];
      for (auto& [from, sizes] : halves) {
        if (sizes[0] == 0 || sizes[1] == 0) continue;
        for (unsigned c = 0; c < 256; ++c)
          if (classes[c] == from && set[c]) classes[c] = count;
        ++count;
      }
    };
    for (const Bytes& set : out_.sets) split(set);
    if (out_.has_assertions) split(word_bytes());
    for (unsigned c = 0; c < 256; ++c) out_.byte_class[c] = static_cast<uint8_t>(classes[c]);
    out_.classes = count;
  }

  const Tree& tree_;
  Pattern& out_;
  std::map<std::string, uint32_t> numbers_;
};

// The one byte that a set stands for, or -1; in lower case where `folded`, then also of a letter in both cases.
int single_byte(const Bytes& set, bool folded) {
  int found = -1;
  if (set.count() > (folded ? 2 : 1)) return -1;
  for (unsigned c = 0; c < 256; ++c) {
    if (!set[c]) continue;
    int own = folded ? static_cast<unsigned char>(lower(static_cast<char>(c))) : static_cast<int>(c);
    if (found >= 0 && found != own) return -1;
    found = own;
  }
  return found;
}

// Adds the strings that every match of the node has.
void add_required(const Tree& tree, uint32_t id, bool folded, std::vector<std::string>& out) {
  const Node& node = tree[id];
  if (node.kind == Node::kRepeat && node.least > 0) add_required(tree, node.children[0], folded, out);
  if (node.kind != Node::kConcat && node.kind != Node::kSet) return;
  std::string run;
  auto end_run = [&] {
    if (!run.empty()) out.push_back(std::move(run));
    run.clear();
  };
  if (node.kind == Node::kSet) {
    if (int c = single_byte(node.set, folded); c >= 0) run.push_back(static_cast<char>(c));
    end_run();
    return;
  }
  for (uint32_t child : node.children) {
    int c = tree[child].kind == Node::kSet ? single_byte(tree[child].set, folded) : -1;
    if (c >= 0) {
      run.push_back(static_cast<char>(c));
    } else {
      end_run();
      if (tree[child].kind != Node::kSet) add_required(tree, child, folded, out);
    }
  }
  end_run();
}

std::vector<std::vector<std::string>> required_of(const Tree& tree, uint32_t root) {
  std::vector<uint32_t> branches{root};
  if (tree[root].kind == Node::kAlternate) branches = tree[root].children;
  std::vector<std::vector<std::string>> out;
  for (uint32_t branch : branches) {
    out.emplace_back();
    add_required(tree, branch, true, out.back());
    if (out.back().empty()) return {};
  }
  return out;
}

std::string longest_required(const Tree& tree, uint32_t root) {
  std::vector<std::string> all;
  add_required(tree, root, false, all);
  std::string longest;
  for (std::string& each : all)
    if (each.size() > longest.size()) longest = std::move(each);
  return longest;
}

// The string that a node stands for; false if it is no plain string.
bool plain_string(const Tree& tree, uint32_t id, std::string& out) {
  const Node& node = tree[id];
  if (node.kind == Node::kSet && node.set.count() == 1) {
    for (unsigned c = 0; c < 256; ++c)
      if (node.set[c]) out.push_back(static_cast<char>(c));
    return true;
  }
  if (node.kind != Node::kConcat) return false;
  return std::all_of(node.children.begin(), node.children.end(), [&](uint32_t child) { return plain_string(tree, child, out); });
}

}  // namespace

ByteKind byte_kind(unsigned char byte) {
  return byte == '\n' ? kEdge : is_letter(byte) || is_digit(static_cast<char>(byte)) || byte == '_' ? kWordByte : kOtherByte;
}

bool holds(Assertion assertion, ByteKind before, ByteKind after) {
  bool word_before = before == kWordByte, word_after = after == kWordByte;
  switch (assertion) {
    case kLineStart: return before == kEdge;
    case kLineEnd: return after == kEdge;
    case kWordStart: return !word_before && word_after;
    case kWordEnd: return word_before && !word_after;
    case kWordEdge: return word_before != word_after;
    case kNoWordEdge: return word_before == word_after;
  }
  return false;
}

Pattern compile_pattern(std::string_view text, PatternSyntax syntax, bool ignore_case) {
  Tree tree;
  std::vector<uint32_t> lines;
  for (size_t at = 0; at <= text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (syntax == PatternSyntax::fixed) {
      std::vector<uint32_t> letters;
      for (char c : line) {
        Bytes set;
        set.set(static_cast<unsigned char>(c));
        if (ignore_case && is_letter(static_cast<unsigned char>(c))) set.set(static_cast<unsigned char>(c ^ 32));
        letters.push_back(tree.set(set));
      }
      lines.push_back(tree.joined(Node::kConcat, std::move(letters)));
    } else {
      lines.push_back(Parser(tree, line, syntax == PatternSyntax::extended, ignore_case).run());
    }
    at = end + 1;
  }
  uint32_t root = tree.joined(Node::kAlternate, std::move(lines));
  Pattern out;
  Emitter(tree, out).run(root);
  out.required = required_of(tree, root);
  out.must = longest_required(tree, root);
  out.is_literal = plain_string(tree, root, out.literal);
  return out;
}

}  // namespace slipstick::logs
