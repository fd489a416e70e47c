#include "train/tokenizer/byte_level_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/base/check.h"
#include "core/system/json_reader.h"
#include "core/system/text.h"
#include "train/tokenizer/byte_alphabet.h"
#include "train/tokenizer/ruby_pattern.h"
#include "train/tokenizer/tokenizer_json_fields.h"
#include "train/tokenizer/tokenizer_json_parts.h"

namespace smoe {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;
using Ids = std::unordered_map<std::string, std::int32_t>;

constexpr const char* kKind = "byte_level_bpe";

// What the pre-tokenizer ByteLevel splits by where it is not told otherwise (GPT-2's expression).
constexpr const char* kDefaultPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Names of the token that ends a text, for files that do not say which it is.
constexpr const char* kEndNames[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>",
                                     "<\xEF\xBD\x9C"
                                     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"};

bool is_off(const Json& value) {
  return value.is_null() || value == false || value == "" || value == 0.0;
}

std::string pattern_of(const Json& split, const std::string& path) {
  const Json& pattern = json_field(split, "pattern");
  const Json& behavior = json_field(split, "behavior");
  const bool inverts = !is_off(json_field(split, "invert"));
  // Inverted, what the pattern matches is kept, and it matches everything.
  SMOE_CHECK((behavior == "Isolated" && !inverts) || (behavior == "Removed" && inverts), path,
             ": pre_tokenizer: Split must isolate what it finds; got the behavior ",
             shown(behavior), inverts ? ", inverted" : "");
  const Json& text = json_field(pattern, "String");
  return text.is_string() ? literal_pattern(text.get<std::string>())
                          : json_field(pattern, "Regex").get<std::string>();
}

std::vector<std::string> read_patterns(const Json& json, const std::string& path) {
  std::vector<std::string> patterns;
  bool is_done = false;
  for (const Json& step : steps_of(json_field(json, "pre_tokenizer"), "pretokenizers")) {
    const std::string type = type_of(step);
    SMOE_CHECK(!is_done, path, ": pre_tokenizer: ByteLevel must be the last step; got ",
               printable(type), " after it");
    if (type == "Split") {
      patterns.push_back(pattern_of(step, path));
    } else if (type == "Digits") {
      patterns.push_back(is_off(json_field(step, "individual_digits")) ? R"(\p{N}+)" : R"(\p{N})");
    } else {
      SMOE_CHECK(type == "ByteLevel", path, ": pre_tokenizer: the step ", printable(type),
                 " is not supported before ByteLevel");
      SMOE_CHECK(is_off(json_field(step, "add_prefix_space")), path,
                 ": pre_tokenizer: ByteLevel with add_prefix_space is not supported");
      const Json& uses_pattern = json_field(step, "use_regex");  // absent in old files
      if (uses_pattern.is_null() || uses_pattern == true) patterns.push_back(kDefaultPattern);
      is_done = true;
    }
  }
  return patterns;
}

bool read_normalizer(const Json& json, const std::string& path) {
  const std::vector<Json> steps = steps_of(json_field(json, "normalizer"), "normalizers");
  for (const Json& step : steps)
    SMOE_CHECK(type_of(step) == "NFC", path, ": normalizer: ", printable(type_of(step)),
               " is not supported; NFC is");
  return !steps.empty();
}

std::vector<AddedToken> read_added(const Json& json, const std::string& path) {
  std::vector<AddedToken> tokens;
  for (const Json& token : json_field(json, "added_tokens")) {
    AddedToken added{.id = json_field(token, "id").get<std::int32_t>(),
                     .content = json_field(token, "content"),
                     .is_special = !is_off(json_field(token, "special")),
                     .is_normalized = !is_off(json_field(token, "normalized"))};
    for (const char* setting : {"single_word", "lstrip", "rstrip"})
      SMOE_CHECK(added.is_special || is_off(json_field(token, setting)), path,
                 ": added_tokens: ", setting, " is not supported for tokens of text; got ",
                 printable(added.content));
    // Which of them a text has is decided without normalization.
    if (added.is_special) added.is_normalized = false;
    tokens.push_back(std::move(added));
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return tokens;
}

Ids ids_of(const std::vector<std::string>& pieces, const std::string& path) {
  Ids ids;
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    const bool is_new =
        pieces[id].empty() || ids.emplace(pieces[id], static_cast<std::int32_t>(id)).second;
    SMOE_CHECK(is_new, path, ": vocab: pieces must be unique; got ", printable(pieces[id]),
               " twice");
  }
  return ids;
}

void check_model(const Json& model, const std::string& path) {
  const std::string type = type_of(model);
  SMOE_CHECK(type == "BPE" || (type == "?" && !json_field(model, "merges").is_null()), path,
             ": a byte-level model must be of type BPE; got ", printable(type));
  for (const char* setting : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
    SMOE_CHECK(is_off(json_field(model, setting)), path, ": model: ", setting,
               " is not supported; got ", shown(json_field(model, setting)));
}

std::int32_t id_of(const Ids& ids, const std::string& piece, const std::string& what,
                   const std::string& path) {
  const auto found = ids.find(piece);
  SMOE_CHECK(found != ids.end(), path, ": vocab: must have ", what, "; ", printable(piece),
             " is missing");
  return found->second;
}

void read_merges(const Json& model, const Ids& ids, const std::string& path,
                 ByteLevelModel& result) {
  const std::string what = "the pieces of its merges and their results";
  for (const Json& merge : json_field(model, "merges")) {
    const auto [left, right] = read_merge(merge, path);
    id_of(ids, left + right, what, path);
    result.merges.emplace_back(id_of(ids, left, what, path), id_of(ids, right, what, path));
  }
}

// The model but for its begin and end tokens.
ByteLevelModel parse_parts(const Json& json, const std::string& path, Ids& ids) {
  const Json& model = json_field(json, "model");
  check_model(model, path);
  ByteLevelModel result;
  result.pieces = read_vocab(json, path);
  ids = ids_of(result.pieces, path);
  for (const std::string& character : byte_characters())
    id_of(ids, character, "a piece for each byte", path);
  read_merges(model, ids, path, result);
  result.added = read_added(json, path);
  result.patterns = read_patterns(json, path);
  result.composes = read_normalizer(json, path);
  result.ignores_merges = !is_off(json_field(model, "ignore_merges"));
  for (const Json& step : steps_of(json_field(json, "post_processor"), "processors"))
    SMOE_CHECK(type_of(step) == "ByteLevel" || type_of(step) == "TemplateProcessing", path,
               ": post_processor: ", printable(type_of(step)), " is not supported");
  return result;
}

// Makes a token one that text never becomes.
void make_special(ByteLevelModel& model, std::int32_t id) {
  auto place = std::find_if(model.added.begin(), model.added.end(),
                            [&](const AddedToken& token) { return token.id >= id; });
  if (place == model.added.end() || place->id != id)
    place = model.added.insert(
        place,
        {.id = id, .content = model.pieces[static_cast<std::size_t>(id)], .is_special = true});
  place->is_special = true;
  place->is_normalized = false;
}

std::int32_t find_end(const Ids& ids, const std::string& end_token, const std::string& path) {
  if (!end_token.empty()) return id_of(ids, end_token, "the token that ends text", path);
  for (const char* name : kEndNames)
    if (const auto found = ids.find(name); found != ids.end()) return found->second;
  throw UsageError(concat(path,
                          ": does not say which token ends a text; put a tokenizer_config.json ",
                          "with eos_token beside it"));
}

}  // namespace

bool is_byte_level(const Json& json) {
  for (const Json& step : steps_of(json_field(json, "pre_tokenizer"), "pretokenizers"))
    if (type_of(step) == "ByteLevel") return true;
  return false;
}

ByteLevelModel parse_byte_level(const Json& json, const std::string& path,
                                const std::string& end_token) {
  Ids ids;
  ByteLevelModel model = parse_parts(json, path, ids);
  model.end_of_text = find_end(ids, end_token, path);
  const std::string first = first_token(json);
  model.begins_prompts = !first.empty();
  model.begin_of_text =
      first.empty() ? model.end_of_text : id_of(ids, first, "the token that begins a text", path);
  make_special(model, model.begin_of_text);
  make_special(model, model.end_of_text);
  return model;
}

bool is_byte_level_file(const Json& json) {
  return json_field(json, "kind") == kKind;
}

ByteLevelModel parse_byte_level_file(const Json& json, const std::string& path) {
  Ids ids;
  ByteLevelModel model = parse_parts(json_field(json, "tokenizer"), path, ids);
  const auto max = static_cast<std::int64_t>(model.pieces.size()) - 1;
  const auto token = [&](const char* name) {
    return static_cast<std::int32_t>(
        checked_integer(json_field(json, name), path + ": " + name, 0, max));
  };
  model.begin_of_text = token("begin_of_text");
  model.end_of_text = token("end_of_text");
  model.begins_prompts = json_field(json, "begins_prompts") == true;
  for (const std::int32_t id : {model.begin_of_text, model.end_of_text}) {
    SMOE_CHECK(!model.pieces[static_cast<std::size_t>(id)].empty(), path, ": vocab: must have the ",
               "tokens that begin and end a text; ", id, " is missing");
    make_special(model, id);
  }
  return model;
}

namespace {

// Number of pieces without the added tokens at the end, which readers number as they are listed.
std::size_t num_model_pieces(const ByteLevelModel& model) {
  std::size_t count = model.pieces.size();
  for (auto token = model.added.rbegin(); token != model.added.rend(); ++token)
    if (static_cast<std::size_t>(token->id) + 1 == count) --count;
  for (const auto& [left, right] : model.merges)
    count = std::max(count, static_cast<std::size_t>(std::max(left, right)) + 1);
  return count;
}

}  // namespace

std::string byte_level_json(const ByteLevelModel& model) {
  const OrderedJson byte_level = {{"type", "ByteLevel"},
                                  {"add_prefix_space", false},
                                  {"trim_offsets", false},
                                  {"use_regex", false}};
  OrderedJson steps = OrderedJson::array(), added = OrderedJson::array();
  for (const std::string& pattern : model.patterns)
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  steps.push_back(byte_level);
  for (const AddedToken& token : model.added)
    added.push_back(
        added_token_json(token.id, token.content, token.is_special, token.is_normalized));
  const std::string& begin = model.pieces[static_cast<std::size_t>(model.begin_of_text)];
  return tokenizer_json_text(
      {.added_tokens = added,
       .normalizer = model.composes ? OrderedJson{{"type", "NFC"}} : OrderedJson(nullptr),
       .pre_tokenizer = {{"type", "Sequence"}, {"pretokenizers", steps}},
       .post_processor =
           model.begins_prompts ? begins_with(begin, model.begin_of_text) : byte_level,
       .decoder = byte_level,
       .ignores_merges = model.ignores_merges,
       .pieces = {model.pieces.begin(),
                  model.pieces.begin() + static_cast<std::ptrdiff_t>(num_model_pieces(model))},
       .merges = model.merges});
}

std::string byte_level_file(const ByteLevelModel& model) {
  return concat("{\"kind\": \"", kKind, "\", \"begin_of_text\": ", model.begin_of_text,
                ", \"end_of_text\": ", model.end_of_text,
                ", \"begins_prompts\": ", model.begins_prompts ? "true" : "false",
                ", \"tokenizer\": ", byte_level_json(model), "}\n");
}

}  // namespace smoe
