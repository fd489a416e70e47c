#include "train/report/progress.h"

#include <doctest/doctest.h>

#include <sstream>

using namespace smoe;

TEST_CASE("progress at the start, in between and at the end") {
  CHECK(progress_text("encoding", 0, 2048, 0, true) ==
        "encoding  [>                       ]    0%  0 B of 2.00 KiB");
  CHECK(progress_text("encoding", 1024, 2048, 3, true) ==
        "encoding  [============>           ]   50%  1.00 KiB of 2.00 KiB  341 B/s  eta 3.0s");
  CHECK(progress_text("encoding", 2048, 2048, 6, true) ==
        "encoding  [========================]  100%  2.00 KiB of 2.00 KiB  341 B/s");
  CHECK(progress_text("measuring", 512, 2048, 60, false) ==
        "measuring   25%  512 B of 2.00 KiB  9 B/s  eta 3m00s");
  CHECK(progress_text("training the tokenizer", 0, 0, 12, true) == "training the tokenizer  12s");
}

TEST_CASE("short operations show nothing") {
  for (const bool is_terminal : {false, true}) {
    std::ostringstream out;
    {
      Progress progress(out, is_terminal);
      for (int i = 0; i < 10; ++i) progress.update("encoding", i, 10);
    }
    CHECK(out.str().empty());
  }
}
