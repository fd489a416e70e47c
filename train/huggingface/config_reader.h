// ConfigReader: reads the keys of a config.json, whichever family of models it describes.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "layers/model_config.h"

namespace smoe {

/// Reads the keys of an object and tracks which were not read. Messages begin with `place`.
/// Throws: UsageError naming the key, its value and the supported values.
class ConfigReader {
 public:
  using Json = nlohmann::json;

  /// `object` must outlive this.
  ConfigReader(const Json& object, std::string place);

  /// Whether the object has the key, though its value may be null.
  bool has(const char* key) const { return object_.contains(key); }
  /// The value, or nullptr if it is missing or null.
  const Json* find(const char* key);
  [[noreturn]] void refuse(const char* key, const std::string& rule) const;

  /// From 1 to 10^9. Required, unless a value for an absent key is given.
  std::int64_t size(const char* key);
  std::int64_t size(const char* key, std::int64_t absent) { return find(key) ? size(key) : absent; }
  double number(const char* key, double absent);
  bool flag(const char* key, bool absent);
  /// Refuses any value but `supported`, null or a missing one.
  void only(const char* key, const Json& supported);
  /// A token id, or the first of a list of ids; no value if there is none below `vocab_size`.
  std::optional<std::int32_t> token(const char* key, std::int64_t vocab_size);
  /// The base of unscaled rotary embeddings, as transformers 4 or 5 writes it.
  double rope_theta(double absent);

  /// The keys that were not read and have no effect on what the model computes. Refuses those whose
  /// name says that they have one.
  std::vector<std::string> unknown_keys() const;

 private:
  std::vector<std::string> unread_keys() const;

  const Json& object_;
  std::string place_;
  std::set<std::string> known_;
};

/// Throws: UsageError unless the model satisfies the rules of a configuration; `path` names the
/// file.
void check_model_rules(const ModelConfig& model, const std::string& path);

}  // namespace smoe
