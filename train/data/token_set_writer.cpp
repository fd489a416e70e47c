#include "train/data/token_set_writer.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "kernels/threads.h"

namespace smoe {
namespace {

// Text per encoding task: enough to make the cost of a thread negligible.
constexpr std::size_t kChunkBytes = 1 << 20;

// Whether a token after each document differs from that before the next one.
bool has_end_token(const Tokenizer& tokenizer) {
  return tokenizer.begin_of_text() != tokenizer.end_of_text();
}

}  // namespace

TokenSetWriter::TokenSetWriter(const std::string& path, const Tokenizer& tokenizer, SplitRule rule)
    : tokenizer_(tokenizer), target_(path) {
  header_.split_rule = rule;
  header_.vocab_size = tokenizer.vocab_size();
  // The offset of the data does not depend on their shapes, so tokens can be written before their
  // number is known.
  TokenSetHeader probe = header_;
  probe.num_tokens[0] = 1;
  header_.metadata_bytes = static_cast<std::int64_t>(
      layout_hdf5(token_set_datasets(probe, 1, 1), kTokenSetHeaderBytes).metadata.size());
  end_ = header_.metadata_bytes;
}

void TokenSetWriter::begin_document(Split split) {
  SMOE_INTERNAL_CHECK(split >= split_, "token set: training documents come first");
  if (split != split_) finish_encoding();
  split_ = split;
  ++header_.num_documents[static_cast<int>(split)];
  gathered_.begins_split |= header_.num_documents[static_cast<int>(split)] == 1;
  gathered_.starts.push_back(gathered_.text.size());
  is_document_empty_ = true;
}

void TokenSetWriter::append(std::string_view text) {
  header_.text_bytes[static_cast<int>(split_)] += static_cast<std::int64_t>(text.size());
  if (!text.empty() && std::exchange(is_document_empty_, false))
    gathered_.text += tokenizer_.document_prefix();
  while (!text.empty()) {
    const std::string_view front = text.substr(0, kChunkBytes - gathered_.text.size());
    gathered_.text += front;
    text.remove_prefix(front.size());
    if (gathered_.text.size() == kChunkBytes) begin_encoding(cut_of(gathered_));
  }
}

// Where a full chunk is cut: a place that does not change the tokens.
std::size_t TokenSetWriter::cut_of(const TextChunk& chunk) const {
  const std::size_t begin = chunk.starts.empty() ? 0 : chunk.starts.back();
  const std::string_view last = std::string_view(chunk.text).substr(begin);
  const std::size_t settled = begin + tokenizer_.settled_prefix(last);
  if (settled > 0) return settled;
  // One long document without such a place: cut between two characters, of at most four bytes.
  const auto is_continuation = [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
  };
  std::size_t cut = chunk.text.size() - 1;
  while (cut + 4 > chunk.text.size() && is_continuation(chunk.text[cut])) --cut;
  return cut;
}

TokenSetWriter::Encoded TokenSetWriter::encode(const Tokenizer& tokenizer, const TextChunk& chunk) {
  Encoded encoded;
  const std::string_view text = chunk.text;
  const std::size_t first = chunk.starts.empty() ? text.size() : chunk.starts.front();
  tokenizer.encode(text.substr(0, first), encoded.tokens);
  for (std::size_t i = 0; i < chunk.starts.size(); ++i) {
    const std::size_t end = i + 1 < chunk.starts.size() ? chunk.starts[i + 1] : text.size();
    const bool is_first = i == 0 && chunk.begins_split;
    if (!is_first && has_end_token(tokenizer)) encoded.tokens.push_back(tokenizer.end_of_text());
    encoded.starts.push_back(encoded.tokens.size());
    encoded.tokens.push_back(tokenizer.begin_of_text());
    tokenizer.encode(text.substr(chunk.starts[i], end - chunk.starts[i]), encoded.tokens);
  }
  return encoded;
}

// Starts encoding the gathered text before `cut`; the text after it stays gathered.
void TokenSetWriter::begin_encoding(std::size_t cut) {
  TextChunk rest{gathered_.text.substr(cut), {}, false};
  gathered_.text.resize(cut);
  while (!rest.text.empty() && !gathered_.starts.empty() && gathered_.starts.back() == cut) {
    gathered_.starts.pop_back();
    rest.starts.push_back(0);
  }
  encoding_.push_back(std::async(std::launch::async, [this, chunk = std::move(gathered_)] {
    return encode(tokenizer_, chunk);
  }));
  gathered_ = std::move(rest);
  if (encoding_.size() > 2 * static_cast<std::size_t>(kernels::cpu::num_threads())) put_oldest();
}

void TokenSetWriter::finish_encoding() {
  begin_encoding(gathered_.text.size());
  while (!encoding_.empty()) put_oldest();
  if (has_end_token(tokenizer_) && header_.num_documents[static_cast<int>(split_)] > 0)
    put_tokens({tokenizer_.end_of_text()});
}

// Waits for the oldest encoding task and writes its tokens.
void TokenSetWriter::put_oldest() {
  const Encoded encoded = encoding_.front().get();
  encoding_.pop_front();
  const int i = static_cast<int>(split_);
  for (const std::size_t start : encoded.starts)
    documents_[i].push_back(static_cast<std::uint64_t>(header_.num_tokens[i]) + start);
  put_tokens(encoded.tokens);
}

TokenSetHeader TokenSetWriter::finish() {
  finish_encoding();
  SMOE_CHECK(header_.num_tokens[0] > 0, "token set: there is no text to train on");
  for (const auto& documents : documents_)
    put_bytes(documents.data(), static_cast<std::int64_t>(documents.size() * sizeof documents[0]));
  const std::string& tokenizer = tokenizer_.file_bytes();
  put_bytes(tokenizer.data(), static_cast<std::int64_t>(tokenizer.size()));
  if (!block_.empty()) put_block();

  const auto num_blocks = static_cast<std::int64_t>(digests_.size() / 2);
  const auto datasets =
      token_set_datasets(header_, static_cast<std::int64_t>(tokenizer.size()), num_blocks);
  Hdf5Layout layout = layout_hdf5(datasets, kTokenSetHeaderBytes);
  const std::string_view digests(reinterpret_cast<const char*>(digests_.data()),
                                 digests_.size() * sizeof digests_[0]);
  SMOE_INTERNAL_CHECK(layout.datasets.back().offset == end_, "token set: data end at ", end_,
                      ", the layout ends at ", layout.datasets.back().offset);
  target_.file().write_at(end_, digests.data(), static_cast<std::int64_t>(digests.size()));
  header_.file_bytes = layout.file_bytes;
  header_.metadata_digest =
      digest_of(std::string_view(layout.metadata).substr(kTokenSetHeaderBytes));
  header_.blocks_digest = digest_of(digests);
  layout.metadata.replace(0, kTokenSetHeaderBytes, header_.to_bytes());
  SMOE_INTERNAL_CHECK(static_cast<std::int64_t>(layout.metadata.size()) == header_.metadata_bytes,
                      "token set: its metadata grew to ", layout.metadata.size(), " bytes");
  target_.file().write_at(0, layout.metadata.data(), header_.metadata_bytes);
  target_.commit();
  return header_;
}

void TokenSetWriter::put_tokens(const std::vector<std::int32_t>& tokens) {
  header_.num_tokens[static_cast<int>(split_)] += static_cast<std::int64_t>(tokens.size());
  if (token_bytes(header_.vocab_size) == 4) {
    put_bytes(tokens.data(), static_cast<std::int64_t>(tokens.size() * sizeof tokens[0]));
    return;
  }
  narrow_.assign(tokens.begin(), tokens.end());
  put_bytes(narrow_.data(), static_cast<std::int64_t>(narrow_.size() * sizeof narrow_[0]));
}

void TokenSetWriter::put_bytes(const void* data, std::int64_t bytes) {
  std::string_view rest(static_cast<const char*>(data), static_cast<std::size_t>(bytes));
  while (!rest.empty()) {
    const std::size_t space = static_cast<std::size_t>(kTokenSetBlockBytes) - block_.size();
    block_.append(rest.substr(0, space));
    rest.remove_prefix(std::min(space, rest.size()));
    if (static_cast<std::int64_t>(block_.size()) == kTokenSetBlockBytes) put_block();
  }
}

void TokenSetWriter::put_block() {
  const Digest digest = digest_of(block_);
  digests_.insert(digests_.end(), {digest.high, digest.low});
  target_.file().write_at(end_, block_.data(), static_cast<std::int64_t>(block_.size()));
  end_ += static_cast<std::int64_t>(block_.size());
  block_.clear();
}

}  // namespace smoe
