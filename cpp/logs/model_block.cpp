// Blocks under a model, by the level's: see model_block.h.

#include "logs/model_block.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "logs/block_reader.h"
#include "logs/block_writer.h"
#include "logs/fast_model.h"
#include "logs/limits.h"
#include "logs/max_model.h"
#include "logs/row_model.h"
#include "logs/template_text.h"

namespace slipstick::logs {
namespace {

constexpr size_t kWideLine = 16;                    // slots a line from which columns by slot are tried
constexpr size_t kTrialValues = size_t{1} << 16;    // which the trial is made with

// The first lines that have kTrialValues values, if lines are wide and columns by slot would be few enough; 0 if not.
size_t trial_lines(const Structure& structure) {
  const std::vector<uint32_t>& lines = structure.line_templates;
  if (lines.empty() || structure.values.size() / lines.size() < kWideLine) return 0;
  std::vector<size_t> slots;
  size_t all = 0, values = 0, count = 0;
  for (const std::string& text : structure.templates) {
    slots.push_back(split_template(text).kinds.size());
    all += slots.back();
  }
  if (all > kMaxColumns) return 0;
  while (count < lines.size() && values < kTrialValues) values += slots[lines[count++]];
  return count;
}

template <class Model, class Coder>
ModelStreams encode(const Structure& structure, Effort effort, SwitchedOff off) {
  auto plan = [&](Columns by) { return make_plan(structure, by, effort, off); };
  auto write = [&](BlockPlan of, size_t lines = SIZE_MAX) { return BlockWriter<Model, Coder>(structure, std::move(of), off).run(lines); };
  auto size = [](const ModelStreams& streams) { return streams.symbols.size() + streams.text.size() / 6; };  // text packs about that well
  if (off.has(Technique::local_text)) return write(plan(Columns::by_slot));
  BlockPlan by_text = plan(Columns::by_local_text);
  const size_t lines = effort == Effort::sketch ? 0 : trial_lines(structure);
  if (lines == 0) return write(std::move(by_text));
  BlockPlan by_slot = plan(Columns::by_slot);
  ModelStreams text_trial = write(by_text, lines), slot_trial = write(by_slot, lines);
  const bool slot_pays = size(slot_trial) < size(text_trial) - size(text_trial) / 64;
  if (lines == structure.line_templates.size()) return slot_pays ? slot_trial : text_trial;
  return write(slot_pays ? std::move(by_slot) : std::move(by_text));
}

}  // namespace

ModelStreams encode_model(const Structure& structure, Effort effort, SwitchedOff off) {
  if (effort == Effort::fast) return encode<FastModel<StreamWriter>, StreamWriter>(structure, effort, off);
  if (effort == Effort::mixed) return encode<MaxModel<Encoder>, Encoder>(structure, effort, off);
  return encode<RowModel<Encoder>, Encoder>(structure, effort, off);
}

namespace {

template <template <class> class Model>
std::string decode_coded(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  Store store(raw_size);
  if (account) return BlockReader<Model<MeteredDecoder>, MeteredDecoder, Store>(symbols, text, account, std::move(store)).run(lines);
  return BlockReader<Model<Decoder>, Decoder, Store>(symbols, text, nullptr, std::move(store)).run(lines);
}

}  // namespace

std::string decode_model(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  return decode_coded<RowModel>(symbols, text, lines, raw_size, account);
}

std::string decode_max(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  return decode_coded<MaxModel>(symbols, text, lines, raw_size, account);
}

std::string decode_fast(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, Account* account) {
  return BlockReader<FastModel<StreamReader>, StreamReader, Store>(symbols, text, account, Store(raw_size)).run(lines);
}

namespace {

template <class Model, class Coder>
LineSelection select_or_decode(std::string_view symbols, std::string_view text, size_t lines, size_t raw_size, const LineFilter& filter) {
  LineSelection out = BlockReader<Model, Coder, Gather>(symbols, text, nullptr, Gather(raw_size)).select(lines, filter);
  if (out.whole) out = {true, BlockReader<Model, Coder, Store>(symbols, text, nullptr, Store(raw_size)).run(lines), {}};
  return out;
}

}  // namespace

LineSelection select_model_lines(ModelKind kind, std::string_view symbols, std::string_view text, size_t lines, size_t raw_size,
                                 const LineFilter& filter) {
  switch (kind) {
    case ModelKind::fast: return select_or_decode<FastModel<StreamReader>, StreamReader>(symbols, text, lines, raw_size, filter);
    case ModelKind::standard: return select_or_decode<RowModel<Decoder>, Decoder>(symbols, text, lines, raw_size, filter);
    case ModelKind::max: break;
  }
  return select_or_decode<MaxModel<Decoder>, Decoder>(symbols, text, lines, raw_size, filter);
}

bool decodes_to(const ModelStreams& streams, Effort effort, size_t lines, std::string_view raw) {
  try {
    if (effort == Effort::fast)
      return BlockReader<FastModel<StreamReader>, StreamReader, Compare>(streams.symbols, streams.text, nullptr, Compare(raw)).run(lines);
    if (effort == Effort::mixed)
      return BlockReader<MaxModel<Decoder>, Decoder, Compare>(streams.symbols, streams.text, nullptr, Compare(raw)).run(lines);
    return BlockReader<RowModel<Decoder>, Decoder, Compare>(streams.symbols, streams.text, nullptr, Compare(raw)).run(lines);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace slipstick::logs
