// Writes the seed corpus: make_corpus FOLDER, the folder with this file. Made logs only; the same bytes on every machine.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "logs_test.h"

using namespace logs_test;

namespace {

void write(const std::filesystem::path& path, const std::string& data) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << data;
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", words[0]);
    return 2;
  }
  const std::filesystem::path folder = std::filesystem::path(words[1]) / "corpus";
  Random random(1);
  const std::vector<std::pair<const char*, std::string>> raws = {
      {"server", server_log(40, 1)},
      {"odd", "a\n\nfoo bar\r\n\"quoted text\" 10.1.2.3 23:59:59,123 0x1f2e\n" + random.text("ab1 .:\n", 120) + "no feed"},
      {"binary", random.bytes(90)},
      {"runs", std::string(400, 'x') + "\n"},
  };
  const std::vector<std::pair<int, const char*>> queries = {
      {0, "disk"},   {1, "(a|b)+1?$"},       {2 | 4, "ACCEPTED"}, {8 | 16 | 32, "foo"}, {16 | 64, "[0-9]\\{2,3\\}"},
      {128, "\\<r"}, {1, "sd[a-c]: [0-9]+%"}};
  std::vector<std::string> archives;
  for (const auto& [name, raw] : raws) {
    for (Level level : quick_levels()) {
      archives.push_back(pack(raw, level));
      write(folder / "logs_decode" / (std::string(name) + "_" + level_names()[static_cast<size_t>(level)]), archives.back());
    }
  }
  write(folder / "logs_decode" / "joined", archives[0] + archives[3]);
  const std::string lines = random.text("0123456789abcdef\n", 300) + "\n";
  const std::string continued = archive_of({lines, lines + "new\n", lines.substr(40), server_log(9, 1), lines.substr(90, 99) + "\n"});
  write(folder / "logs_decode" / "continued", continued);
  write(folder / "logs_grep" / "query_continued", std::string("\1", 1) + "a.*b|new\n" + continued);
  for (Level level : all_levels()) {
    write(folder / "logs_decode" / ("wide_" + level_names()[static_cast<size_t>(level)]), pack(wide_log(40, 1), level));
  }
  write(folder / "logs_decode" / "trimmed", pack(std::string(300000, 'x') + "\n", Level::fast));
  for (Level level : quick_levels()) {
    const std::string digests = pack(digest_log(30, 1), level);
    write(folder / "logs_decode" / ("digests_" + level_names()[static_cast<size_t>(level)]), digests);
    if (level == Level::fast) write(folder / "logs_grep" / "query_digests", std::string("\1", 1) + "sha256:[0-9]|[a-c]+/\n" + digests);
  }
  const std::string max = pack(server_log(12, 1), Level::max);
  write(folder / "logs_decode" / "server_max", max);
  write(folder / "logs_grep" / "query_max", std::string("\1", 1) + "sshd|[0-9]+%\n" + max);
  for (size_t i = 0; i < queries.size(); ++i) {
    const auto& [options, pattern] = queries[i];
    write(folder / "logs_grep" / ("query_" + std::to_string(i)),
          std::string(1, static_cast<char>(options)) + pattern + "\n" + archives[i % archives.size()] + (i % 3 == 0 ? archives[1] : ""));
  }
}
