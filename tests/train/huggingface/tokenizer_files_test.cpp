// tests/oracle/check_export.py checks these files with Hugging Face's tokenizers.
#include "train/huggingface/tokenizer_files.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/support/temporary_folder.h"
#include "tests/train/data/small_model.h"
#include "train/data/sentencepiece_tokenizer.h"

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
        std::vector<std::string>{"tokenizer.model", "tokenizer_config.json"});
  const nlohmann::json config = json_of(folder / "tokenizer_config.json");
  CHECK(config["tokenizer_class"] == "LlamaTokenizer");
  CHECK(config["bos_token"] == "</s>");
  CHECK(config["unk_token"] == "<unk>");
  CHECK(config["add_prefix_space"] == false);
  const TokenizerFound found = read_tokenizer_files(folder.path());
  REQUIRE(found.tokenizer);
  CHECK(found.tokenizer->digest() == pieces.digest());
}

TEST_CASE("a folder without a supported tokenizer gives the reason") {
  const TemporaryFolder folder;
  CHECK(read_tokenizer_files(folder.path()).reason == "the folder has none");
  overwrite(folder / "tokenizer.json", "{}");
  CHECK(read_tokenizer_files(folder.path()).reason ==
        "the folder has no SentencePiece file tokenizer.model");
  overwrite(folder / "tokenizer.model", "{}");
  const TokenizerFound found = read_tokenizer_files(folder.path());
  CHECK(!found.tokenizer);
  CHECK(found.reason.starts_with(folder / "tokenizer.model" + ": "));
}
