#include "train/report/page_frame.h"

#include <fmt/format.h>

#include "train/report/chart.h"
#include "train/report/page_assets.h"

namespace smoe {

std::string page_head(const std::string& title) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<title>{0} · smoe</title><style>{1}</style></head><body>\n<header><h1>{0}</h1>",
      escaped(title), kPageStyle);
}

std::string page_end() {
  return std::string("<script>") + kPageScript + "</script></body></html>\n";
}

}  // namespace smoe
