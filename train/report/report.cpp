#include "train/report/report.h"

#include "core/base/check.h"

namespace smoe {

std::string summary_of(const ChangeReport& report) {
  std::string text;
  for (const auto& [key, before, after] : report.changes)
    text += concat(text.empty() ? "" : ", ", key, " ", before, " -> ", after);
  return text;
}

}  // namespace smoe
