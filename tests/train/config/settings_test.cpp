#include "train/config/settings.h"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/train/config/message_of.h"

namespace smoe {
namespace {

std::string error_in(const std::string& yaml) {
  return message_of([&] { read_settings(yaml, "a.yaml"); });
}

TEST_CASE("settings carry their path, place and text in the order of the file") {
  const auto settings =
      read_settings("# head\nmodel:\n  router: {score: \"x\"}\n  top_k: 2\nlog:\n", "a.yaml");
  REQUIRE(settings.size() == 5);
  const auto check = [&](std::size_t i, const char* place, const char* key, Setting::Kind kind,
                         const char* text, bool is_quoted) {
    CAPTURE(i);
    CHECK(settings[i].place == place);
    CHECK(settings[i].key == key);
    CHECK(settings[i].kind == kind);
    CHECK(settings[i].value.text == text);
    CHECK(settings[i].value.is_quoted == is_quoted);
  };
  check(0, "a.yaml:2", "model", Setting::Kind::section, "", false);
  check(1, "a.yaml:3", "model.router", Setting::Kind::section, "", false);
  check(2, "a.yaml:3", "model.router.score", Setting::Kind::scalar, "x", true);
  check(3, "a.yaml:4", "model.top_k", Setting::Kind::scalar, "2", false);
  check(4, "a.yaml:5", "log", Setting::Kind::nothing, "", false);
}

TEST_CASE("quoted texts are read after other text") {
  const auto settings = read_settings(
      "\xef\xbb\xbf# \xc3\xbc\xe2\x82\xac\r\n'a': 'it''s \xc3\xbc'\r\n\"b\": \"\\\"\\\\\" # x\nc: "
      "''\n",
      "a.yaml");
  REQUIRE(settings.size() == 3);
  CHECK(settings[0].value.text == "it's \xc3\xbc");
  CHECK(settings[1].value.text == "\"\\");
  CHECK(settings[2].value.text == "");
}

TEST_CASE("an empty file has no settings") {
  for (const char* yaml : {"", "\n", "# comment\n", "---\n", "null\n", "{}", "\xef\xbb\xbf"}) {
    CAPTURE(yaml);
    CHECK(read_settings(yaml, "a.yaml").empty());
  }
}

TEST_CASE("violations of strict YAML are reported with their line") {
  const std::pair<std::string, const char*> cases[] = {
      {"a: 1\nb: [1]\n", "a.yaml:2: lists are not allowed"},
      {"- a\n", "a.yaml:1: lists are not allowed"},
      {"text\n", "a.yaml:1: must consist of sections; got text"},
      {"a: 1\nb: 2\na: 3\n", "a.yaml:3: a: given twice; first in line 1"},
      {"a: {b: 1,\n b: 2}\n", "a.yaml:2: a.b: given twice; first in line 1"},
      {"a: {b: 1}\na: {c: 1}\n", "a.yaml:2: a: given twice; first in line 1"},
      {"a: &x 1\n", "a.yaml:1: anchors (&name) are not allowed"},
      {"a: &x {b: 1}\n", "a.yaml:1: anchors (&name) are not allowed"},
      {"a: &x\n", "a.yaml:1: anchors (&name) are not allowed"},
      {"&x a: 1\n", "a.yaml:1: anchors (&name) are not allowed"},
      {"a: *x\n", "a.yaml:1: not valid YAML:"},
      {"a: !!int 1\n", "a.yaml:1: tags (!name) are not allowed"},
      {"a: !mine {b: 1}\n", "a.yaml:1: tags (!name) are not allowed"},
      {"a: !!null\n", "a.yaml:1: tags (!name) are not allowed"},
      {"a:\n  <<: {b: 1}\n", "a.yaml:2: merge keys (<<) are not allowed"},
      {"a: 1\n---\nb: 1\n", "a.yaml:2: only one document per file"},
      {"a.b: 1\n", "a.yaml:1: a.b: keys are nested in their section here; dots are for overrides"},
      {"{a: 1}: 2\n", "a.yaml:1: keys must be plain words; got a section"},
      {"\"\": 2\n", "a.yaml:1: keys must be plain words; got an empty one"},
      {"~: 2\n", "a.yaml:1: keys must be plain words; got an empty one"},
      {"a:\n\tb: 1\n", "a.yaml:2: not valid YAML:"},
      {"a: 1\nb: \"open\n", "a.yaml:2: quotes must be closed on the same line"},
      {"# \xc3\xbc\r\na: 'it''s\nb: 'x'\n", "a.yaml:2: quotes must be closed on the same line"},
      {"a: \"one \\\" \n two\"\n", "a.yaml:1: quotes must be closed on the same line"},
      {"a: \"open", "a.yaml:1: not valid YAML:"},
      {"a: |-\n  text\n", "a.yaml:1: block text (| and >) is not allowed"},
      {"a: >\n  text\n", "a.yaml:1: block text (| and >) is not allowed"},
      {"a: ! 5\n", "a.yaml:1: tags (!name) are not allowed"},
      {std::string("a: 1\nb: \0\n", 10),
       "a.yaml:2: must not contain control characters; got the byte 0x00"},
      {"a: \x1b[1m\n", "a.yaml:1: must not contain control characters; got the byte 0x1b"},
      {"a: 1\n\nb: \xc3", "a.yaml:3: must be UTF-8; got the byte 0xc3"},
      {"a: \xff\xfe\n", "a.yaml:1: must be UTF-8; got the byte 0xff"},
      {"%YAML 9." + std::string(1000, 'x') + "\n---\na: 1\n",
       // The truncated message of the library.
       "a.yaml:1: not valid YAML: bad YAML version: 9."
       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."},
      {std::string((1 << 20) + 1, '#'), "a.yaml: must have at most 1048576 bytes; got 1048577"},
  };
  for (const auto& [yaml, message] : cases) {
    CAPTURE(yaml.substr(0, 80));
    const std::string error = error_in(yaml);
    const bool is_yaml_cpps = std::string_view(message).ends_with("not valid YAML:");
    CHECK((is_yaml_cpps ? error.substr(0, std::strlen(message)) : error) == message);
  }
}

TEST_CASE("32 levels of sections are read and 33 are refused") {
  const auto nested = [](int levels) {
    std::string yaml;
    for (int i = 0; i < levels; ++i) yaml += "{a: ";
    return yaml + "1" + std::string(static_cast<std::size_t>(levels), '}');
  };
  CHECK(read_settings(nested(32), "a.yaml").size() == 32);
  CHECK(error_in(nested(33)) == "a.yaml:1: at most 32 levels");
}

TEST_CASE("hostile texts of any size give one line of error") {
  const std::size_t kMany = 200'000;
  std::string bomb = "a: &a [x,x]\n";
  for (char c = 'b'; c < 'z'; ++c)
    bomb += concat(c, ": &", c, " [*", char(c - 1), ",*", char(c - 1), "]\n");
  std::string sections;
  for (std::size_t i = 0; i < kMany / 4; ++i) sections += "{a: ";
  std::string question_marks;
  for (std::size_t i = 0; i < kMany / 2; ++i) question_marks += "? ";
  std::string dashes;
  for (std::size_t i = 0; i < kMany / 2; ++i) dashes += "- ";
  for (const std::string& yaml :
       {bomb, std::string("&a {a: *a}"), sections, question_marks, dashes, std::string(kMany, '['),
        std::string(kMany, '{'), std::string(kMany, '!'), std::string(kMany, '&'),
        "a: " + std::string(kMany, '*'), std::string(kMany, '"'),
        std::string("a: |\x20") + std::string(kMany, '9')}) {
    const std::string message = error_in(yaml);
    CAPTURE(message);
    CHECK(message.starts_with("a.yaml:"));
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.size() < 200);
  }
}

TEST_CASE("an override is split at its first equals sign") {
  const Setting setting = read_override("data.path= a=b");
  CHECK(setting.place == "override 'data.path= a=b'");
  CHECK(setting.key == "data.path");
  CHECK(setting.value.text == " a=b");
  CHECK_FALSE(setting.value.is_quoted);
  const auto error_of = [](const std::string& text) {
    return message_of([&] { read_override(text); });
  };
  CHECK(error_of("optim.lr") == "override 'optim.lr': must be key.path=value");
  CHECK(error_of("=1") == "override '=1': must be key.path=value");
  CHECK(error_of("") == "override '': must be key.path=value");
}

}  // namespace
}  // namespace smoe
