#include "train/data/documents.h"

#include <doctest/doctest.h>

#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

// The documents of a file, followed by the error in brackets.
std::vector<std::string> documents_of(const std::string& path, const std::string& field = "text") {
  std::vector<std::string> documents;
  const std::string error = message_of([&] {
    DocumentReader reader({.path = path, .name = path, .real_path = path},
                          {.json_field = field, .skips_bad_lines = false});
    TextPiece piece;
    while (reader.next(piece)) {
      CHECK(!piece.text.empty());
      if (piece.begins_document) documents.emplace_back();
      documents.back() += piece.text;
    }
  });
  if (error != "no error") documents.push_back(concat("[", error.substr(path.size()), "]"));
  return documents;
}

}  // namespace

TEST_CASE("JSON lines give the text of the field and ignore everything else") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.jsonl";
  using Documents = std::vector<std::string>;
  const auto documents = [&](const std::string& lines, const std::string& field = "text") {
    overwrite(path, lines);
    return documents_of(path, field);
  };
  CHECK(documents("").empty());
  CHECK(documents("\n \n\r\n").empty());
  CHECK(documents("{\"text\":\"a\"}") == Documents{"a"});
  CHECK(documents("{\"text\":\"a\"}\r\n{\"text\":\"b\"}\n") == Documents{"a", "b"});
  CHECK(documents("{\"meta\":{\"text\":1},\"text\":\"a\",\"list\":[\"text\",[]]}") ==
        Documents{"a"});
  CHECK(documents("{\"text\":\"\\u0000\\n\\ud83d\\ude00\"}") ==
        Documents{std::string("\0\n\xF0\x9F\x98\x80", 6)});
  CHECK(documents("{\"a b\":\"x\",\"text\":3}", "a b") == Documents{"x"});
}

