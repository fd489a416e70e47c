#include "train/launch/node_message.h"

#include <doctest/doctest.h>

#include "core/base/check.h"

using namespace smoe;

TEST_CASE("messages survive a round trip") {
  const JobFailure failure{3, "rank 3 exited", "last lines:\n  \"quoted\"\n", 137, true};
  const NodeMessage written{
      .kind = NodeMessage::Kind::finish, .numbers = {137}, .failure = failure};
  const NodeMessage read = parse_node_message(to_text(written));
  CHECK(read.kind == NodeMessage::Kind::finish);
  CHECK(read.numbers == std::vector<int>{137});
  CHECK(read.failure.rank == 3);
  CHECK(read.failure.line == failure.line);
  CHECK(read.failure.details == failure.details);
  CHECK(read.failure.exit_code == 137);
  CHECK(read.failure.is_death);
}

TEST_CASE("output of ranks may be invalid UTF-8") {
  NodeMessage message{.kind = NodeMessage::Kind::failed};
  message.failure.details = std::string("\xff\x00\x80", 3);
  CHECK(parse_node_message(to_text(message)).failure.details.size() >= 3);
}

TEST_CASE("invalid messages are refused") {
  const std::string good = to_text({.kind = NodeMessage::Kind::start, .numbers = {1, 2}});
  CHECK(parse_node_message(good).numbers.size() == 2);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  const std::string broken[] = {"",
                                "{}",
                                "[]",
                                "nul",
                                good.substr(0, good.size() - 1),
                                std::string(100000, '['),
                                with("\"start\"", "\"starts\""),
                                with("\"start\"", "7"),
                                with("[1,2]", "[]"),
                                with("[1,2]", "[1,-2]"),
                                with("[1,2]", "[1,99999999]"),
                                with("[1,2]", "[1,\"2\"]"),
                                with("[1,2]", "3"),
                                with("\"exit_code\"", "\"exit\""),
                                with("\"start\"", "\"signal\"")};
  for (const std::string& text : broken) {
    CAPTURE(text.substr(0, 80));
    CHECK_THROWS_AS(parse_node_message(text), UsageError);
  }
}
