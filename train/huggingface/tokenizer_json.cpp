#include "train/huggingface/tokenizer_json.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/base/check.h"
#include "core/system/json_reader.h"
#include "train/data/sentencepiece_writer.h"

namespace smoe {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kBlank = "\xE2\x96\x81";  // U+2581, a space within pieces

// UTF-8 of a code point below U+0800.
std::string utf8(int code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// The character that represents a byte in byte-level vocabularies: the byte itself if it is
// printable in Latin-1, else the next unused one from U+0100 (as in GPT-2's vocabulary).
std::vector<std::string> byte_characters() {
  std::vector<std::string> characters;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    characters.push_back(utf8(is_printable ? byte : next++));
  }
  return characters;
}

OrderedJson added_token(std::int32_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// Puts the token `name` before each text.
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

OrderedJson bpe(const OrderedJson& vocab, const OrderedJson& merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocab},
          {"merges", merges}};
}

OrderedJson tokenizer_of(const OrderedJson& added, const OrderedJson& normalizer,
                         const OrderedJson& pre_tokenizer, const OrderedJson& post_processor,
                         const OrderedJson& decoder, const OrderedJson& model) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", normalizer},
          {"pre_tokenizer", pre_tokenizer},
          {"post_processor", post_processor},
          {"decoder", decoder},
          {"model", model}};
}

// Bytes of the character at the beginning of non-empty UTF-8 text.
std::size_t character_bytes(std::string_view text) {
  std::size_t bytes = 1;
  while (bytes < text.size() && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) ++bytes;
  return bytes;
}

// The pairs of pieces whose merge is a piece, by descending priority. SentencePiece merges by the
// score of the result.
OrderedJson merges_of(const SentencePieceTokenizer& tokenizer) {
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
  OrderedJson list = OrderedJson::array();
  for (const Merge& merge : merges)
    list.push_back({tokenizer.piece_of(merge.left), tokenizer.piece_of(merge.right)});
  return list;
}

OrderedJson replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

// ---- reading -----------------------------------------------------------------------------------

std::string type_of(const Json& json) {
  return json.is_object() ? json.value("type", "?") : json.is_null() ? "null" : "?";
}

const Json& field(const Json& json, const char* name) {
  static const Json kNull;
  const auto found = json.is_object() ? json.find(name) : json.end();
  return found == json.end() ? kNull : *found;
}

// Whether `json` describes what byte_tokenizer_json writes, however it is written.
bool is_byte_tokenizer(const Json& json) {
  const ByteTokenizer bytes;
  const Json own = Json::parse(byte_tokenizer_json(bytes));
  const Json &model = field(json, "model"), &split = field(json, "pre_tokenizer");
  return type_of(model) == "BPE" && field(model, "vocab") == own["model"]["vocab"] &&
         field(model, "merges").empty() && field(json, "normalizer").is_null() &&
         type_of(split) == "ByteLevel" && field(split, "add_prefix_space") == false &&
         field(split, "use_regex") == false && field(json, "added_tokens").size() == 1 &&
         field(field(json, "added_tokens")[0], "id") == bytes.end_of_text();
}

