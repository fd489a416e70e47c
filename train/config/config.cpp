#include "train/config/config.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "core/system/digest.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "core/system/text.h"
#include "train/config/key_hint.h"
#include "train/config/schema.h"
#include "train/config/settings.h"

namespace smoe {
namespace {

[[noreturn]] void fail(const std::string& place, std::string_view key, const std::string& rule) {
  throw UsageError(concat(place, ": ", printable(key), ": ", rule));
}

/// Applies settings to a Config and records where each key was set, for messages.
class ConfigBuilder {
 public:
  explicit ConfigBuilder(std::string name) : name_(std::move(name)) {}
  ConfigBuilder(const ConfigBuilder&) = delete;  // fields_ points into config_
  ConfigBuilder& operator=(const ConfigBuilder&) = delete;

  void apply(const Setting& setting) {
    const auto& [place, key, kind, value] = setting;
    if (key == kSourcesSection && kind != Setting::Kind::section)
      fail(place, key,
           concat("must be a section with one section per source; got ",
                  kind == Setting::Kind::nothing ? "nothing" : shown(value)));
    add_source(setting);
    if (const Field* field = find(key)) return apply(*field, setting);
    if (key != kSourcesSection && !is_section(fields_, key))
      fail(place, key, "unknown key" + hint_for(fields_, key));
    if (kind == Setting::Kind::scalar) fail(place, key, "must be a section; got " + shown(value));
  }

  /// The complete config. Throws: UsageError if a key is missing or a relation does not hold.
  Config finish() const {
    check_complete();
    for (const auto& [key, holds, text] : relations_of(config_))
      if (!holds)
        fail(place_of(key), key, concat("must be ", text, "; got ", to_yaml(find(key)->target)));
    return config_;
  }

 private:
  void check_complete() const {
    const Field* first = nullptr;
    std::string others;
    const auto add = [&](std::string_view key) {
      others += concat(others.empty() ? "; also required: " : ", ", key);
    };
    for (const Field& field : fields_) {
      if (field.rule.holds(field.target)) continue;
      if (first == nullptr)
        first = &field;
      else
        add(field.key);
    }
    if (first == nullptr) return;
    if (config_.data.path.empty() && config_.data.sources.empty()) add("data.path or data.sources");
    fail(name_, first->key, concat("required; must be ", first->rule.text, others));
  }

  const Field* find(std::string_view key) const {
    const auto field =
        std::find_if(fields_.begin(), fields_.end(), [&](const Field& f) { return f.key == key; });
    return field == fields_.end() ? nullptr : &*field;
  }

  void add_source(const Setting& setting) {
    const std::size_t num_sources = config_.data.sources.size();
    const std::string rule = add_source_of(setting.key, config_);
    if (!rule.empty()) fail(setting.place, setting.key, "must be " + rule);
    if (config_.data.sources.size() != num_sources) fields_ = fields_of(config_);
  }

  void apply(const Field& field, const Setting& setting) {
    const auto refuse = [&](const std::string& rule, const std::string& got) {
      fail(setting.place, field.key, concat("must be ", rule, "; got ", got));
    };
    if (setting.kind == Setting::Kind::section) refuse(type_of(field.target), "a section");
    if (setting.kind == Setting::Kind::nothing) refuse(type_of(field.target), "nothing");
    const std::string type = assign(field.target, setting.value);
    if (!type.empty()) refuse(type, shown(setting.value));
    if (!field.rule.holds(field.target)) refuse(field.rule.text, shown(setting.value));
    places_[field.key] = setting.place;
    if (is_kind_key(setting.key)) fields_ = fields_of(config_);
  }

  std::string place_of(std::string_view key) const {
    const auto place = places_.find(key);
    return place == places_.end() ? name_ : place->second;
  }

  std::string name_;
  Config config_;
  std::vector<Field> fields_ = fields_of(config_);
  std::map<std::string, std::string, std::less<>> places_;
};

/// The last part of a key or section, indented by the depth of its section.
std::string yaml_name(std::string_view path) {
  const auto depth = static_cast<std::size_t>(std::count(path.begin(), path.end(), '.'));
  return std::string(2 * depth, ' ') + std::string(path.substr(path.rfind('.') + 1)) + ":";
}

/// A comment with a key's meaning and permitted values.
std::string yaml_comment(const Field& field) {
  const bool is_choice = std::holds_alternative<Choice>(field.target);
  const std::string values = is_choice ? type_of(field.target) : field.rule.text;
  return "  # " + std::string(field.meaning) + (values.empty() ? "" : " (" + values + ")");
}

}  // namespace

Config parse_config(const std::string& yaml, const std::string& name,
                    const std::vector<std::string>& overrides) {
  std::vector<Setting> settings = read_settings(yaml, name);
  for (const std::string& text : overrides) settings.push_back(read_override(text));
  // What keys there are depends on these.
  std::stable_partition(settings.begin(), settings.end(),
                        [](const Setting& setting) { return is_kind_key(setting.key); });
  ConfigBuilder builder(name);
  for (const Setting& setting : settings) builder.apply(setting);
  return builder.finish();
}

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  const PathKind kind = kind_of(path);
  SMOE_CHECK(kind != PathKind::none, path, ": there is no such file");
  SMOE_CHECK(kind != PathKind::folder, path, ": must be a YAML file; got a folder");
  if (kind == PathKind::file) {
    constexpr std::string_view kTokenSet = "smoe token set, ";
    char begin[kTokenSet.size()] = {};
    File::open(path).read_some_at(0, begin, sizeof begin);
    SMOE_CHECK(std::string_view(begin, sizeof begin) != kTokenSet, path,
               ": must be a YAML file; got a token set");
  }
  return parse_config(read_file(path, kMaxConfigBytes), path, overrides);
}

void check_global_batch(const TrainConfig& train, int num_ranks) {
  const auto [key, holds, text] = global_batch_relation(train, num_ranks);
  SMOE_CHECK(holds, key, ": must be ", text, "; got ", train.global_batch);
}

std::string to_yaml(const Config& config) {
  Config copy = config;  // fields_of binds to a mutable config
  std::string out;
  std::string_view previous;
  for (const Field& field : fields_of(copy)) {
    for (std::size_t dot = field.key.find('.'); dot != std::string_view::npos;
         dot = field.key.find('.', dot + 1)) {
      const bool is_open = previous.starts_with(field.key.substr(0, dot + 1));
      if (!is_open) out += yaml_name(field.key.substr(0, dot)) + "\n";
    }
    out += yaml_name(field.key) + " " + to_yaml(field.target) + yaml_comment(field) + "\n";
    previous = field.key;
  }
  return out;
}

std::string config_digest(const Config& config) {
  Config copy = config;
  Hasher hasher;
  for (const Field& field : fields_of(copy))
    if (field.resume != Resume::may_change &&
        (field.undigested.empty() || to_yaml(field.target) != field.undigested))
      hasher.update(concat(field.key, "=", to_yaml(field.target), "\n"));
  return hasher.digest().hex();
}

}  // namespace smoe
