#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/support/temporary_folder.h"
#include "train/checkpoint/parse_manifest.h"

using namespace smoe;

namespace {

// A manifest with every kind of entry.
Manifest sample() {
  Manifest manifest;
  manifest.step = 1234;
  manifest.build = "smoe \"1\"\n";
  manifest.device = "cpu";
  manifest.config_digest = {1, 2};
  manifest.data_digest = {3, 4};
  manifest.integers = {{"a.step", -5}, {"b", std::numeric_limits<std::int64_t>::max()}};
  manifest.reals = {{"nan", std::nan("")}, {"x", 0.1}};
  manifest.shards = {{"shard-00000.bin",
                      32,
                      {{"w", DType::f32, {2, 3}, 0, 24, {5, 6}},
                       {"empty", DType::bf16, {0, 7}, 24, 0, {7, 8}},
                       {"scalar", DType::f64, {}, 24, 8, {9, 10}}}}};
  return manifest;
}

// Gives `text` a valid seal, as an attacker would.
std::string sealed(const std::string& text) {
  const std::string body = text.substr(0, text.rfind("\"manifest_digest\""));
  return body + "\"manifest_digest\": \"" + digest_of(body).hex() + "\"\n}\n";
}

// The sample with one piece of its text replaced, and sealed again.
std::string with(const std::string& from, const std::string& to) {
  std::string text = manifest_text(sample());
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return sealed(text.replace(at, from.size(), to));
}

std::string error_of(const std::string& text) {
  return message_of([&] { parse_manifest(text, "m"); });
}

}  // namespace

TEST_CASE("a manifest survives a round trip") {
  const std::string text = manifest_text(sample());
  const Manifest read = parse_manifest(text, "m");
  CHECK(manifest_text(read) == text);
  CHECK(read.step == 1234);
  CHECK(read.build == sample().build);
  CHECK(std::isnan(read.reals.at("nan")));
  CHECK(read.reals.at("x") == 0.1);
  REQUIRE(read.shards.at(0).tensors.size() == 3);
  CHECK(read.shards[0].tensors[0].shape == Shape{2, 3});
  CHECK(read.shards[0].tensors[2].digest == Digest{9, 10});
}

TEST_CASE("configuration and data are optional, as earlier versions do not record them") {
  Manifest manifest = sample();
  manifest.config = "run:\n  name: \"r\"\n";
  manifest.data = ManifestData{.step = 7,
                               .batch = 9,
                               .tokens = 800,
                               .sources = {{"web", {11, 12}, 5}, {"code", {13, 14}, 4}}};
  const std::string text = manifest_text(manifest);
  const Manifest read = parse_manifest(text, "m");
  CHECK(manifest_text(read) == text);
  CHECK(read.config == manifest.config);
  REQUIRE(read.data);
  CHECK(read.data->sources.at(1).name == "code");
  CHECK(read.data->sources.at(1).samples == 4);
  const auto error_with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    return error_of(sealed(changed.replace(changed.find(from), from.size(), to)));
  };
  CHECK(error_with("\"batch\": 9", "\"batch\": -9").starts_with("m: data: batch: must be an int"));
  CHECK(error_with("\"samples\": 4", "\"samples\": \"4\"")
            .starts_with("m: data: sources[1]: samples: must be an integer"));
  CHECK(error_with("\"name\": \"web\", ", "").find("has no \"name\"") != std::string::npos);
}

TEST_CASE("processor and tokenizer are optional, as earlier versions do not record them") {
  CHECK(manifest_text(sample()).find("processor") == std::string::npos);
  Manifest manifest = sample();
  manifest.processor = "A CPU, OpenBLAS \"Haswell\"";
  manifest.tokenizer_digest = Digest{11, 12};
  const Manifest read = parse_manifest(manifest_text(manifest), "m");
  CHECK(read.processor == manifest.processor);
  CHECK(read.tokenizer_digest == manifest.tokenizer_digest);
  CHECK(manifest_text(read) == manifest_text(manifest));
  CHECK(error_of(with("\"integers\"", "\"tokenizer_digest\": \"x\",\n\"integers\"")) ==
        "m: tokenizer_digest: must be 32 hexadecimal digits; got x");
}

