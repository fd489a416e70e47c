// Access to the parts of tokenizer.json of Hugging Face's tokenizers library.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace smoe {

/// json[name], or null where `json` is not an object with this field.
const nlohmann::json& json_field(const nlohmann::json& json, const char* name);

/// The field "type" of a part; "null" for an absent part, "?" for one without a type.
std::string type_of(const nlohmann::json& json);

/// The steps of a part of type Sequence, whose list is named `list`; of any other part, the part
/// itself, and nothing of null.
std::vector<nlohmann::json> steps_of(const nlohmann::json& part, const char* list);

/// The name of the token that the post-processor puts first; empty if none.
std::string first_token(const nlohmann::json& json);

/// The two pieces of an entry of the merges: "a b" or ["a", "b"]. Throws: UsageError naming `path`.
std::pair<std::string, std::string> read_merge(const nlohmann::json& merge,
                                               const std::string& path);

/// The pieces by id, of the model's vocabulary and of the added tokens; empty where no id is.
/// Throws: UsageError naming `path` for an id twice or out of range, or a piece without text.
std::vector<std::string> read_vocab(const nlohmann::json& json, const std::string& path);

}  // namespace smoe
