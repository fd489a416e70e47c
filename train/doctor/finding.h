// Finding: one line of `smoe doctor`.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace smoe {

enum class Health : std::uint8_t {
  green,   ///< as it should be
  yellow,  ///< works, but slower or with less than possible
  red,     ///< does not work
};

/// "green", "yellow", "red".
const char* name_of(Health health);

struct Finding {
  Health health = Health::green;
  std::string subject{};  ///< "GEMM speed"
  std::string result{};   ///< "652 TFLOP/s"
  std::string advice{};   ///< what to do; empty if green
};

using Findings = std::vector<Finding>;

/// A table, worst lines marked, with a closing line; colors in a terminal.
std::string findings_text(const Findings& findings, bool has_colors);
std::string findings_json(const Findings& findings);
/// The findings in JSON of findings_json. Throws: UsageError naming `path` for other text.
Findings parse_findings(const std::string& json, const std::string& path);
/// The worst of all; green without any.
Health worst_of(const Findings& findings);

}  // namespace smoe