TEST_CASE("each violation of the format is reported in one line") {
  struct Case {
    const char* from;
    std::string to;
    const char* message;
  };
  const std::string big = "9223372036854775807";
  const Case cases[] = {
      {"\"smoe-checkpoint\"", "\"other\"", "m: format: must be smoe-checkpoint; got other"},
      {"\"version\": 2", "\"version\": 3",
       "m: has format version 3; this program reads versions up to 2"},
      {"\"version\": 2", "\"version\": \"2\"", "m: version: must be an integer from 1 to"},
      {"\"version\": 2", "\"version\": 1", "tensors[0]: must have 6 fields; got 7"},
      {"\"step\": 1234", "\"step\": -1", "m: step: must be an integer from 0 to"},
      {"\"step\": 1234", "\"step\": 1e3", "m: step: must be an integer"},
      {"\"step\": 1234", "\"step\": 18446744073709551615", "got 18446744073709551615"},
      {"\"step\": 1234", "\"step\": 1e999", "m: invalid JSON: a number is out of range"},
      {"\"step\": 1234", "\"step\": 1, \"step\": 2", "keys must occur once in an object; got step"},
      {"\"step\": 1234,", "", "m: has no \"step\""},
      {"\"step\": 1234", "\"step\": 1, \"more\": 2", "m: must have 12 fields; got 13"},
      {"\"step\": 1234", "\"step\": {}", "got an object"},
      {"\"world_size\": 1", "\"world_size\": 0", "m: world_size: must be an integer from 1"},
      {"00000000000000010000000000000002", "xyz", "config_digest: must be 32 hexadecimal digits"},
      {"\"device\": \"cpu\"", "\"device\": 5", "m: device: must be a string; got 5"},
      {"\"a.step\"", "\"a step\"", "m: a name must be 1 to 256 of A-Z a-z 0-9 . _ / -; got a step"},
      {"\"a.step\": -5", "\"a.step\": 0.5", "m: integers: must be an integer"},
      {"\"a.step\"", "\"w\"", "m: names must be unique; got w twice"},
      {"\"0.1\"", "0.1", "m: reals: must be a real number in quotes; got 0.1"},
      {"\"0.1\"", "\"0.1x\"", "m: reals: must be a real number"},
      {"\"0.1\"", "\"\"", "m: reals: must be a real number"},
      {"\"0.1\"", "\"1e999\"", "m: reals: must be a real number"},
      {"shard-00000.bin", "../../etc/passwd",
       "file: must be shard-00000.bin; got ../../etc/passwd"},
      {"shard-00000.bin", "/etc/passwd", "must be shard-00000.bin; got /etc/passwd"},
      {"shard-00000.bin", "a\\nb", "must be shard-00000.bin; got a\\nb"},
      {"\"bytes\": 32", "\"bytes\": -32", "m: shards[0]: bytes: must be an integer from 0"},
      {"\"bytes\": 32", "\"bytes\": 40", "its tensors must cover 40 bytes; got 32"},
      {"\"bytes\": 32", "\"bytes\": 31", "shards[0]: tensors[2]: must end inside its shard"},
      {"\"w\"", "\"scalar\"",
       "m: all entries of a tensor must have one dtype and shape; got scalar with others"},
      {"\"begin\": 0", "\"begin\": -1",
       "tensors[0]: begin: must be an integer from 0 to 6; got -1"},
      {"\"begin\": 0", "\"begin\": 7", "tensors[0]: begin: must be an integer from 0 to 6; got 7"},
      {"\"begin\": 0", "\"begin\": 1",
       "tensors[0]: bytes: must be an integer from 0 to 20; got 24"},
      {"\"w\"", "\"" + std::string(300, 'w') + "\"", "tensors[0]: name: must be 1 to 256 of"},
      {"\"f32\"", "\"f31\"", "tensors[0]: dtype: unknown; got f31"},
      {"[2,3]", "[2,-3]", "tensors[0]: shape: must be an integer from 0"},
      {"[2,3]", "[2,3,1,1,1]", "shape: must have at most 4 sizes; got 5"},
      {"[2,3]", "{\"a\": 1}", "shape: must be an array; got an object"},
      {"[2,3]", "[" + big + "," + big + "]", "shape: must have less than 2^63 bytes"},
      {"[2,3]", "[0," + big + "," + big + "]", "shape: must have less than 2^63 bytes"},
      {"[2,3]", "[1000000000]",
       "m: the entries of a tensor must hold each element once; got 6 of the 1000000000 of w"},
      {"[2,3]", "[2,2]", "tensors[0]: bytes: must be an integer from 0 to 16; got 24"},
      {"\"bytes\": 24", "\"bytes\": 23", "tensors[0]: bytes: must be a multiple of 4; got 23"},
      {"\"offset\": 0", "\"offset\": -8", "offset: must be an integer from 0 to 0; got -8"},
      {"\"offset\": 24", "\"offset\": 16", "tensors[1]: offset: must be an integer from 24 to 24"},
      {"\"offset\": 24", "\"offset\": 28", "tensors[1]: offset: must be an integer from 24 to 24"},
      {"\"digest\": \"0", "\"digest\": \"X", "tensors[0]: digest: must be 32 hexadecimal digits"},
      {"{\"name\": \"w\"", "7, {\"name\": \"w\"", "tensors[0]: must be an object; got 7"},
      {"\"shards\": [", "\"shards\": [], \"x\": [", "m: shards: must contain 1 to 100000; got 0"},
      {"\"cpu\"", std::string(100, '['), "m: must nest at most 8 levels deep; got more"},
      {"\"cpu\"", std::string(100'000, '['), "m: must nest at most 8 levels deep; got more"},
      {"\"cpu\"", "\"\xff\xfe\"", "m: invalid JSON at byte"},
      {"\"cpu\"", "\"c\npu\"", "m: invalid JSON at byte"},
      {"\"cpu\"", "cpu", "m: invalid JSON at byte"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.from);
    CAPTURE(c.to.substr(0, 60));
    const std::string message = error_of(with(c.from, c.to));
    CHECK_MESSAGE(message.find(c.message) != std::string::npos, message);
    CHECK(message.substr(0, 2) == "m:");
    CHECK(message.size() < 300);
    CHECK(message.find('\n') == std::string::npos);
  }
}

// A manifest of tensor w, f32 [10], in entries of the given first elements and counts.
std::string error_of_ranges(const std::vector<std::pair<std::int64_t, std::int64_t>>& ranges,
                            ManifestCoverage coverage = ManifestCoverage::whole) {
  Manifest manifest;
  for (const auto& [begin, numel] : ranges) {
    manifest.shards.push_back({shard_name(static_cast<std::int64_t>(manifest.shards.size())),
                               numel * 4,
                               {{"w", DType::f32, {10}, 0, numel * 4, {5, 6}, begin}}});
  }
  return message_of([&] { parse_manifest(manifest_text(manifest), "m", coverage); });
}

TEST_CASE("the entries of a tensor hold each element once") {
  CHECK(error_of_ranges({{0, 10}}) == "no error");
  CHECK(error_of_ranges({{4, 6}, {0, 1}, {1, 3}}) == "no error");
  const std::string rule = "m: the entries of a tensor must hold each element once; got ";
  CHECK(error_of_ranges({{0, 4}, {5, 5}}) == rule + "w with elements 5 to 10 after 4");
  CHECK(error_of_ranges({{0, 6}, {5, 5}}) == rule + "w with elements 5 to 10 after 6");
  CHECK(error_of_ranges({{1, 9}}) == rule + "w with elements 1 to 10 after 0");
  CHECK(error_of_ranges({{0, 9}}) == rule + "9 of the 10 of w");
  CHECK(error_of_ranges({{0, 10}, {10, 0}}) == rule + "w with elements 10 to 10 after 10");
  CHECK(error_of_ranges({{0, 10}, {0, 10}}) == rule + "w with elements 0 to 10 after 10");
  // What one of several writers has.
  CHECK(error_of_ranges({{7, 2}, {1, 3}}, ManifestCoverage::part) == "no error");
  CHECK(error_of_ranges({{1, 3}, {2, 3}}, ManifestCoverage::part) ==
        rule + "w with elements 2 to 5 after 4");
}

TEST_CASE("a base is optional, and unknown to version 1") {
  CHECK(manifest_text(sample()).find("base_digest") == std::string::npos);
  Manifest manifest = sample();
  manifest.base_digest = Digest{13, 14};
  const std::string text = manifest_text(manifest);
  CHECK(parse_manifest(text, "m").base_digest == manifest.base_digest);
  CHECK(manifest_text(parse_manifest(text, "m")) == text);
}

TEST_CASE("text without a valid seal is not parsed") {
  const std::string text = manifest_text(sample());
  CHECK(error_of("").find("must end with its digest") != std::string::npos);
  CHECK(error_of(std::string(10'000, '\0')).find("is damaged") != std::string::npos);
  CHECK(error_of(text + " ").find("is damaged") != std::string::npos);
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const int bit : {0, 3, 5, 7}) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ 1 << bit);
      CHECK(error_of(flipped).find("is damaged") != std::string::npos);
    }
  }
}

TEST_CASE("arbitrary sealed text yields a manifest or a one-line error, never a crash") {
  std::mt19937_64 random(3);
  const std::string pieces[] = {"{",    "}",    "[",    "]",  "\"", ",",   ":",      "0",
                                "-1",   "1e99", "null", "\\", "32", "f64", "\x80",   "99999999999",
                                "true", "w",    "\n",   " ",  "24", "bin", "offset", "\"name\""};
  const std::string text = manifest_text(sample());
  int num_read = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string mutant = text;
    for (std::uint64_t edits = 1 + random() % 3; edits > 0; --edits) {
      const std::size_t at = random() % (mutant.size() - 60);
      mutant.replace(at, random() % 4, pieces[random() % std::size(pieces)]);
    }
    const std::string message = error_of(sealed(mutant));
    num_read += message == "no error";
    if (message != "no error") {
      CHECK(message.substr(0, 2) == "m:");
      CHECK(message.find('\n') == std::string::npos);
    }
  }
  CHECK(num_read > 0);
  CHECK(num_read < 10'000);
}