// How a tokenizer.json marks spaces; no value if not as SentencePiece does.
std::optional<bool> adds_prefix(const Json& json) {
  const Json &normalizer = field(json, "normalizer"), &split = field(json, "pre_tokenizer");
  const auto is_replace = [](const Json& step) {
    return type_of(step) == "Replace" && field(field(step, "pattern"), "String") == " " &&
           field(step, "content") == kBlank;
  };
  if (normalizer.is_null() && type_of(split) == "Metaspace") {
    const Json& scheme = field(split, "prepend_scheme");
    if (field(split, "replacement") != kBlank || field(split, "split") == true) return {};
    if (scheme.is_null()) return field(split, "add_prefix_space") == true;
    return scheme == "first" || scheme == "always";
  }
  if (!split.is_null()) return {};
  if (is_replace(normalizer)) return false;
  const Json& steps = field(normalizer, "normalizers");
  if (type_of(normalizer) != "Sequence" || steps.size() != 2) return {};
  const bool is_prepend = type_of(steps[0]) == "Prepend" && field(steps[0], "prepend") == kBlank;
  return is_prepend && is_replace(steps[1]) ? std::optional(true) : std::nullopt;
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

// The name of the token that the post-processor puts first; empty if none.
std::string first_token(const Json& json) {
  const Json& processor = field(json, "post_processor");
  const Json& single = type_of(processor) == "TemplateProcessing" ? field(processor, "single")
                                                                  : field(Json(), "none");
  if (!single.is_array() || single.empty()) return "";
  const Json& id = field(field(single[0], "SpecialToken"), "id");
  return id.is_string() ? id.get<std::string>() : "";
}

struct VocabEntry {
  std::string piece;
  bool is_known = false;
};

// The pieces by id: those of the model, then the added tokens.
std::vector<VocabEntry> read_vocab(const Json& json, const std::string& path) {
  std::vector<VocabEntry> vocab;
  const auto add = [&](const std::string& piece, const Json& id) {
    constexpr std::int64_t kMaxPieces = 1 << 22;
    const auto at =
        static_cast<std::size_t>(checked_integer(id, path + ": vocab", 0, kMaxPieces - 1));
    if (at >= vocab.size()) vocab.resize(at + 1);
    const bool is_same = vocab[at].is_known && vocab[at].piece == piece;
    SMOE_CHECK(!vocab[at].is_known || is_same, path, ": vocab: ids must be unique; got ", at,
               " twice");
    vocab[at] = {piece, true};
  };
  const Json& pieces = field(field(json, "model"), "vocab");
  SMOE_CHECK(pieces.is_object(), path, ": vocab: must be an object");
  for (const auto& [piece, id] : pieces.items()) add(piece, id);
  for (const Json& token : field(json, "added_tokens")) {
    const Json& content = field(token, "content");
    SMOE_CHECK(content.is_string(), path, ": added_tokens: content must be a string");
    add(content, field(token, "id"));
  }
  return vocab;
}

std::string sentencepiece_model_of(const Json& json, const std::string& path,
                                   const std::string& end_token, bool has_prefix) {
  const Json& model = field(json, "model");
  std::map<std::string, float, std::less<>> scores;
  float next = 0;
  for (const Json& merge : field(model, "merges")) {
    const auto [left, right] = read_merge(merge, path);
    scores.emplace(left + right, next--);
  }
  std::set<std::string, std::less<>> special;
  for (const Json& token : field(json, "added_tokens"))
    if (field(token, "special") == true) special.insert(field(token, "content"));
  SentencePieceWriter writer;
  const std::string unknown = field(model, "unk_token").is_string() ? model["unk_token"] : Json("");
  const std::vector<VocabEntry> vocab = read_vocab(json, path);
  for (std::size_t id = 0; id < vocab.size(); ++id) {
    const std::string& piece = vocab[id].piece;
    using Type = SentencePieceWriter::Type;
    const auto score = scores.find(piece);
    const bool is_character = !piece.empty() && character_bytes(piece) == piece.size();
    Type type = score != scores.end() || is_character ? Type::normal : Type::unused;
    if (piece.size() == 6 && piece.starts_with("<0x")) type = Type::byte;
    if (special.count(piece) > 0) type = Type::control;
    if (piece == unknown) type = Type::unknown;
    writer.add(vocab[id].is_known ? piece : concat("<unused ", id, ">"),
               score == scores.end() ? next - static_cast<float>(id) : score->second, type);
  }
  return writer.finish(first_token(json), end_token.empty() ? "</s>" : end_token, has_prefix);
}

JsonTokenizer read_json(const Json& json, const std::string& path, const std::string& end_token) {
  if (is_byte_tokenizer(json)) return {std::make_unique<ByteTokenizer>()};
  const Json& model = field(json, "model");
  if (type_of(model) != "BPE")
    return {nullptr, concat(path, ": a model of type ", type_of(model),
                            " is not supported; only BPE with byte fallback is")};
  const std::optional<bool> has_prefix = adds_prefix(json);
  if (field(model, "byte_fallback") != true || !has_prefix)
    return {nullptr, concat(path,
                            ": only BPE that replaces spaces as SentencePiece does, with byte "
                            "fallback, is supported; it has the normalizer ",
                            type_of(field(json, "normalizer")), " and the pre_tokenizer ",
                            type_of(field(json, "pre_tokenizer")))};
  return {std::make_unique<SentencePieceTokenizer>(
      sentencepiece_model_of(json, path, end_token, *has_prefix), path)};
}

}  // namespace

std::string byte_tokenizer_json(const ByteTokenizer& tokenizer) {
  OrderedJson vocab = OrderedJson::object();
  std::int32_t id = 0;
  for (const std::string& character : byte_characters()) vocab[character] = id++;
  const OrderedJson byte_level = {{"type", "ByteLevel"},
                                  {"add_prefix_space", false},
                                  {"trim_offsets", false},
                                  {"use_regex", false}};
  const std::int32_t end = tokenizer.end_of_text();
  return tokenizer_of(OrderedJson::array({added_token(end, kEndOfText)}), nullptr, byte_level,
                      begins_with(kEndOfText, end), byte_level, bpe(vocab, OrderedJson::array()))
             .dump(2) +
         "\n";
}

std::string sentencepiece_json(const SentencePieceTokenizer& tokenizer) {
  using Kind = SentencePieceTokenizer::Kind;
  OrderedJson vocab = OrderedJson::object(), added = OrderedJson::array();
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const Kind kind = tokenizer.kind_of(id);
    vocab[tokenizer.piece_of(id)] = id;
    if (kind == Kind::control || kind == Kind::unknown)
      added.push_back(added_token(id, tokenizer.piece_of(id)));
  }
  OrderedJson model = bpe(vocab, merges_of(tokenizer));
  model["unk_token"] = tokenizer.piece_of(tokenizer.unknown());
  model["fuse_unk"] = model["byte_fallback"] = true;
  const bool has_prefix = !tokenizer.document_prefix().empty();
  OrderedJson normalizer = replace(" ", kBlank);
  OrderedJson decoders =
      OrderedJson::array({replace(kBlank, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (has_prefix) {
    normalizer = {{"type", "Sequence"},
                  {"normalizers",
                   OrderedJson::array({{{"type", "Prepend"}, {"prepend", kBlank}}, normalizer})}};
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  const std::int32_t begin = tokenizer.begin_of_text();
  return tokenizer_of(added, normalizer, nullptr, begins_with(tokenizer.piece_of(begin), begin),
                      {{"type", "Sequence"}, {"decoders", decoders}}, model)
             .dump(2) +
         "\n";
}

JsonTokenizer read_tokenizer_json(const std::string& text, const std::string& path,
                                  const std::string& end_token) {
  const Json json = parse_json(text, path, kMaxTokenizerDepth);
  try {
    return read_json(json, path, end_token);
  } catch (const Json::exception&) {  // a value of another type
    throw UsageError(concat(path, ": must be a file of Hugging Face's tokenizers"));
  }
}

}  // namespace smoe
