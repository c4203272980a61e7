// Names of techniques, and packing without some: see techniques.h.

#include "logs/techniques.h"

#include <algorithm>

#include "logs/block.h"
#include "slipstick/error.h"
#include "slipstick/logs.h"

namespace slipstick::logs {
namespace {

constexpr const char* kNames[kTechniques] = {"columns by local text",
                                             "lexer options",
                                             "plans by trial",
                                             "sessions",
                                             "text model",
                                             "sure source",
                                             "copies in a session",
                                             "predicted numbers",
                                             "sources to the left",
                                             "sources of the past",
                                             "second values",
                                             "learned weights",
                                             "corrections",
                                             "hashed flags",
                                             "vocabulary",
                                             "expected byte",
                                             "repeats in text"};

}  // namespace

std::vector<std::string> technique_names(Level level) {
  int count = level == Level::max ? kTechniques : level == Level::standard ? kTechniquesOfDefault : 0;
  return {kNames, kNames + count};
}

size_t size_without(std::string_view raw, Level level, const std::vector<std::string>& techniques, ByteCodec& codec) {
  std::vector<std::string> names = technique_names(level);
  SwitchedOff off;
  for (const std::string& technique : techniques) {
    auto at = std::find(names.begin(), names.end(), technique);
    if (at == names.end())
      throw Error(ErrorKind::invalid_argument, "size_without: techniques has '" + technique + "', which this level does not have");
    off.add(static_cast<Technique>(at - names.begin()));
  }
  if (raw.size() > kBlockBytes) throw Error(ErrorKind::invalid_argument, "size_without: raw is larger than a block");
  return ablated_size(raw, level, off, codec);
}

}  // namespace slipstick::logs
