// Runs a fuzz target without libFuzzer: TARGET FOLDER [MUTATIONS [SEED]]. Every file of the folder is replayed as it is, then so many
// mutations of them, which follow from the seed alone. What is being run stands in TARGET.input, where it is found after a crash. A
// finding becomes a file in the folder and stays there.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "logs_test.h"
#include "target.h"

namespace {

std::string mutated(const std::vector<std::string>& corpus, logs_test::Random& random) {
  std::string data = random.of(corpus);
  for (uint64_t edits = 1 + random.below(4); edits > 0 && !data.empty(); --edits) {
    const size_t at = random.below(data.size());
    switch (random.below(7)) {
      case 0: data[at] = static_cast<char>(data[at] ^ 1 << random.below(8)); break;
      case 1: data[at] = random.of(std::string_view("\0\1\n\177\200\377", 6)); break;
      case 2: data[at] = static_cast<char>(data[at] + static_cast<char>(random.below(9)) - 4); break;
      case 3:
        if (random.chance(8)) data.resize(at);
        break;
      case 4: data.erase(at, 1 + random.below(8)); break;
      // One draw a statement: the order of arguments is the compiler's.
      case 5: {
        const size_t from = random.below(data.size()), count = 1 + random.below(16);
        data.insert(at, data.substr(from, count));
        break;
      }
      default: {
        const std::string& other = random.of(corpus);
        const size_t replaced = 1 + random.below(32), from = random.below(other.size() + 1), count = random.below(32);
        data.replace(at, replaced, other.substr(from, count));
      }
    }
  }
  return data;
}

void run(const std::string& data, const std::string& trace) {
  std::ofstream(trace, std::ios::binary) << data;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(data.data()), data.size());
}

}  // namespace

int main(int count, char** words) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [MUTATIONS [SEED]]\n", words[0]);
    return 2;
  }
  const std::string trace = std::string(words[0]) + ".input";
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(words[1])) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());   // mutations follow from the seed, not from the file system
  // What mutations are made of: forty copies of each file, but one of those of `max`, which take a hundred times as long.
  std::vector<std::string> corpus;
  for (const std::filesystem::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    const std::string data(std::istreambuf_iterator<char>(file), {});
    run(data, trace);
    const std::string name = path.filename().string();
    const bool slow = name.size() >= 4 && name.compare(name.size() - 4, 4, "_max") == 0;
    corpus.insert(corpus.end(), slow ? 1 : 40, data);
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no inputs\n", words[1]);
    return 2;
  }
  // SLIPSTICK_FUZZ=N multiplies the rounds, for long runs.
  const char* factor = std::getenv("SLIPSTICK_FUZZ");
  const uint64_t mutations = (count > 2 ? std::strtoull(words[2], nullptr, 10) : 0) * (factor ? std::strtoull(factor, nullptr, 10) : 1);
  logs_test::Random random(count > 3 ? std::strtoull(words[3], nullptr, 10) : 20261126);
  for (uint64_t i = 0; i < mutations; ++i) run(mutated(corpus, random), trace);
  std::filesystem::remove(trace);
  std::printf("%zu files, %llu mutations\n", paths.size(), static_cast<unsigned long long>(mutations));
}
