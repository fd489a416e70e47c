#include "train/generate/stop_texts.h"

#include <doctest/doctest.h>

#include "core/base/check.h"
#include "core/random.h"

using namespace smoe;

namespace {

// The output for `text` in pieces of random sizes.
std::string written(const std::vector<std::string>& stops, const std::string& text,
                    RandomStream& random) {
  StopTexts stop(stops);
  std::string out;
  for (std::size_t at = 0; at < text.size() && !stop.is_reached();) {
    const std::size_t count = 1 + random.below(3);
    out += stop.push(text.substr(at, count));
    at += count;
  }
  return out + stop.finish();
}

// The text before the first occurrence of any of them.
std::string cut(const std::vector<std::string>& stops, const std::string& text) {
  std::size_t end = text.size();
  for (const std::string& stop : stops) end = std::min(end, text.find(stop));
  return text.substr(0, end);
}

}  // namespace

TEST_CASE("text ends before the first stop text, for any division into pieces") {
  RandomStream random(1, hash_name("stop"));
  const std::vector<std::vector<std::string>> stops = {
      {}, {"ab"}, {"aab", "ba"}, {"aaaa"}, {"abab", "bb", "a"}, {"abaabab"}};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += random.below(2) == 0 ? 'a' : 'b';
    for (const auto& chosen : stops) {
      CAPTURE(text);
      CHECK(written(chosen, text, random) == cut(chosen, text));
    }
  }
}

TEST_CASE("only a possible beginning of a stop text is held back") {
  StopTexts stop({"\n\nQ"});
  CHECK(stop.push("one\n") == "one");
  CHECK(stop.push("two") == "\ntwo");
  CHECK(stop.push("\n\n") == "");
  CHECK(stop.push("\n") == "\n");
  CHECK(!stop.is_reached());
  CHECK(stop.push("Q and more") == "");
  CHECK(stop.is_reached());
  CHECK(stop.push("after") == "");
  CHECK(stop.finish() == "");
  CHECK_THROWS_AS(StopTexts({""}), UsageError);
}
