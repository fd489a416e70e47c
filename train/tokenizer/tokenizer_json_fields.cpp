#include "train/tokenizer/tokenizer_json_fields.h"

#include <nlohmann/json.hpp>

#include "core/base/check.h"
#include "core/system/json_reader.h"
#include "core/system/text.h"

namespace smoe {

using Json = nlohmann::json;

const Json& json_field(const Json& json, const char* name) {
  static const Json kNull;
  const auto found = json.is_object() ? json.find(name) : json.end();
  return found == json.end() ? kNull : *found;
}

std::string type_of(const Json& json) {
  return json.is_object() ? json.value("type", "?") : json.is_null() ? "null" : "?";
}

std::vector<Json> steps_of(const Json& part, const char* list) {
  if (part.is_null()) return {};
  if (type_of(part) != "Sequence") return {part};
  std::vector<Json> steps;
  for (const Json& step : json_field(part, list))
    for (Json& inner : steps_of(step, list)) steps.push_back(std::move(inner));
  return steps;
}

std::string first_token(const Json& json) {
  for (const Json& step : steps_of(json_field(json, "post_processor"), "processors")) {
    const Json& single = json_field(step, "single");
    if (type_of(step) != "TemplateProcessing" || !single.is_array() || single.empty()) continue;
    const Json& id = json_field(json_field(single[0], "SpecialToken"), "id");
    if (id.is_string()) return id;
  }
  return "";
}

std::pair<std::string, std::string> read_merge(const Json& merge, const std::string& path) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0], merge[1]};
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const std::size_t space = text.find(' ');
  SMOE_CHECK(space != std::string::npos && space > 0 && space + 1 < text.size(), path,
             ": merges: must be pairs of pieces; got ", shown(merge));
  return {text.substr(0, space), text.substr(space + 1)};
}

std::vector<std::string> read_vocab(const Json& json, const std::string& path) {
  std::vector<std::string> vocab;
  const auto add = [&](const std::string& piece, const Json& id) {
    constexpr std::int64_t kMaxPieces = 1 << 22;
    const auto at =
        static_cast<std::size_t>(checked_integer(id, path + ": vocab", 0, kMaxPieces - 1));
    SMOE_CHECK(!piece.empty(), path, ": vocab: pieces must have text; got an empty one");
    if (at >= vocab.size()) vocab.resize(at + 1);
    SMOE_CHECK(vocab[at].empty() || vocab[at] == piece, path, ": vocab: ids must be unique; got ",
               at, " twice");
    vocab[at] = piece;
  };
  const Json& pieces = json_field(json_field(json, "model"), "vocab");
  SMOE_CHECK(pieces.is_object(), path, ": vocab: must be an object");
  for (const auto& [piece, id] : pieces.items()) add(piece, id);
  for (const Json& token : json_field(json, "added_tokens")) {
    const Json& content = json_field(token, "content");
    SMOE_CHECK(content.is_string(), path, ": added_tokens: content must be a string");
    add(content, json_field(token, "id"));
  }
  return vocab;
}

}  // namespace smoe
