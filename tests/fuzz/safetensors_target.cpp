// Safetensors files, and the index of a model with several files.
#include "tests/fuzz/target.h"
#include "train/huggingface/weight_files.h"

namespace smoe::fuzz {
namespace {

std::string with_length(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + data;
}

const std::string kHeader = R"({"__metadata__":{"format":"pt"},)"
                            R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                            R"("b.weight":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},)"
                            R"("empty":{"dtype":"F16","shape":[0,7],"data_offsets":[32,32]},)"
                            R"("scalar":{"dtype":"I64","shape":[],"data_offsets":[32,40]}} )";

std::vector<std::string> json_words(const std::string& canary) {
  return {"{",
          "}",
          "[",
          "]",
          ",",
          ":",
          "\"",
          "\\u0000",
          "null",
          "{\"a\":",
          "[[",
          "\"F32\"",
          "\"F8_E4M3\"",
          "\"shape\":[",
          "[0,0]",
          "1.0",
          "-1",
          "\xff",
          "\"__metadata__\":{",
          "\"dtype\":",
          "\"data_offsets\":[",
          "\"" + canary + "\""};
}

// Length of the apparent header.
std::string repair(std::string bytes) {
  const std::size_t end = bytes.rfind('}');
  if (bytes.size() < 9 || end == std::string::npos || end < 8) return bytes;
  return with_length(bytes.substr(8, end - 7), bytes.substr(end + 1));
}

void check_entries(const SafetensorsFile& file, std::int64_t file_bytes) {
  std::int64_t last = 0;
  for (const SafetensorsEntry& entry : file.entries()) {
    require(entry.offset >= last && entry.bytes >= 0, entry.name, ": overlaps other data");
    last = entry.offset + entry.bytes;
    require(file.find(entry.name) == &entry, entry.name, ": is not found");
    for (const DType dtype : {DType::f32, DType::i64}) {
      try {
        require(file.read(entry, dtype).shape() == entry.shape(), entry.name, ": another shape");
      } catch (const UsageError&) {  // not convertible to this dtype
      }
    }
  }
  require(file.entries().empty() || last == file_bytes, "does not end with its file");
}

}  // namespace

Target safetensors_target(const Playground& playground) {
  const std::string path = playground.folder + "/a.safetensors";
  Target target;
  target.seeds = {with_length(kHeader, std::string(40, 'x')), with_length("{}", ""),
                  with_length(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"),
                  std::string(8, '\xff'), with_length("", "")};
  target.dictionary = json_words(playground.canary);
  target.repair = repair;
  target.read = [path](const std::string& input) {
    put_file(path, input);
    check_entries(SafetensorsFile(path), static_cast<std::int64_t>(input.size()));
  };
  return target;
}

Target weight_index_target(const Playground& playground) {
  const std::string& folder = playground.folder;
  const auto one = [](const char* name) {
    return with_length(concat("{\"", name, R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})"),
                       "x");
  };
  put_file(folder + "/model-1.safetensors", one("a"));
  put_file(folder + "/model-2.safetensors", one("b"));
  Target target;
  target.seeds = {
      R"({"metadata":{"total_size":2},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})",
      R"({"weight_map":{"a":"model-1.safetensors"}})",
      concat(R"({"weight_map":{"a":")", playground.canary, R"("}})"),
      R"({"weight_map":{"a":"../../tmp/smoe-fuzz-canary/weight_index"}})"};
  target.dictionary = json_words(playground.canary);
  for (const char* word : {"../", "/", "model-1.safetensors", "model-2.safetensors", ".safetensors",
                           "weight_map", "\\u0000.safetensors", "\"b\":"})
    target.dictionary.emplace_back(word);
  target.read = [folder](const std::string& input) {
    put_file(folder + "/model.safetensors.index.json", input);
    const WeightFiles files(folder);
    require(files.num_tensors() == files.bytes(), "tensors of one byte have more");
    for (const std::string& name : files.names())
      require(files.read(name, DType::u8).numel() == 1, name, ": another size");
  };
  return target;
}

}  // namespace smoe::fuzz
