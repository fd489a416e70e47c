#include "train/data/prepare.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "core/system/folder.h"
#include "core/system/text.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/data/compress.h"
#include "tests/train/data/prepared.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/data/token_set.h"
#include "train/tokenizer/sentencepiece_model.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("folders are read in order of names, without hidden, empty and binary files") {
  const TemporaryFolder folder;
  make_folders(folder / "in/b/inner");
  make_folders(folder / "in/.git");
  write_file_atomically(folder / "in/c.txt", "see");
  write_file_atomically(folder / "in/a.txt", "ay");
  write_file_atomically(folder / "in/b/z", "zet");
  write_file_atomically(folder / "in/b/inner/deep", "deep");
  write_file_atomically(folder / "in/.git/config", "hidden");
  write_file_atomically(folder / "in/empty", "");
  write_file_atomically(folder / "in/image", std::string("\x89PNG\0\0", 6));
  write_file_atomically(folder / "first", "first");
  REQUIRE(::symlink(folder.path().c_str(), (folder / "in/loop").c_str()) == 0);
  const PrepareSummary summary = run({.inputs = {folder / "first", folder / "in"},
                                      .output = folder / "new/out.h5",
                                      .validation_fraction = 0});
  CHECK(split_text(folder / "new/out.h5", Split::train) == "|first|ay|deep|zet|see");
  CHECK(split_text(folder / "new/out.h5", Split::validation) == "");
  CHECK(count_of(summary.texts) == 5);
  CHECK(summary.empty.kinds == FileKinds{{"", 1}});
  CHECK(named(summary.empty) == folder / "in/empty");
  CHECK(summary.binary.kinds == FileKinds{{"", 1}});
  CHECK(named(summary.binary) == folder / "in/image");
  CHECK(summary.header.text_bytes[0] == 17);
}

TEST_CASE("of many skipped files the first are named, safely for a terminal") {
  SkippedFiles files;
  for (const char* name : {"a.png", "b\x1b[2J.png", "c.xz", "d.png", "e.png", "f.png", "g.png"})
    files.add(".png", name);
  CHECK(count_of(files.kinds) == 7);
  CHECK(named(files) == "a.png, " + printable("b\x1b[2J.png") + ", c.xz, d.png, e.png and 2 more");
  CHECK(named({}) == "");
}

TEST_CASE("links are followed, and a file by two paths is one") {
  const TemporaryFolder folder;
  make_folders(folder / "in");
  make_folders(folder / "real");
  write_file_atomically(folder / "in/a.txt", "a");
  write_file_atomically(folder / "real/b.txt", "b");
  REQUIRE(::symlink("../real", (folder / "in/more").c_str()) == 0);
  REQUIRE(::symlink("a.txt", (folder / "in/same.txt").c_str()) == 0);
  REQUIRE(::symlink("../in", (folder / "real/back").c_str()) == 0);
  const PrepareOptions options{
      .inputs = {folder / "in"}, .output = folder / "out.h5", .validation_fraction = 0};
  CHECK(run(options).texts == FileKinds{{".txt", 2}});
  CHECK(split_text(folder / "out.h5", Split::train) == "|a|b");
  CHECK(message_of([&] {
          run({.inputs = {folder / "in/a.txt", folder / "in/../in/same.txt"},
               .output = folder / "x.h5"});
        }) == folder / "in/../in/same.txt" + ": given twice");
  CHECK(message_of([&] {
          run({.inputs = {folder / "in/a.txt"},
               .validation = {folder / "in/same.txt"},
               .output = folder / "x.h5"});
        }).ends_with("in/same.txt: is in both the training and the validation input"));
  CHECK(message_of([&] {
          run({.inputs = {folder / "in"}, .output = folder / "in/same.txt", .is_forced = true});
        }).ends_with("in/same.txt: cannot be written: it is an input"));
  CHECK(read_file(folder / "in/a.txt", 10) == "a");
}

TEST_CASE("what a folder holds besides text is named") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a.xz", std::string("\xfd\0", 2));
  write_file_atomically(folder / "b.xz", std::string("\xfd\0", 2));
  write_file_atomically(folder / "c.png", std::string("\x89PNG\0", 5));
  CHECK(message_of([&] {
          run({.inputs = {folder.path()}, .output = folder / "x.h5"});
        }).ends_with("no text in 3 files: 0 empty, 3 binary: 1 .png, 2 .xz"));
}

TEST_CASE("JSON lines may be compressed with zstd") {
  const TemporaryFolder folder;
  make_folders(folder / "in");
  write_file_atomically(folder / "in/lines.jsonl.zst",
                        zstd("{\"text\":\"a\"}\n{\"text\":\"b\"}\n"));
  CHECK(run({.inputs = {folder / "in"}, .output = folder / "o", .validation_fraction = 0})
            .json_lines == FileKinds{{".jsonl.zst", 1}});
  CHECK(split_text(folder / "o", Split::train) == "|a|b");
}

