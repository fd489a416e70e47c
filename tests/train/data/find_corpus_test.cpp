#include "train/data/find_corpus.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>

#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/data/compress.h"
#include "tests/train/data/prepared.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Standard input gives `text`, of at most 64 KiB, during this object's lifetime.
class StandardInput {
 public:
  explicit StandardInput(const std::string& text) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    REQUIRE(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    ::close(ends[1]);
    saved_ = ::dup(STDIN_FILENO);
    ::dup2(ends[0], STDIN_FILENO);
    ::close(ends[0]);
  }
  ~StandardInput() {
    ::dup2(saved_, STDIN_FILENO);
    ::close(saved_);
  }
  StandardInput(const StandardInput&) = delete;
  StandardInput& operator=(const StandardInput&) = delete;

 private:
  int saved_;
};

}  // namespace

TEST_CASE("standard input is text, JSON lines or compressed") {
  const TemporaryFolder folder;
  const auto prepared = [&](const std::string& input) {
    const StandardInput given(input);
    run({.inputs = {"-"},
         .output = folder / "new/o.h5",
         .validation_fraction = 0,
         .is_forced = true});
    CHECK(list_folder(folder / "new").size() == 1);
    return split_text(folder / "new/o.h5", Split::train);
  };
  CHECK(prepared("plain\n") == "|plain\n");
  CHECK(prepared("{\"text\":\"a\"}\n{\"text\":\"b\"}\n") == "|a|b");
  CHECK(prepared(gzip("zip")) == "|zip");
  CHECK(prepared(zstd("{\"text\":\"z\"}")) == "|z");
  const auto message_for = [&](const std::string& input, PrepareOptions options) {
    const StandardInput given(input);
    options.output = folder / "new/x.h5";
    const std::string message = message_of([&] { run(options); });
    CHECK(list_folder(folder / "new").size() == 1);
    return message;
  };
  CHECK(message_for("", {.inputs = {"-"}}) == "-: no text in 1 files: 1 empty, 0 binary");
  CHECK(message_for("a", {.inputs = {"-", "-"}}) == "-: given twice");
  CHECK(message_for("a", {.inputs = {"-"}, .validation = {"-"}}) ==
        "standard input: is in both the training and the validation input");
  CHECK(message_for("{\"text\":\"a\"}\nno", {.inputs = {"-"}})
            .starts_with("standard input:2: must be JSON"));
  CHECK(message_for(std::string("a\0", 2), {.inputs = {"-"}}) ==
        "standard input: is not text: it contains zero bytes");
}

TEST_CASE("bad lines are counted with the first one") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a.jsonl", "{\"text\":\"a\"}\nbad\n{\"text\":\"b\"}\n[]\n");
  PrepareOptions options{
      .inputs = {folder / "a.jsonl"}, .output = folder / "o", .validation_fraction = 0};
  CHECK(contains(message_of([&] { run(options); }), "a.jsonl:2: must be JSON"));
  options.documents.skips_bad_lines = true;
  const PrepareSummary summary = run(options);
  CHECK(summary.num_bad_lines == 2);
  CHECK(contains(summary.first_bad_line, "a.jsonl:2: must be JSON"));
  CHECK(split_text(folder / "o", Split::train) == "|a|b");
}

TEST_CASE("validation is whole documents chosen by a hash, whatever else there is") {
  const TemporaryFolder folder;
  const auto lines = [&](int begin, int end) {
    std::string text;
    for (int i = begin; i < end; ++i) text += "{\"text\": \"number " + std::to_string(i) + "\"}\n";
    return text;
  };
  PrepareOptions options{.inputs = {folder / "in"}, .output = folder / "o", .is_forced = true};
  make_folders(folder / "in");
  write_file_atomically(folder / "in/a.jsonl", lines(0, 2000));
  CHECK(run(options).header.split_rule == SplitRule::documents);
  const std::string chosen = split_text(folder / "o", Split::validation);
  CHECK(std::count(chosen.begin(), chosen.end(), '|') > 60);
  CHECK(std::count(chosen.begin(), chosen.end(), '|') < 150);
  CHECK(TokenSet::open(folder / "o").split_rule() == SplitRule::documents);
  write_file_atomically(folder / "in/0.jsonl", lines(2000, 4000));
  run(options);
  const std::string more = split_text(folder / "o", Split::validation);
  CHECK(more.ends_with(chosen));
  CHECK(more.size() > chosen.size());

  make_folders(folder / "few");
  for (int i = 0; i < 20; ++i) {  // a hash would choose none, or all
    write_file_atomically(folder / "few/a", "text " + std::to_string(i));
    CHECK(run({.inputs = {folder / "few"},
               .output = folder / "o",
               .validation_fraction = 0.6,
               .is_forced = true})
              .header.split_rule == SplitRule::tail);
  }

  options.split_rule = SplitRule::tail;
  CHECK(run(options).header.split_rule == SplitRule::tail);
  CHECK(split_text(folder / "o", Split::validation).ends_with("|number 1998|number 1999"));
}
