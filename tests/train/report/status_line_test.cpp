#include "train/report/status_line.h"

#include <doctest/doctest.h>

#include <sstream>
#include <thread>

using namespace smoe;

TEST_CASE("a status line is replaced, cleared, and shown on terminals only") {
  const auto shown_on = [](bool is_terminal) {
    std::ostringstream out;
    {
      StatusLine status(out, is_terminal);
      status.show("too soon");
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
      status.show("step 1/9");
      status.show("step 2/9");  // too soon
      status.clear();
      status.clear();
    }
    return out.str();
  };
  CHECK(shown_on(true) == "\r\x1b[Kstep 1/9\r\x1b[K");
  CHECK(shown_on(false) == "");
}