TEST_CASE("the file that gives the tokenizer is not overwritten") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "text");
  write_file_atomically(folder / "m", test::small_model());
  CHECK(message_of([&] {
          run({.inputs = {folder / "a"},
               .output = folder / "m",
               .tokenizer = folder / "./m",
               .is_forced = true});
        }) == folder / "m" + ": cannot be written: it is an input");
  CHECK(read_file(folder / "m", 1 << 20) == test::small_model());
}

TEST_CASE("one tokenizer is trained on several inputs, and taken from a token set") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", test::small_text());
  write_file_atomically(folder / "b", std::string(3000, 'q') + " " + test::small_text());
  const PrepareOptions options{
      .inputs = {folder / "a", folder / "b"}, .output = folder / "tok.model", .vocab_size = 300};
  prepare_tokenizer(options, [](const char*, std::int64_t, std::int64_t) {});
  const auto tokenizer = load_tokenizer(folder / "tok.model");
  CHECK(tokenizer->vocab_size() == 300);
  run({.inputs = {folder / "a"}, .output = folder / "a.h5", .tokenizer = folder / "tok.model"});
  run({.inputs = {folder / "b"}, .output = folder / "b.h5", .tokenizer = folder / "a.h5"});
  CHECK(TokenSet::open(folder / "b.h5").tokenizer()->digest() == tokenizer->digest());
}

TEST_CASE("the last bytes become the validation split") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", std::string(50, 'a'));
  write_file_atomically(folder / "b", std::string(45, 'b'));
  write_file_atomically(folder / "c", "ccccc");
  const std::vector<std::string> inputs = {folder / "a", folder / "b", folder / "c"};
  const auto split_at = [&](double fraction) {
    const PrepareSummary summary = run({.inputs = inputs,
                                        .output = folder / "out",
                                        .validation_fraction = fraction,
                                        .is_forced = true});
    CHECK(summary.header.text_bytes[0] + summary.header.text_bytes[1] == 100);
    return split_text(folder / "out", Split::train) + " " +
           split_text(folder / "out", Split::validation);
  };
  const std::string a(50, 'a');
  const std::string b(45, 'b');
  CHECK(split_at(0.05) == "|" + a + "|" + b + " |ccccc");
  CHECK(split_at(0.07) == "|" + a + "|" + b.substr(2) + " |bb|ccccc");
  CHECK(split_at(0.02) == "|" + a + "|" + b + "|ccc |cc");
  CHECK(split_at(0) == "|" + a + "|" + b + "|ccccc ");
  CHECK(split_at(0.985) == "|a |" + a.substr(1) + "|" + b + "|ccccc");
}

TEST_CASE("the split falls between characters") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "xxx\xF0\x9F\x98\x80yyy");  // ten bytes, character at 3
  for (const double fraction : {0.6, 0.5, 0.4}) {                 // cuts at 4, 5, 6
    run({.inputs = {folder / "a"},
         .output = folder / "out",
         .validation_fraction = fraction,
         .is_forced = true});
    CHECK(split_text(folder / "out", Split::train) == "|xxx\xF0\x9F\x98\x80");
    CHECK(split_text(folder / "out", Split::validation) == "|yyy");
  }
}

TEST_CASE("with validation files, all of the input is for training") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "train");
  write_file_atomically(folder / "v", "valid");
  run({.inputs = {folder / "a"}, .validation = {folder / "v"}, .output = folder / "out"});
  CHECK(split_text(folder / "out", Split::train) == "|train");
  CHECK(split_text(folder / "out", Split::validation) == "|valid");
}

TEST_CASE("invalid options and inputs give one line of error and write nothing") {
  const TemporaryFolder folder;
  make_folders(folder / "nothing");
  write_file_atomically(folder / "a", "text");
  write_file_atomically(folder / "empty", "");
  write_file_atomically(folder / "binary", std::string("a\0b", 3));
  const auto message_for = [&](PrepareOptions options) {
    if (options.output.empty()) options.output = folder / "out";
    const std::string message = message_of([&] { run(options); });
    CHECK(!contains(message, "\n"));
    CHECK(kind_of(folder / "out") == PathKind::none);
    return message;
  };
  const std::string a = folder / "a";
  CHECK(contains(message_for({.inputs = {folder / "none"}}), "none: no such file or folder"));
  CHECK(contains(message_for({.inputs = {folder / "nothing"}}), "nothing: no files in it"));
  CHECK(contains(message_for({.inputs = {folder / "empty"}}), "empty: no text"));
  CHECK(contains(message_for({.inputs = {folder / "binary"}}), "binary: is not text"));
  CHECK(contains(message_for({.inputs = {a, a}}), "a: given twice"));
  CHECK(contains(message_for({.inputs = {a}, .validation = {a}}),
                 "both the training and the validation"));
  CHECK(contains(message_for({.inputs = {a}, .validation = {folder / "empty"}}), "no text to"));
  CHECK(contains(message_for({.inputs = {a}, .output = a}), "a: exists already"));
  CHECK(contains(message_for({.inputs = {a}, .output = folder / "nothing"}), "it is not a file"));
  CHECK(contains(message_for({.inputs = {a}, .tokenizer = "bpee"}),
                 "prepare: tokenizer must be bytes"));
  CHECK(contains(message_for({.inputs = {a}, .tokenizer = a}), "a: no tokenizer"));
  CHECK(contains(message_for({.inputs = {a}, .tokenizer = "bpe"}), "tokenizer: cannot train"));
  CHECK(contains(message_for({.inputs = {a}, .vocab_size = 300}),
                 "prepare: vocab_size must be given only"));
  for (const double fraction : {-0.1, 1.0, std::nan("")})
    CHECK(contains(message_for({.inputs = {a}, .validation_fraction = fraction}), "in [0, 1)"));
  CHECK(contains(message_for({.inputs = {a}, .validation_fraction = 0.9}),
                 "none for the training split"));
  CHECK(list_folder(folder.path()).size() == 4);
}

