#include "train/launch/node_message.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/base/check.h"

namespace smoe {
namespace {

using Kind = NodeMessage::Kind;

constexpr std::array<const char*, 8> kKindNames = {"joined", "failed", "ended", "left",
                                                   "signal", "start",  "stop",  "finish"};

constexpr std::size_t kMaxNumbers = std::size_t{1} << 16;

// Whether a message of this kind has that many numbers.
bool is_right_count(Kind kind, std::size_t count) {
  switch (kind) {
    case Kind::joined:
      return count == 2;
    case Kind::ended:
    case Kind::signal:
    case Kind::finish:
      return count == 1;
    case Kind::start:
      return count >= 1 && count <= kMaxNumbers;
    case Kind::failed:
    case Kind::left:
    case Kind::stop:
      return count == 0;
  }
  return false;
}

}  // namespace

std::string to_text(const NodeMessage& message) {
  const nlohmann::json json = {
      {"kind", kKindNames[static_cast<std::size_t>(message.kind)]},
      {"numbers", message.numbers},
      {"rank", message.failure.rank},
      {"line", message.failure.line},
      {"details", message.failure.details},
      {"exit_code", message.failure.exit_code},
      {"is_death", message.failure.is_death},
  };
  // The output of ranks may be invalid UTF-8.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

NodeMessage parse_node_message(const std::string& text) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    NodeMessage message;
    const auto name = json.at("kind").get<std::string>();
    const auto kind = std::find(kKindNames.begin(), kKindNames.end(), name);
    SMOE_CHECK(kind != kKindNames.end(), "launcher message: unknown kind '", name, "'");
    message.kind = static_cast<Kind>(kind - kKindNames.begin());
    message.numbers = json.at("numbers").get<std::vector<int>>();
    SMOE_CHECK(is_right_count(message.kind, message.numbers.size()), "launcher message: ", name,
               " has ", message.numbers.size(), " numbers");
    for (const int number : message.numbers)
      SMOE_CHECK(number >= 0 && number <= 1 << 20, "launcher message: ", name, " has ", number);
    message.failure.rank = json.at("rank").get<int>();
    message.failure.line = json.at("line").get<std::string>();
    message.failure.details = json.at("details").get<std::string>();
    message.failure.exit_code = json.at("exit_code").get<int>();
    message.failure.is_death = json.at("is_death").get<bool>();
    return message;
  } catch (const nlohmann::json::exception& error) {
    throw UsageError(concat("launcher message: ", error.what()));
  }
}

}  // namespace smoe
