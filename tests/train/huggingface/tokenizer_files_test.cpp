// tests/oracle/check_export.py checks these files with Hugging Face's tokenizers.
#include "train/huggingface/tokenizer_files.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/tokenizer/sentencepiece_tokenizer.h"

using namespace smoe;

namespace {

nlohmann::json json_of(const std::string& path) {
  return nlohmann::json::parse(read_file(path, 1 << 20));
}

}  // namespace

TEST_CASE("the byte-level tokenizer becomes a byte-level BPE without merges") {
  const TemporaryFolder folder;
  const ByteTokenizer bytes;
  CHECK(write_tokenizer_files(bytes, folder.path(), 64) ==
        std::vector<std::string>{"tokenizer.json", "tokenizer_config.json"});
  const nlohmann::json json = json_of(folder / "tokenizer.json");
  const nlohmann::json& vocab = json["model"]["vocab"];
  CHECK(vocab.size() == 256);
  CHECK(vocab["!"] == 0x21);
  CHECK(vocab["~"] == 0x7E);
  CHECK(vocab["\xC4\xA0"] == ' ');   // U+0120, as in GPT-2's vocabulary
  CHECK(vocab["\xC4\x8A"] == '\n');  // U+010A
  CHECK(vocab["\xC3\xBF"] == 0xFF);  // U+00FF
  CHECK(vocab["\xC5\x83"] == 0xAD);  // U+0143, the last mapped one
  CHECK(json["model"]["merges"].empty());
  CHECK(json["added_tokens"][0]["id"] == bytes.end_of_text());
  CHECK(json_of(folder / "tokenizer_config.json")["model_max_length"] == 64);
  const TokenizerFound found = read_tokenizer_files(folder.path());
  REQUIRE(found.tokenizer);
  CHECK(found.tokenizer->digest() == bytes.digest());
}

TEST_CASE("a SentencePiece model is exported with its settings and imported unchanged") {
  const TemporaryFolder folder;
  const SentencePieceTokenizer pieces(test::small_model(), "small");
  CHECK(write_tokenizer_files(pieces, folder.path(), 64) ==
        std::vector<std::string>{"tokenizer.model", "tokenizer_config.json", "tokenizer.json"});
  const nlohmann::json config = json_of(folder / "tokenizer_config.json");
  CHECK(config["tokenizer_class"] == "LlamaTokenizer");
  CHECK(config["bos_token"] == "</s>");
  CHECK(config["unk_token"] == "<unk>");
  CHECK(config["add_prefix_space"] == false);
  const TokenizerFound found = read_tokenizer_files(folder.path());
  REQUIRE(found.tokenizer);
  CHECK(found.tokenizer->digest() == pieces.digest());
}