TEST_CASE("invalid lines are errors that name file, line, rule and value") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.jsonl";
  const auto error = [&](const std::string& line) {
    overwrite(path, "{\"text\":\"fine\"}\n\n" + line + "\n{\"text\":\"never\"}\n");
    const auto documents = documents_of(path);
    REQUIRE(documents.size() == 2);
    CHECK(documents[0] == "fine");
    CHECK(documents[1].find('\n') == std::string::npos);
    return documents[1];
  };
  CHECK(error("plain") == "[:3: must be JSON; invalid at byte 1, the end of 'p']");
  CHECK(error("{\"text\":\"a\"") == "[:3: must be JSON; invalid at byte 12, the end of '\"a\"']");
  CHECK(error("{\"text\":\"a\"} x") ==
        "[:3: must be JSON; invalid at byte 14, the end of '\"a\"} x']");
  CHECK(error("{\"text\":\"\xFF\"}").starts_with("[:3: must be JSON; invalid at byte 10"));
  CHECK(error("[\"text\"]") == "[:3: must be a JSON object; got a list]");
  CHECK(error("\"text\"") == "[:3: must be a JSON object; got text]");
  CHECK(error("{}") == "[:3: must have the field \"text\"; it has none]");
  CHECK(error("{\"id\":1,\"body\":\"x\"}") ==
        "[:3: must have the field \"text\"; it has id, body]");
  CHECK(error("{\"text\":12}") == "[:3: \"text\" must be text; got a number]");
  CHECK(error("{\"text\":null}") == "[:3: \"text\" must be text; got null]");
  CHECK(error("{\"text\":{\"a\":1}}") == "[:3: \"text\" must be text; got an object]");
  CHECK(error("{\"text\":[\"a\"]}") == "[:3: \"text\" must be text; got a list]");
  CHECK(error("{\"text\":\"a\",\"text\":\"b\"}") ==
        "[:3: must have the field \"text\" once; it has 2]");
  CHECK(error(std::string(100'000, '[')).starts_with("[:3: must be a JSON object; got a list"));
  CHECK(error("{\"a\":" + std::string(100'000, '['))
            .starts_with("[:3: must be JSON; invalid at byte 100"));
}

TEST_CASE(
    "lines longer than the reader's pieces are complete; those beyond the limit are refused") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.jsonl";
  const std::string text(3'000'000, 'x');
  overwrite(path, "{\"text\":\"" + text + "\"}\n{\"text\":\"b\"}\n");
  CHECK(documents_of(path) == std::vector<std::string>{text, "b"});
  File file = File::create(path);
  file.write_at(0, "{\"text\":\"a\"}\n\"", 14);
  file.resize((std::int64_t{64} << 20) + 100);
  file.close();
  CHECK(documents_of(path) ==
        std::vector<std::string>{"a", "[:2: must have at most 67108864 bytes; got a longer line]"});
}

TEST_CASE("JSON lines have several names, and .json and no extension are what the first line is") {
  const TemporaryFolder folder;
  using Documents = std::vector<std::string>;
  const std::string lines = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n";
  for (const char* name : {"a.ndjson", "a.JSONL", "a.json", "a.Json", "part-00000"}) {
    CAPTURE(name);
    overwrite(folder / name, lines);
    CHECK(documents_of(folder / name) == Documents{"a", "b"});
  }
  for (const std::string& text :
       {std::string("{\n  \"text\": \"a\"\n}\n"), std::string("{\"name\": \"x\"}\n"),
        std::string("[{\"text\": \"a\"}]")}) {
    overwrite(folder / "a.json", text);
    CHECK(documents_of(folder / "a.json") == Documents{text});
  }
}

TEST_CASE("a field is found by its path through objects") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.jsonl";
  using Documents = std::vector<std::string>;
  const auto documents = [&](const std::string& lines, const std::string& field) {
    overwrite(path, lines);
    return documents_of(path, field);
  };
  CHECK(documents("{\"text\":\"no\",\"meta\":{\"x\":{\"text\":\"no\"},\"text\":\"a\"}}",
                  "meta.text") == Documents{"a"});
  CHECK(documents("{\"a\":{\"b\":{\"c\":\"x\"}},\"b\":{\"c\":1},\"c\":2}", "a.b.c") ==
        Documents{"x"});
  CHECK(documents("{\"a\":[{\"b\":\"no\"}],\"l\":{\"a\":{\"b\":\"no\"}}}", "a.b") ==
        Documents{"[:1: must have the field \"a.b\"; it has a, l]"});
  CHECK(documents("{\"a\":\"no\",\"b\":\"no\"}", "a.b") ==
        Documents{"[:1: must have the field \"a.b\"; it has a, b]"});
  CHECK(documents("{\"a\":{\"b\":{\"text\":\"no\"}}}", "a.b") ==
        Documents{"[:1: \"a.b\" must be text; got an object]"});
  CHECK(documents("{\"a\":{},\"a.b\":\"x\"}", "a.b") == Documents{"x"});
  CHECK(documents("{\"a\":{\"b\":\"x\"},\"a.b\":\"x\"}", "a.b") ==
        Documents{"[:1: must have the field \"a.b\" once; it has 2]"});
}

TEST_CASE("bad lines are skipped and counted on request") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.jsonl";
  overwrite(
      path,
      "{\"text\":\"a\"}\nplain\n{\"text\":\"b\"}\n{\"text\":null}\n{\"text\":\"\\ud800\"}\n\"" +
          std::string((std::size_t{64} << 20) + 5, 'x') + "\"\n{\"text\":\"c\"}\n{\"te");
  DocumentReader reader({.path = path, .name = "lines", .real_path = path},
                        {.json_field = "text", .skips_bad_lines = true});
  std::string text;
  for (TextPiece piece; reader.next(piece);) text += piece.text;
  CHECK(text == "abc");
  CHECK(reader.num_bad_lines() == 5);
  CHECK(reader.first_bad_line() == "lines:2: must be JSON; invalid at byte 1, the end of 'p'");
}

TEST_CASE("numbers in other fields may be larger than a double") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.jsonl";
  using Documents = std::vector<std::string>;
  overwrite(path, "{\"score\":-1e999,\"text\":\"a\",\"list\":[1e400,2]}\n{\"text\":1e999}\n");
  CHECK(documents_of(path) == Documents{"a", "[:2: \"text\" must be text; got a number]"});
}

TEST_CASE("any other file is one document") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt";
  overwrite(path, "{\"text\":\"a\"}\n\n" + std::string(3'000'000, 'x'));
  CHECK(documents_of(path) ==
        std::vector<std::string>{"{\"text\":\"a\"}\n\n" + std::string(3'000'000, 'x')});
  overwrite(path, "");
  CHECK(documents_of(path).empty());
}
