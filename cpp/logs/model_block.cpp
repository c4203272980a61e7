// Blocks under a model, by the level's: see model_block.h.

#include "logs/model_block.h"

#include <utility>

#include "logs/block_reader.h"
#include "logs/block_writer.h"
#include "logs/fast_model.h"
#include "logs/max_model.h"
#include "logs/row_model.h"

namespace slipstick::logs {

ModelStreams encode_model(const Structure& structure, Effort effort, SwitchedOff off) {
  if (effort == Effort::fast) return BlockWriter<FastModel<StreamWriter>, StreamWriter>(structure, effort, off).run();
  if (effort == Effort::mixed) return BlockWriter<MaxModel<Encoder>, Encoder>(structure, effort, off).run();
  return BlockWriter<RowModel<Encoder>, Encoder>(structure, effort, off).run();
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
