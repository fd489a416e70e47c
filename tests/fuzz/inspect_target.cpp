// `smoe inspect` on arbitrary files. The first byte of an input selects the file's name.
#include "tests/fuzz/target.h"
#include "train/inspect/inspect.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe::fuzz {
namespace {

const char* const kNames[] = {"a.yaml", "a.safetensors",  "manifest.json", "a.model",
                              "a.h5",   "tokenizer.json", "unknown"};

}  // namespace

Target inspect_target(const Playground& playground) {
  const std::string folder = playground.folder;
  Target target = config_target(playground);
  for (std::string& seed : target.seeds) seed = '\0' + seed;
  const Target manifest = manifest_target(playground), safetensors = safetensors_target(playground);
  for (const std::string& seed : safetensors.seeds) target.seeds.push_back('\1' + seed);
  for (const std::string& seed : manifest.seeds) target.seeds.push_back('\2' + seed);
  target.seeds.push_back('\5' + ByteTokenizer().file_bytes());
  for (const Target* other : {&manifest, &safetensors})
    target.dictionary.insert(target.dictionary.end(), other->dictionary.begin(),
                             other->dictionary.end());
  target.read = [folder](const std::string& input) {
    SMOE_CHECK(!input.empty(), "inspect: the input must not be empty");
    const auto kind = static_cast<unsigned char>(input[0]);
    const std::string path = folder + "/" + kNames[kind % std::size(kNames)];
    put_file(path, input.substr(1));
    const std::string text = inspect(path);
    require(text.size() < (std::size_t{1} << 22), "prints ", text.size(), " bytes");
    for (const char c : text)
      require(c == '\n' || static_cast<unsigned char>(c) >= 0x20,
              "prints control characters: ", text);
  };
  target.repair = [manifest, safetensors](const std::string& input) {
    if (input.empty()) return input;
    const Target* const target = input[0] == '\1' ? &safetensors : &manifest;
    const bool is_theirs = input[0] == '\1' || input[0] == '\2';
    return is_theirs ? input.substr(0, 1) + target->repair(input.substr(1)) : input;
  };
  return target;
}

}  // namespace smoe::fuzz