TEST_CASE("tokenizer.json is read by its meaning") {
  const TemporaryFolder folder;
  const std::string path = folder / "tokenizer.json";
  write_tokenizer_files(ByteTokenizer(), folder.path(), 64);
  nlohmann::json json = json_of(path);
  json["added_tokens"][0]["rstrip"] = true;  // and other order, indentation and keys
  json["model"]["ignore_merges"] = true;
  overwrite(path, json.dump());
  REQUIRE(read_tokenizer_files(folder.path()).tokenizer);
  CHECK(read_tokenizer_files(folder.path()).tokenizer->digest() == ByteTokenizer().digest());
  json["model"]["vocab"]["!"] = 300;  // another tokenizer
  overwrite(path, json.dump());
  CHECK(read_tokenizer_files(folder.path()).tokenizer->vocab_size() == 301);
  json["model"]["vocab"].erase("!");
  overwrite(path, json.dump());
  CHECK(read_tokenizer_files(folder.path()).reason ==
        path + ": vocab: must have a piece for each byte; ! is missing");

  for (const bool has_prefix : {false, true}) {
    const std::string rules(has_prefix ? "\x1a\x0e\x0a\x08identity\x18\x01\x20\x00" : "",
                            has_prefix ? 16 : 0);
    const SentencePieceTokenizer pieces(test::small_model() + rules, "small");
    write_tokenizer_files(pieces, folder.path(), 64);
    CHECK(json_of(path)["normalizer"]["type"] == (has_prefix ? "Sequence" : "Replace"));
    remove_file(folder / "tokenizer.model");
    json = json_of(path);
    if (has_prefix) {  // as written by earlier versions
      for (nlohmann::json& merge : json["model"]["merges"])
        merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
      overwrite(path, json.dump());
    }
    const TokenizerFound found = read_tokenizer_files(folder.path());
    REQUIRE_MESSAGE(found.tokenizer, found.reason);
    CHECK(found.tokenizer->vocab_size() == pieces.vocab_size());
    CHECK(found.tokenizer->begin_of_text() == pieces.begin_of_text());
    CHECK(found.tokenizer->end_of_text() == pieces.end_of_text());
    CHECK(found.tokenizer->document_prefix() == pieces.document_prefix());
    for (const std::string& text :
         {test::small_text(),
          std::string("  odd\n\n  t\xC3\xA4xt \xF0\x9F\x98\x80 12345 ooooooo ")}) {
      std::vector<std::int32_t> wanted, got;
      pieces.encode(text, wanted);
      found.tokenizer->encode(text, got);
      CHECK(got == wanted);
    }
    json["pre_tokenizer"] = {{"type", "Whitespace"}};
    overwrite(path, json.dump());
    CHECK(read_tokenizer_files(folder.path())
              .reason.ends_with("got the model BPE, the normalizer " +
                                std::string(has_prefix ? "Sequence" : "Replace") +
                                " and the pre_tokenizer Whitespace"));
    remove_file(path);
  }
}

TEST_CASE("a folder without a supported tokenizer gives the reason") {
  const TemporaryFolder folder;
  CHECK(read_tokenizer_files(folder.path()).reason == "the folder has none");
  overwrite(folder / "tokenizer.json", "{}");
  CHECK(
      read_tokenizer_files(folder.path())
          .reason.ends_with("got the model null, the normalizer null and the pre_tokenizer null"));
  overwrite(folder / "tokenizer.json", "{\"model\": {\"type\": 5}, \"added_tokens\": 3}");
  CHECK(read_tokenizer_files(folder.path()).reason ==
        folder / "tokenizer.json" + ": must be a file of Hugging Face's tokenizers");
  remove_file(folder / "tokenizer.json");
  overwrite(folder / "tokenizer.model", "junk");
  const TokenizerFound found = read_tokenizer_files(folder.path());
  CHECK(!found.tokenizer);
  CHECK(found.reason.starts_with(folder / "tokenizer.model" + ": "));
}

TEST_CASE("a byte-level tokenizer is exported as it was imported") {
  for (const std::string kind : {"llama3", "qwen", "deepseek"}) {
    const std::string source = "tests/oracle/byte-level/" + kind;
    const TokenizerFound first = read_tokenizer_files(source);
    REQUIRE_MESSAGE(first.tokenizer, first.reason);
    const TemporaryFolder folder;
    CHECK(write_tokenizer_files(*first.tokenizer, folder.path(), 64) ==
          std::vector<std::string>{"tokenizer.json", "tokenizer_config.json"});
    CHECK(json_of(folder / "tokenizer_config.json")["eos_token"] ==
          json_of(source + "/tokenizer_config.json")["eos_token"]);
    CHECK(json_of(folder / "tokenizer.json")["model"]["merges"] ==
          json_of(source + "/tokenizer.json")["model"]["merges"]);
    const TokenizerFound again = read_tokenizer_files(folder.path());
    REQUIRE_MESSAGE(again.tokenizer, again.reason);
    CHECK(again.tokenizer->digest() == first.tokenizer->digest());
  }
}
