#include "train/tokenizer/train_sentencepiece.h"

#include <sentencepiece_trainer.h>

#include <algorithm>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

constexpr std::int64_t kNumFixedTokens = 3 + 256;  // unknown, <s>, </s> and the bytes
constexpr std::size_t kMaxSentenceBytes = 4096;

// Characters that the library's trainer does not accept, besides bytes that are not UTF-8.
bool is_reserved(std::string_view character) {
  return character[0] == '\t' || character[0] == '\0' || character == "\xE2\x96\x81";
}

// Cuts text into the trainer's sentences: lines with their trailing newlines, cut further at
// reserved characters and at kMaxSentenceBytes.
class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(const std::function<std::string_view()>& next_text) : next_text_(next_text) {
    Next();
  }

  bool done() const override { return sentence_.empty(); }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    sentence_.clear();
    while (!is_at_end()) {
      const std::size_t length = utf8_length(rest_);
      const bool is_taken = length > 0 && !is_reserved(rest_.substr(0, length));
      if (!sentence_.empty() && (!is_taken || ends_before(rest_[0]))) return;
      if (is_taken) sentence_ += rest_.substr(0, length);
      rest_.remove_prefix(std::max<std::size_t>(1, length));
    }
  }

 private:
  bool is_at_end() {
    if (rest_.empty()) rest_ = next_text_();
    return rest_.empty();
  }

  bool ends_before(char next) const {
    const bool is_long = sentence_.size() > kMaxSentenceBytes / 2;
    return (sentence_.back() == '\n' && next != '\n') || (is_long && next == ' ') ||
           sentence_.size() > kMaxSentenceBytes - 4;
  }

  const std::function<std::string_view()>& next_text_;
  std::string_view rest_;
  std::string sentence_;
};

// The library's message without its source location, which ends with "] ".
std::string reason_of(const sentencepiece::util::Status& status) {
  const std::string message = status.ToString();
  const std::size_t place = message.rfind("] ");
  return printable(place == std::string::npos ? message : message.substr(place + 2));
}

}  // namespace

std::string train_sentencepiece(const std::function<std::string_view()>& next_text,
                                std::int64_t vocab_size) {
  SMOE_CHECK(vocab_size > kNumFixedTokens, "tokenizer: vocab_size must be more than the ",
             kNumFixedTokens, " fixed tokens; got ", vocab_size);
  Sentences sentences(next_text);
  SMOE_CHECK(!sentences.done(), "tokenizer: there is no text to train on");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      {
          {"model_type", "bpe"},
          {"vocab_size", std::to_string(vocab_size)},
          {"byte_fallback", "true"},
          {"normalization_rule_name", "identity"},
          {"add_dummy_prefix", "false"},
          {"remove_extra_whitespaces", "false"},
          {"allow_whitespace_only_pieces", "true"},
          {"split_digits", "true"},
          {"num_threads", "2"},  // stored in the model, so it must not depend on the machine
          {"minloglevel", "2"},
      },
      &sentences, &model);
  SMOE_CHECK(status.ok(), "tokenizer: cannot train a vocabulary of ", vocab_size, ": ",
             reason_of(status));
  return model;
}

}  // namespace smoe
