// The ids that Hugging Face's tokenizers give are those of tests/oracle/make_byte_level.py.
#include "train/tokenizer/byte_level_tokenizer.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "core/base/check.h"
#include "core/system/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "train/tokenizer/tokenizer_json.h"

using namespace smoe;

namespace {

using Json = nlohmann::json;

const char* const kKinds[] = {"gpt2", "llama3", "qwen", "gpt4o", "deepseek", "digits"};
const std::string kFolder = "tests/oracle/byte-level/";

std::unique_ptr<Tokenizer> load_kind(const std::string& kind) {
  return load_tokenizer(kFolder + kind + "/tokenizer.json");
}

Json json_of_kind(const std::string& kind) {
  return Json::parse(read_file(kFolder + kind + "/tokenizer.json", 1 << 20));
}

Json expected() {
  static const Json kExpected = Json::parse(read_file(kFolder + "expected.json", 1 << 20));
  return kExpected;
}

std::vector<std::int32_t> encoded(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

std::string decoded(const Tokenizer& tokenizer, const std::vector<std::int32_t>& tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text += tokenizer.bytes_of(token);
  return text;
}

std::string refusal(const Json& json, const std::string& end_token = "") {
  try {
    read_tokenizer_json(json.dump(), "t.json", end_token);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("byte-level tokenizers give the ids of Hugging Face's tokenizers") {
  for (const std::string kind : kKinds) {
    CAPTURE(kind);
    const auto tokenizer = load_kind(kind);
    const Json wanted = expected();
    REQUIRE(wanted[kind].size() == 200);
    for (std::size_t i = 0; i < 200; ++i) {
      const std::string text = wanted["strings"][i];
      const auto tokens = encoded(*tokenizer, text);
      CHECK_MESSAGE(tokens == wanted[kind][i].get<std::vector<std::int32_t>>(), text);
      if (kind != "qwen") CHECK(decoded(*tokenizer, tokens) == text);
    }
  }
}

TEST_CASE("begin and end tokens are the model's") {
  const auto gpt2 = load_kind("gpt2"), llama3 = load_kind("llama3"), qwen = load_kind("qwen");
  CHECK(gpt2->begin_of_text() == gpt2->end_of_text());
  CHECK(!gpt2->begins_prompts());
  CHECK(llama3->begins_prompts());
  CHECK(llama3->end_of_text() == llama3->begin_of_text() + 1);
  CHECK(llama3->summary() == "byte-level BPE, vocabulary 422, texts begin with <|begin_of_text|>");
  CHECK(!qwen->begins_prompts());  // tokenizer_config.json names <|im_end|>
  CHECK(qwen->bytes_of(qwen->end_of_text()).empty());
  CHECK(encoded(*llama3, "<|begin_of_text|>").size() > 1);  // text never becomes a special token
  CHECK(refusal(json_of_kind("gpt2"), "<nothing>")
            .ends_with("vocab: must have the token that ends text; <nothing> is missing"));
}

TEST_CASE("text is cut only where that does not change its tokens") {
  std::mt19937 random(1);
  for (const std::string kind : kKinds) {
    const auto tokenizer = load_kind(kind);
    const Json strings = expected()["strings"];
    std::size_t num_cut = 0;
    for (int round = 0; round < 1000; ++round) {
      std::string text;
      for (int i = 0; i < 3; ++i) text += strings[random() % strings.size()].get<std::string>();
      if (round % 10 == 0) text.insert(random() % text.size(), "\xE2\x96\xFF\xF0");
      const std::size_t known = random() % text.size();
      const std::size_t cut = tokenizer->settled_prefix(std::string_view(text).substr(0, known));
      REQUIRE(cut <= known);
      num_cut += cut > 0;
      auto parts = encoded(*tokenizer, std::string_view(text).substr(0, cut));
      tokenizer->encode(std::string_view(text).substr(cut), parts);
      CHECK_MESSAGE(parts == encoded(*tokenizer, text), kind, " ", text.substr(0, known));
    }
    CHECK_MESSAGE(num_cut > 600, kind, " ", num_cut);
  }
}

TEST_CASE("bytes that are not UTF-8 survive") {
  const auto tokenizer = load_kind("llama3");
  for (const char* text : {"\xFF", "a\xE2\x96", "\xC0\xAF the \xF0\x9F\x98", "\x80\x80 expert"})
    CHECK(decoded(*tokenizer, encoded(*tokenizer, text)) == text);
}

TEST_CASE("a byte-level tokenizer is constructed from its file, and recognized by meaning") {
  for (const std::string kind : kKinds) {
    const auto tokenizer = load_kind(kind);
    const auto again = make_tokenizer(tokenizer->file_bytes(), "again");
    CHECK(again->digest() == tokenizer->digest());
    CHECK(again->begins_prompts() == tokenizer->begins_prompts());
    CHECK(again->end_of_text() == tokenizer->end_of_text());
  }
  Json json = json_of_kind("gpt2");  // as other programs save it
  for (Json& merge : json["model"]["merges"]) {
    const std::string text = merge;
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {json["pre_tokenizer"]}}};
  json["truncation"] = {{"max_length", 5}};
  const auto same = read_tokenizer_json(json.dump(2), "t.json", "<|endoftext|>");
  CHECK(same->digest() == load_kind("gpt2")->digest());
}

TEST_CASE("what a tokenizer.json has that is not known is an error with its name") {
  const auto changed = [](const char* pointer, const Json& value) {
    Json json = json_of_kind("llama3");
    json[Json::json_pointer(pointer)] = value;
    return refusal(json, "<|end_of_text|>");
  };
  CHECK(changed("/normalizer", {{"type", "NFKC"}}) ==
        "t.json: normalizer: NFKC is not supported; NFC is");
  CHECK(changed("/model/dropout", 0.5) == "t.json: model: dropout is not supported; got 0.5");
  CHECK(changed("/model/end_of_word_suffix", "</w>") ==
        "t.json: model: end_of_word_suffix is not supported; got \"</w>\"");
  CHECK(changed("/post_processor", {{"type", "BertProcessing"}}) ==
        "t.json: post_processor: BertProcessing is not supported");
  CHECK(changed("/pre_tokenizer/pretokenizers/0", {{"type", "Punctuation"}}) ==
        "t.json: pre_tokenizer: the step Punctuation is not supported before ByteLevel");
  CHECK(changed("/pre_tokenizer/pretokenizers/0/behavior", "Removed") ==
        "t.json: pre_tokenizer: Split must isolate what it finds; got the behavior \"Removed\"");
  CHECK(changed("/pre_tokenizer/pretokenizers/1/add_prefix_space", true) ==
        "t.json: pre_tokenizer: ByteLevel with add_prefix_space is not supported");
  CHECK(changed("/model/vocab", Json::object()).find("must have a piece for each byte") !=
        std::string::npos);
  CHECK(changed("/model/merges/0", Json::array({"q", "nothing"})).ends_with("is missing"));
  const auto pattern = [&](const char* text) {
    return changed("/pre_tokenizer/pretokenizers/0/pattern/Regex", text);
  };
  CHECK(pattern("\\bword") ==
        "t.json: the split pattern must not have \\b; got the pattern \\bword");
  for (const char* text : {"^a", "a$", "(?<=a)b", "(?m:.)", "[a&&b]", "[a[b]]", "\\w+", "\\h",
                           "a{1}+", "a{,2}", "(*FAIL)", "[\\S]", "[]a]", "\\"})
    CHECK_MESSAGE(pattern(text).find("must not have") != std::string::npos, text);
  CHECK(pattern("(a").find("must be a regular expression") != std::string::npos);
  CHECK(pattern("a*").find("must not match empty text") != std::string::npos);
}

TEST_CASE("patterns that take too long end with an error") {
  Json json = json_of_kind("llama3");
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(?:a+)+[^a]";
  const auto tokenizer = read_tokenizer_json(json.dump(), "t.json", "<|end_of_text|>");
  CHECK_THROWS_WITH_AS(encoded(*tokenizer, std::string(60, 'a')),
                       "t.json: its split pattern cannot be matched: match limit exceeded",
                       UsageError);
}