TEST_CASE("a file that changes between the two reads is reported; stopping leaves no files") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", counting_text(5000));
  const PrepareOptions options{.inputs = {folder / "a"}, .output = folder / "out"};
  bool is_grown = false;
  const auto grow = [&](const char* part, std::int64_t, std::int64_t) {
    if (std::string(part) != "encoding" || is_grown) return;
    is_grown = true;
    File::open_append(folder / "a").append("more");
  };
  CHECK(contains(message_of([&] { prepare(options, grow); }), "a: changed while it was read"));
  struct Stop {};
  const auto stop = [&](const char* part, std::int64_t, std::int64_t) {
    if (std::string(part) == "encoding") throw Stop();
  };
  CHECK_THROWS_AS(prepare(options, stop), Stop);
  CHECK(list_folder(folder.path()).size() == 1);
}

TEST_CASE("a tokenizer is trained on the training split, stored in the set, and can be reused") {
  const TemporaryFolder folder;
  const std::string validation = "\xE4\xBD\xA0\xE5\xA5\xBD expert\xFF\n";
  write_file_atomically(folder / "a", test::small_text());
  write_file_atomically(folder / "v", validation);
  const PrepareOptions options{.inputs = {folder / "a"},
                               .validation = {folder / "v"},
                               .output = folder / "out",
                               .tokenizer = "bpe",
                               .vocab_size = 400,
                               .is_forced = true};
  const PrepareSummary summary = run(options);
  const TokenSet set = TokenSet::open(folder / "out");
  const auto tokenizer = set.tokenizer();
  CHECK(tokenizer->file_bytes() == as_lossless_model(test::small_model(), "m"));
  const auto text_of = [&](Split split) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(set.num_tokens(split)));
    set.read(split, 0, set.num_tokens(split), tokens.data());
    CHECK(tokens[0] == tokenizer->end_of_text());
    std::string text;
    for (const std::int32_t token : tokens) text += tokenizer->bytes_of(token);
    return text;
  };
  CHECK(text_of(Split::train) == test::small_text());
  CHECK(text_of(Split::validation) == validation);
  CHECK(summary.header.num_tokens[0] < summary.header.text_bytes[0] / 2);

  const std::string bytes = read_file(folder / "out", 1 << 24);
  run(options);
  CHECK(read_file(folder / "out", 1 << 24) == bytes);
  write_file_atomically(folder / "m", test::small_model());
  PrepareOptions given = options;
  given.tokenizer = folder / "m";
  given.vocab_size = 0;
  run(given);
  CHECK(read_file(folder / "out", 1 << 24) == bytes);
  given.tokenizer = "bytes";
  run(given);
  CHECK(TokenSet::open(folder / "out").digest() != set.digest());
}

TEST_CASE("each line of a .jsonl file is a document, in folders too") {
  const TemporaryFolder folder;
  make_folders(folder / "in");
  write_file_atomically(folder / "in/a.jsonl",
                        "{\"text\": \"one\"}\n{\"text\": \"\"}\n\n"
                        "{\"n\": [1, {\"text\": 2}], \"text\": \"t\\u00e4\\n\"}");
  write_file_atomically(folder / "in/b.jsonl.gz", gzip("{\"body\": \"x\", \"text\": \"zip\"}\n"));
  write_file_atomically(folder / "in/c.txt", "plain");
  write_file_atomically(folder / "in/d.jsonl", "");
  const PrepareSummary summary =
      run({.inputs = {folder / "in"}, .output = folder / "out", .validation_fraction = 0});
  CHECK(split_text(folder / "out", Split::train) == "|one|t\xC3\xA4\n|zip|plain");
  CHECK(summary.texts == FileKinds{{".txt", 1}});
  CHECK(summary.json_lines == FileKinds{{".jsonl", 1}, {".jsonl.gz", 1}});
  CHECK(count_of(summary.empty.kinds) == 1);
  CHECK(summary.header.num_documents[0] == 4);
  CHECK(summary.header.text_bytes[0] == 15);
  CHECK(contains(message_of([&] {
                   run({.inputs = {folder / "in"},
                        .output = folder / "o",
                        .documents = {.json_field = "body"}});
                 }),
                 "in/a.jsonl:1: must have the field \"body\"; it has text"));
  CHECK(kind_of(folder / "o") == PathKind::none);
}
