#include "train/data/token_set_writer.h"

#include <algorithm>

#include "core/base/check.h"

namespace smoe {
TokenSetWriter::TokenSetWriter(const std::string& path, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), target_(path) {
  header_.vocab_size = tokenizer.vocab_size();
  // Where the data begin does not depend on their shapes, so the tokens can be written before
  // anyone knows how many there will be.
  TokenSetHeader probe = header_;
  probe.num_tokens[0] = 1;
  header_.metadata_bytes = static_cast<std::int64_t>(
      layout_hdf5(token_set_datasets(probe, 1, 1), kTokenSetHeaderBytes).metadata.size());
  end_ = header_.metadata_bytes;
}

void TokenSetWriter::begin_document(Split split) {
  SMOE_INTERNAL_CHECK(split >= split_, "token set: training documents come first");
  split_ = split;
  const int i = static_cast<int>(split);
  documents_[i].push_back(static_cast<std::uint64_t>(header_.num_tokens[i]));
  ++header_.num_documents[i];
  tokens_.assign(1, tokenizer_.end_of_text());
  put_tokens();
}

void TokenSetWriter::append(std::string_view text) {
  header_.text_bytes[static_cast<int>(split_)] += static_cast<std::int64_t>(text.size());
  tokens_.clear();
  tokenizer_.encode(text, tokens_);
  put_tokens();
}

TokenSetHeader TokenSetWriter::finish() {
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
                      ", laid out to end at ", layout.datasets.back().offset);
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

void TokenSetWriter::put_tokens() {
  header_.num_tokens[static_cast<int>(split_)] += static_cast<std::int64_t>(tokens_.size());
  if (token_bytes(header_.vocab_size) == 4) {
    put_bytes(tokens_.data(), static_cast<std::int64_t>(tokens_.size() * sizeof tokens_[0]));
    return;
  }
  narrow_.assign(tokens_.begin(), tokens_.end());
  put_bytes(narrow_.data(), static_cast<std::int64_t>(narrow_.size() * sizeof narrow_[0]));
}

void TokenSetWriter::put_bytes(const void* data, std::int64_t bytes) {
  std::string_view rest(static_cast<const char*>(data), static_cast<std::size_t>(bytes));
  while (!rest.empty()) {
    const std::size_t room = static_cast<std::size_t>(kTokenSetBlockBytes) - block_.size();
    block_.append(rest.substr(0, room));
    rest.remove_prefix(std::min(room, rest.size()));
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
