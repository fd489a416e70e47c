#include "train/doctor/finding.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/check.h"
#include "core/system/json_reader.h"

namespace smoe {
namespace {

constexpr const char* kHealthNames[] = {"green", "yellow", "red"};

Health health_of(const std::string& name, const std::string& path) {
  for (int i = 0; i < 3; ++i)
    if (name == kHealthNames[i]) return static_cast<Health>(i);
  throw UsageError(concat(path, ": must be findings of `smoe doctor`"));
}

std::string mark_of(Health health, bool has_colors) {
  constexpr const char* kMarks[] = {"ok  ", "WARN", "FAIL"};
  constexpr int kColors[] = {32, 33, 31};
  const int i = static_cast<int>(health);
  return has_colors ? fmt::format("\x1b[{}m{}\x1b[0m", kColors[i], kMarks[i]) : kMarks[i];
}

}  // namespace

const char* name_of(Health health) {
  return kHealthNames[static_cast<int>(health)];
}

Health worst_of(const Findings& findings) {
  Health worst = Health::green;
  for (const Finding& finding : findings) worst = std::max(worst, finding.health);
  return worst;
}

std::string findings_text(const Findings& findings, bool has_colors) {
  std::string text;
  int num_warnings = 0, num_failures = 0;
  for (const Finding& f : findings) {
    num_warnings += f.health == Health::yellow;
    num_failures += f.health == Health::red;
    text += fmt::format("{}  {:<34}{}\n", mark_of(f.health, has_colors), f.subject, f.result);
    if (!f.advice.empty()) text += fmt::format("{:40}{}\n", "", f.advice);
  }
  return text + fmt::format("\n{} checks: {} warnings, {} failures\n", findings.size(),
                            num_warnings, num_failures);
}

std::string findings_json(const Findings& findings) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& f : findings)
    list.push_back({{"health", name_of(f.health)},
                    {"subject", f.subject},
                    {"result", f.result},
                    {"advice", f.advice}});
  return list.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Findings parse_findings(const std::string& text, const std::string& path) {
  constexpr std::size_t kMaxDepth = 3;
  Findings findings;
  const nlohmann::json json = parse_json(text, path, kMaxDepth);
  SMOE_CHECK(json.is_array(), path, ": must be findings of `smoe doctor`");
  for (const nlohmann::json& item : json) {
    ObjectReader object(item, path);
    findings.push_back({.health = health_of(object.string("health"), path),
                        .subject = object.string("subject"),
                        .result = object.string("result"),
                        .advice = object.string("advice")});
  }
  return findings;
}

}  // namespace smoe
