// Tokenizers: the bytes of their files, and SentencePiece models generated from lines of text
//   model_type byte_fallback unk_id bos_id eos_id
//   type score piece
// so that mutation reaches the library's use of the pieces.
#include <algorithm>
#include <charconv>
#include <cstring>

#include "tests/fuzz/target.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe::fuzz {
namespace {

const char* const kTexts[] = {"", "Hello world.\n", "  the expert routes   12 tokens",
                              "\xe2\x96\x81\xff\xfe zero \xf0\x9f\x98\x80 caf\xc3\xa9\n\n\t",
                              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

void read(const std::string& input) {
  const auto tokenizer = make_tokenizer(input, "tokenizer.model");
  require(tokenizer->end_of_text() >= 0 && tokenizer->end_of_text() < tokenizer->vocab_size(),
          "end_of_text is not a token");
  for (const char* text : kTexts) {
    std::vector<std::int32_t> tokens;
    tokenizer->encode(text, tokens);
    std::string again;
    for (const std::int32_t token : tokens) again += tokenizer->bytes_of(token);
    require(again == text, "decodes to '", again, "' instead of '", text, "'");
    require(tokenizer->settled_prefix(text) <= std::strlen(text), "settles more than the text");
  }
  const auto same = make_tokenizer(tokenizer->file_bytes(), "again");
  require(same->file_bytes() == tokenizer->file_bytes(), "round-trips to another tokenizer");
}

// --- Models from lines ---

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(0x80 | (value & 0x7f));
  return bytes + static_cast<char>(value);
}
std::string field(int number, std::uint64_t value) {
  return varint(static_cast<std::uint64_t>(number) << 3) + varint(value);
}
std::string field(int number, std::string_view content) {
  return varint(static_cast<std::uint64_t>(number) << 3 | 2) + varint(content.size()) +
         std::string(content);
}
std::string field(int number, float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return varint(static_cast<std::uint64_t>(number) << 3 | 5) + bytes;
}

// Removes and returns the prefix of `text` before `end`.
std::string_view take(std::string_view& text, char end) {
  const std::size_t size = std::min(text.find(end), text.size());
  const std::string_view front = text.substr(0, size);
  text.remove_prefix(std::min(size + 1, text.size()));
  return front;
}

template <class Number>
Number number_of(std::string_view text) {
  Number number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string model_of(std::string_view lines) {
  std::string_view settings = take(lines, '\n');
  std::string trainer, model;
  for (const int number : {3, 35, 40, 41, 42})
    trainer += field(number, number_of<std::uint64_t>(take(settings, ' ')));
  while (!lines.empty()) {
    std::string_view line = take(lines, '\n');
    const auto type = number_of<std::uint64_t>(take(line, ' '));
    const auto score = number_of<float>(take(line, ' '));
    model += field(1, field(1, line) + field(2, score) + field(3, type));
  }
  return model + field(2, trainer);
}

// The 256 byte tokens, which every model must have, and some pieces.
std::string sample_lines(int model_type) {
  std::string lines = concat(model_type, " 1 0 1 2\n2 0 <unk>\n3 0 <s>\n3 0 </s>\n");
  const char* const digits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte)
    lines += concat("6 0 <0x", digits[byte >> 4], digits[byte & 15], ">\n");
  int score = 0;
  for (const char* piece : {"th", "the", "\xe2\x96\x81the", "a", "aa", "aaaa", "e", "h", "t",
                            "\xe2\x96\x81", "ex", "expert", "1", "12", "\xc3\xa9", "zero"})
    lines += concat("1 ", --score, " ", piece, "\n");
  return lines + "4 0 Hello\n5 0 unused\n";
}

}  // namespace

Target tokenizer_target(const Playground& playground) {
  Target target;
  target.seeds = {model_of(sample_lines(2)), test::small_model(), ByteTokenizer().file_bytes(),
                  model_of(sample_lines(1)), model_of(sample_lines(4))};
  for (const std::string kind : {"gpt2", "deepseek"})
    target.seeds.push_back(
        load_tokenizer("tests/oracle/byte-level/" + kind + "/tokenizer.json")->file_bytes());
  target.dictionary = {"<0x00>",
                       "<unk>",
                       "</s>",
                       "\x0a\x05",
                       "\x12\x04",
                       "\x18\x01",
                       "\x1a\x02",
                       "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                       "\x0b",
                       "\x0c",
                       "{\"kind\": \"bytes\"",
                       "\"Isolated\"",
                       "\\\\p{L}",
                       "(?i:",
                       "{1,3}",
                       std::string("\x00\x00\xc0\x7f", 4),
                       "\xe2\x96\x81",
                       playground.canary};
  target.read = read;
  return target;
}

Target tokenizer_pieces_target(const Playground& playground) {
  Target target;
  for (const int model_type : {1, 2, 3, 4}) target.seeds.push_back(sample_lines(model_type));
  target.dictionary = {"6 0 <0x41>\n",
                       "4 0 \n",
                       "4 1e30 aa\n",
                       "1 nan b\n",
                       "1 -inf c\n",
                       "2 0 u\n",
                       "3 0 </s>\n",
                       "1 0 a b\n",
                       "1 0 \xe2\x96\x81\xe2\x96\x81\n",
                       "1 3 \n",
                       "<0x",
                       "\xff",
                       "\xe2\x96",
                       "\xf0\x9f\x98\x80",
                       "1 1 " + std::string(1024, 'a') + "\n",
                       "5 0 aa\n",
                       "1 0 " + playground.canary + "\n"};
  target.read = [](const std::string& input) { read(model_of(input)); };
  return target;
}

}  // namespace smoe::fuzz
