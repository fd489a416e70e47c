// Token sets: header, HDF5 metadata and data.
#include <algorithm>

#include "core/system/file.h"
#include "tests/fuzz/hdf5_files.h"
#include "tests/fuzz/target.h"
#include "train/data/token_set.h"
#include "train/data/token_set_writer.h"

namespace smoe::fuzz {
namespace {

std::string make_seed(const std::string& path, std::initializer_list<const char*> train) {
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(path, tokenizer);
  for (const char* document : train) {
    writer.begin_document(Split::train);
    writer.append(document);
  }
  writer.begin_document(Split::validation);
  writer.append("validation");
  writer.finish();
  return read_file(path, 1 << 20);
}

// The header followed by other HDF5 metadata.
std::string with_metadata(const std::string& set, const std::string& metadata) {
  return set.substr(0, kTokenSetHeaderBytes) + metadata + "data";
}

// Sets the value of `key` in the header; no effect if there is no such line.
void set_line(std::string& bytes, std::string_view key, const std::string& value) {
  const std::size_t at = bytes.find(key);
  if (at == std::string::npos || at + 200 > kTokenSetHeaderBytes) return;
  const std::size_t end = bytes.find('\n', at);
  bytes.replace(at + key.size(), end - at - key.size(), value);
}

// Corrects sizes and digests: sizes first, since the digests cover them.
std::string repair(std::string bytes) {
  const std::size_t header_bytes = kTokenSetHeaderBytes;
  if (bytes.size() <= header_bytes) return bytes;
  std::string header = bytes.substr(0, header_bytes);
  const std::string data = bytes.substr(header_bytes);
  std::int64_t metadata_bytes = 0;
  const std::size_t at = header.find("metadata_bytes: ");
  if (at != std::string::npos) metadata_bytes = std::atoll(header.c_str() + at + 16);
  metadata_bytes = std::clamp<std::int64_t>(metadata_bytes, header_bytes + 1,
                                            static_cast<std::int64_t>(bytes.size()));
  set_line(header, "file_bytes: ", std::to_string(bytes.size()));
  set_line(header, "metadata_bytes: ", std::to_string(metadata_bytes));
  set_line(header, "metadata_digest: ",
           digest_of(std::string_view(data).substr(0, metadata_bytes - header_bytes)).hex());
  if (data.size() >= 16)  // of a set with one block, whose digest is at the end
    set_line(header, "blocks_digest: ", digest_of(data.substr(data.size() - 16)).hex());
  const std::size_t seal = header.find("header_digest: ");
  if (seal == std::string::npos) return header + data;
  header.resize(seal);
  header += "header_digest: " + digest_of(header).hex() + "\n";
  header.resize(header_bytes, '\0');
  return header + data;
}

void read(const std::string& path, const std::string& input) {
  put_file(path, input);
  const TokenSet set = TokenSet::open(path);
  for (const Split split : {Split::train, Split::validation}) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(set.num_tokens(split)));
    set.read(split, 0, set.num_tokens(split), tokens.data());
    for (const std::int32_t token : tokens)
      require(token >= 0 && token < set.vocab_size(), "an invalid token: ", token);
    require(
        static_cast<std::int64_t>(set.document_starts(split).size()) == set.num_documents(split),
        "another number of documents");
  }
  const auto tokenizer = set.tokenizer();
  require(tokenizer->vocab_size() == set.vocab_size(), "another vocabulary");
}

}  // namespace

Target token_set_target(const Playground& playground) {
  const std::string path = playground.folder + "/a.h5";
  Target target;
  target.seeds = {make_seed(path, {"some text", "", "more"}), make_seed(path, {"x"})};
  for (const std::string& file : crafted_hdf5_files(playground.canary))
    target.seeds.push_back(repair(with_metadata(target.seeds[0], file)));
  target.dictionary = {"smoe token set, version ",
                       "file_bytes: ",
                       "metadata_bytes: ",
                       "vocab_size: ",
                       "train_tokens: ",
                       "validation_documents: ",
                       "\n",
                       "OHDR",
                       playground.canary};
  target.read = [path](const std::string& input) { read(path, input); };
  target.repair = repair;
  target.is_binary = true;
  return target;
}

}  // namespace smoe::fuzz
