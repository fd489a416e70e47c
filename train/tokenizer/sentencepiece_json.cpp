#include "train/tokenizer/sentencepiece_json.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/base/check.h"
#include "core/system/text.h"
#include "train/tokenizer/sentencepiece_writer.h"
#include "train/tokenizer/tokenizer_json_fields.h"
#include "train/tokenizer/tokenizer_json_parts.h"

namespace smoe {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kSpaceMark = "\xE2\x96\x81";  // U+2581, a space within pieces

// Bytes of the character at the beginning of non-empty UTF-8 text.
std::size_t character_bytes(std::string_view text) {
  std::size_t bytes = 1;
  while (bytes < text.size() && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) ++bytes;
  return bytes;
}

// The pairs of pieces whose merge is a piece, by descending priority. SentencePiece merges by the
// score of the result.
std::vector<std::pair<std::int32_t, std::int32_t>> merges_of(
    const SentencePieceTokenizer& tokenizer) {
  using Kind = SentencePieceTokenizer::Kind;
  std::map<std::string, std::int32_t, std::less<>> ids;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    if (tokenizer.kind_of(id) == Kind::normal) ids.emplace(tokenizer.piece_of(id), id);
  struct Merge {
    float score;
    std::int32_t left, right;
  };
  std::vector<Merge> merges;
  for (const auto& [piece, id] : ids) {
    const std::size_t first = merges.size();
    for (std::size_t cut = character_bytes(piece); cut < piece.size();
         cut += character_bytes(std::string_view(piece).substr(cut))) {
      const auto left = ids.find(std::string_view(piece).substr(0, cut));
      const auto right = ids.find(std::string_view(piece).substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back({tokenizer.score_of(id), left->second, right->second});
    }
    std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
              [](const Merge& a, const Merge& b) {
                return std::pair(a.left, a.right) < std::pair(b.left, b.right);
              });
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.score > b.score; });
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  for (const Merge& merge : merges) pairs.emplace_back(merge.left, merge.right);
  return pairs;
}

OrderedJson replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

// How a tokenizer.json marks spaces; no value if not as SentencePiece does.
std::optional<bool> adds_prefix(const Json& json) {
  const Json &normalizer = json_field(json, "normalizer"),
             &split = json_field(json, "pre_tokenizer");
  const auto is_replace = [](const Json& step) {
    return type_of(step) == "Replace" && json_field(json_field(step, "pattern"), "String") == " " &&
           json_field(step, "content") == kSpaceMark;
  };
  if (normalizer.is_null() && type_of(split) == "Metaspace") {
    const Json& scheme = json_field(split, "prepend_scheme");
    if (json_field(split, "replacement") != kSpaceMark || json_field(split, "split") == true)
      return {};
    if (scheme.is_null()) return json_field(split, "add_prefix_space") == true;
    return scheme == "first" || scheme == "always";
  }
  if (!split.is_null()) return {};
  if (is_replace(normalizer)) return false;
  const Json& steps = json_field(normalizer, "normalizers");
  if (type_of(normalizer) != "Sequence" || steps.size() != 2) return {};
  const bool is_prepend =
      type_of(steps[0]) == "Prepend" && json_field(steps[0], "prepend") == kSpaceMark;
  return is_prepend && is_replace(steps[1]) ? std::optional(true) : std::nullopt;
}

// The names of the special tokens among the added ones.
std::set<std::string, std::less<>> special_tokens(const Json& json, const std::string& path) {
  std::set<std::string, std::less<>> special;
  for (const Json& token : json_field(json, "added_tokens")) {
    const std::string content = json_field(token, "content");
    SMOE_CHECK(json_field(token, "special") == true, path,
               ": added_tokens: tokens of text are not supported with byte fallback; got ",
               printable(content));
    special.insert(content);
  }
  return special;
}

}  // namespace

bool is_sentencepiece_json(const Json& json) {
  return json_field(json_field(json, "model"), "byte_fallback") == true && adds_prefix(json);
}

std::string sentencepiece_model_of(const Json& json, const std::string& path,
                                   const std::string& end_token) {
  using Type = SentencePieceWriter::Type;
  const Json& model = json_field(json, "model");
  std::map<std::string, float, std::less<>> scores;
  float next = 0;
  for (const Json& merge : json_field(model, "merges")) {
    const auto [left, right] = read_merge(merge, path);
    scores.emplace(left + right, next--);
  }
  const auto special = special_tokens(json, path);
  const Json& unknown = json_field(model, "unk_token");
  SentencePieceWriter writer;
  const std::vector<std::string> vocab = read_vocab(json, path);
  for (std::size_t id = 0; id < vocab.size(); ++id) {
    const std::string& piece = vocab[id];
    const auto score = scores.find(piece);
    const bool is_character = !piece.empty() && character_bytes(piece) == piece.size();
    Type type = score != scores.end() || is_character ? Type::normal : Type::unused;
    if (piece.size() == 6 && piece.starts_with("<0x")) type = Type::byte;
    if (special.count(piece) > 0) type = Type::control;
    if (unknown == piece) type = Type::unknown;
    writer.add(piece.empty() ? concat("<unused ", id, ">") : piece,
               score == scores.end() ? next - static_cast<float>(id) : score->second, type);
  }
  return writer.finish(first_token(json), end_token.empty() ? "</s>" : end_token,
                       *adds_prefix(json));
}

std::string sentencepiece_json(const SentencePieceTokenizer& tokenizer) {
  using Kind = SentencePieceTokenizer::Kind;
  const bool has_prefix = !tokenizer.document_prefix().empty();
  const std::int32_t begin = tokenizer.begin_of_text();
  TokenizerJsonParts parts{.added_tokens = OrderedJson::array(),
                           .normalizer = replace(" ", kSpaceMark),
                           .pre_tokenizer = nullptr,
                           .post_processor = begins_with(tokenizer.piece_of(begin), begin),
                           .decoder = nullptr,
                           .unknown = tokenizer.piece_of(tokenizer.unknown()),
                           .has_byte_fallback = true,
                           .pieces = {},
                           .merges = merges_of(tokenizer)};
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const Kind kind = tokenizer.kind_of(id);
    const std::string& piece = parts.pieces.emplace_back(tokenizer.piece_of(id));
    if (kind == Kind::control || kind == Kind::unknown)
      parts.added_tokens.push_back(added_token_json(id, piece, true, false));
  }
  OrderedJson decoders = OrderedJson::array(
      {replace(kSpaceMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (has_prefix) {
    parts.normalizer = {
        {"type", "Sequence"},
        {"normalizers",
         OrderedJson::array({{{"type", "Prepend"}, {"prepend", kSpaceMark}}, parts.normalizer})}};
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  parts.decoder = {{"type", "Sequence"}, {"decoders", decoders}};
  return tokenizer_json_text(parts);
}

}  // namespace smoe
