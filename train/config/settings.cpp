#include "train/config/settings.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <sstream>
#include <string_view>

#include "core/system/text.h"

namespace smoe {
namespace {

/// Refuses bytes that are not text: yaml-cpp would replace them or stop there.
void check_is_text(std::string_view text, const std::string& name) {
  int line = 1;
  while (!text.empty()) {
    const char c = text[0];
    const std::size_t length = utf8_length(text);
    SMOE_CHECK(length > 0, name, ":", line, ": must be UTF-8; got the byte 0x", hex_byte(c));
    const bool is_layout = c == '\n' || c == '\r' || c == '\t';
    SMOE_CHECK(is_layout || !is_control(c), name, ":", line,
               ": must not contain control characters; got the byte 0x", hex_byte(c));
    line += c == '\n';
    text.remove_prefix(length);
  }
}

/// Whether the quoted text at the beginning of `source` is closed on its own line. yaml-cpp 0.7
/// would accept the end of the file instead of the quote, as in `name: "tiny` and a newline.
bool ends_on_its_line(std::string_view source) {
  const char quote = source[0];
  for (std::size_t i = 1; i < source.size() && source[i] != '\n'; ++i) {
    const bool is_doubled = quote == '\'' && source.substr(i).starts_with("''");
    const bool is_escape = quote == '"' && source[i] == '\\';
    if (is_doubled || is_escape)
      ++i;
    else if (source[i] == quote)
      return true;
  }
  return false;
}

/// Turns yaml-cpp's events into settings. Its node tree cannot be used: it has dropped duplicates
/// and resolved aliases.
class SettingsBuilder : public YAML::EventHandler {
 public:
  SettingsBuilder(std::string_view source, std::string name)
      : source_(source), name_(std::move(name)) {}

  std::vector<Setting> take() { return std::move(settings_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++num_documents_ > 1) fail(mark, "only one document per file");
  }
  void OnDocumentEnd() override {}

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases (*name) are not allowed");
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check_plain(mark, "", anchor);
    if (sections_.empty()) return;  // an empty file
    if (!has_key_) fail(mark, "keys must be plain words; got an empty one");
    finish_value(Setting::Kind::nothing, {});
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_plain(mark, tag, anchor);
    if (sections_.empty()) fail(mark, "must consist of sections; got " + printable(value));
    const bool is_quoted = tag == "!";  // set by yaml-cpp; plain scalars have "?"
    if (is_quoted) check_quotes(mark);
    if (has_key_)
      finish_value(Setting::Kind::scalar, {value, is_quoted});
    else
      begin_key(mark, value);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    check_plain(mark, tag, anchor);
    fail(mark, "lists are not allowed");
  }
  void OnSequenceEnd() override {}

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    check_plain(mark, tag, anchor);
    if (!sections_.empty() && !has_key_) fail(mark, "keys must be plain words; got a section");
    if (sections_.size() == kMaxConfigLevels)
      fail(mark, concat("at most ", kMaxConfigLevels, " levels"));
    std::string prefix;
    if (has_key_) {
      prefix = setting_.key + '.';
      finish_value(Setting::Kind::section, {});
    }
    sections_.push_back({std::move(prefix), {}});
  }
  void OnMapEnd() override { sections_.pop_back(); }

 private:
  struct Section {
    std::string prefix;                      ///< full path of its keys: "" or "model.router."
    std::map<std::string, int> key_lines{};  ///< of each key
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& rule) const {
    throw UsageError(concat(name_, ":", mark.line + 1, ": ", rule));
  }

  void check_plain(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) fail(mark, "anchors (&name) are not allowed");
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags (!name) are not allowed");
  }

  void check_quotes(const YAML::Mark& mark) const {
    const std::string_view scalar = source_.substr(static_cast<std::size_t>(mark.pos));
    if (scalar.starts_with('!')) fail(mark, "tags (!name) are not allowed");
    if (scalar.starts_with('|') || scalar.starts_with('>'))
      fail(mark, "block text (| and >) is not allowed");
    if (!ends_on_its_line(scalar)) fail(mark, "quotes must be closed on the same line");
  }

  void begin_key(const YAML::Mark& mark, const std::string& key) {
    Section& section = sections_.back();
    if (key == "<<") fail(mark, "merge keys (<<) are not allowed");
    if (key.empty()) fail(mark, "keys must be plain words; got an empty one");
    if (key.find('.') != std::string::npos)
      fail(mark,
           printable(key) + ": keys are nested in their section here; dots are for overrides");
    const auto [earlier, is_new] = section.key_lines.emplace(key, mark.line + 1);
    if (!is_new)
      fail(mark, concat(printable(section.prefix + key), ": given twice; first in line ",
                        earlier->second));
    setting_ = {concat(name_, ":", mark.line + 1), section.prefix + key};
    has_key_ = true;
  }

  void finish_value(Setting::Kind kind, Scalar value) {
    setting_.kind = kind;
    setting_.value = std::move(value);
    settings_.push_back(std::move(setting_));
    has_key_ = false;
  }

  std::string_view source_;
  std::string name_;
  std::vector<Setting> settings_;
  std::vector<Section> sections_;  ///< open sections, outermost first
  Setting setting_;                ///< waits for its value, if has_key_
  bool has_key_ = false;
  int num_documents_ = 0;
};

}  // namespace

std::vector<Setting> read_settings(std::string_view yaml, const std::string& name) {
  const auto bytes = static_cast<std::int64_t>(yaml.size());
  SMOE_CHECK(bytes <= kMaxConfigBytes, name, ": must have at most ", kMaxConfigBytes,
             " bytes; got ", bytes);
  check_is_text(yaml, name);
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (yaml.starts_with(kByteOrderMark)) yaml.remove_prefix(kByteOrderMark.size());
  SettingsBuilder builder(yaml, name);
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    throw UsageError(
        concat(name, ":", error.mark.line + 1, ": not valid YAML: ", printable(error.msg)));
  }
  return builder.take();
}

Setting read_override(const std::string& text) {
  const std::string place = concat("override '", printable(text), "'");
  const std::size_t equals = text.find('=');
  SMOE_CHECK(equals != std::string::npos && equals > 0, place, ": must be key.path=value");
  return {place, text.substr(0, equals), Setting::Kind::scalar, {text.substr(equals + 1)}};
}

}  // namespace smoe
