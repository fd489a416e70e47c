#include "train/tokenizer/tokenizer_json_parts.h"

namespace smoe {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string json_string(const std::string& text) {
  return nlohmann::json(text).dump();
}

// One entry per line. nlohmann's ordered objects would take the square of their number.
std::string vocab_text(const std::vector<std::string>& pieces) {
  std::string text;
  for (std::size_t id = 0; id < pieces.size(); ++id)
    if (!pieces[id].empty())
      text += (text.empty() ? "\n" : ",\n") + json_string(pieces[id]) + ":" + std::to_string(id);
  return "{" + text + "\n}";
}

std::string merges_text(const TokenizerJsonParts& parts) {
  std::string text;
  for (const auto& [left, right] : parts.merges)
    text += (text.empty() ? "\n[" : ",\n[") +
            json_string(parts.pieces[static_cast<std::size_t>(left)]) + "," +
            json_string(parts.pieces[static_cast<std::size_t>(right)]) + "]";
  return "[" + text + "\n]";
}

}  // namespace

OrderedJson added_token_json(std::int32_t id, const std::string& content, bool is_special,
                             bool is_normalized) {
  return {
      {"id", id},        {"content", content},          {"single_word", false}, {"lstrip", false},
      {"rstrip", false}, {"normalized", is_normalized}, {"special", is_special}};
}

OrderedJson begins_with(const std::string& name, std::int32_t id) {
  const auto special = [&](int type) {
    return OrderedJson{{"SpecialToken", {{"id", name}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* text, int type) {
    return OrderedJson{{"Sequence", {{"id", text}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", OrderedJson::array({special(0), sequence("A", 0)})},
          {"pair", OrderedJson::array({special(0), sequence("A", 0), sequence("B", 1)})},
          {"special_tokens", {{name, {{"id", name}, {"ids", {id}}, {"tokens", {name}}}}}}};
}

std::string tokenizer_json_text(const TokenizerJsonParts& parts) {
  const OrderedJson head = {{"version", "1.0"},
                            {"truncation", nullptr},
                            {"padding", nullptr},
                            {"added_tokens", parts.added_tokens},
                            {"normalizer", parts.normalizer},
                            {"pre_tokenizer", parts.pre_tokenizer},
                            {"post_processor", parts.post_processor},
                            {"decoder", parts.decoder}};
  const OrderedJson model = {
      {"type", "BPE"},
      {"dropout", nullptr},
      {"unk_token", parts.unknown.empty() ? OrderedJson(nullptr) : OrderedJson(parts.unknown)},
      {"continuing_subword_prefix", nullptr},
      {"end_of_word_suffix", nullptr},
      {"fuse_unk", parts.has_byte_fallback},
      {"byte_fallback", parts.has_byte_fallback},
      {"ignore_merges", parts.ignores_merges}};
  std::string text = head.dump(), settings = model.dump();
  text.pop_back();  // the closing brace
  settings.pop_back();
  return text + ",\n\"model\":" + settings + ",\"vocab\":" + vocab_text(parts.pieces) +
         ",\"merges\":" + merges_text(parts) + "}}\n";
}

}  // namespace smoe
