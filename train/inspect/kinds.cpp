#include "train/inspect/kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/system/folder.h"
#include "core/system/format.h"
#include "core/system/text.h"
#include "layers/mixture_of_attention.h"
#include "layers/model_size.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/changes.h"
#include "train/config/config.h"
#include "train/config/run_paths.h"
#include "train/data/token_set.h"
#include "train/huggingface/safetensors.h"
#include "train/inspect/tensor_table.h"

namespace smoe {
namespace {

std::string quoted(std::string_view text, std::size_t max_bytes) {
  return '"' + printable(text, max_bytes) + '"';
}

std::string model_lines(const ModelConfig& m) {
  std::string text =
      labelled("model", fmt::format("{} of width {}, {} query and {} key heads of {}",
                                    counted(m.num_layers, "layer"), m.d_model, m.num_heads,
                                    m.num_kv_heads, m.head_dim));
  if (m.attention.kind == "moa") {
    const MixtureOfAttention::Settings mixture(m.attention.settings);
    text += labelled("attention",
                     fmt::format("{} experts of {} query heads in each layer, top {}",
                                 mixture.num_experts, m.num_heads / mixture.top_k, mixture.top_k));
  }
  text += labelled(
      "experts",
      fmt::format(
          "{} of width {} in each layer, top {}{}", m.num_experts, m.d_expert, m.top_k,
          m.num_shared_experts == 0 ? "" : fmt::format(", {} shared", m.num_shared_experts)));
  if (m.vocab_size == 0)
    return text + labelled("vocabulary", "that of the token set") +
           labelled("parameters", "depend on the vocabulary; see `smoe plan`");
  const ModelSize size = model_size(m);
  return text + labelled("vocabulary", grouped(m.vocab_size)) +
         labelled("parameters",
                  fmt::format("{}, {} of them active", grouped(size.total), grouped(size.active)));
}

std::string config_lines(const Config& c) {
  const TrainConfig& t = c.train;
  std::string text = model_lines(c.model);
  if (c.data.sources.empty()) text += labelled("data", c.data.path);
  std::string label = "data";
  for (const DataSource& source : c.data.sources)
    text += labelled(std::exchange(label, ""),
                     fmt::format("{}: {}, weight {}", source.name, source.path, source.weight));
  text += labelled("training",
                   fmt::format("{} of {} sequences of {} tokens, in micro-batches of {}",
                               counted(t.steps, "step"), t.global_batch, t.seq_len, t.micro_batch));
  text += labelled("learning rate", fmt::format("{} at the peak", c.optim.lr));
  return text;
}

// The first tokens of a split and their text.
std::string sample_line(const TokenSet& set, const Tokenizer& tokenizer, Split split) {
  std::vector<std::int32_t> tokens(std::min<std::int64_t>(set.num_tokens(split), 64));
  set.read(split, 0, static_cast<std::int64_t>(tokens.size()), tokens.data());
  TextDecoder decoder(tokenizer);
  std::string ids, text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i < 10) ids += fmt::format("{} ", tokens[i]);
    text += decoder.push(tokens[i]);
  }
  text += decoder.finish();
  return labelled("", fmt::format("{}{}", ids, tokens.size() > 10 ? "..." : "")) +
         labelled("", quoted(text, 76));
}

void read_all(const TokenSet& set) {
  constexpr std::int64_t kAtOnce = 1 << 20;
  std::vector<std::int32_t> tokens(kAtOnce);
  for (const Split split : {Split::train, Split::validation}) {
    for (std::int64_t begin = 0; begin < set.num_tokens(split); begin += kAtOnce)
      set.read(split, begin, std::min(kAtOnce, set.num_tokens(split) - begin), tokens.data());
    set.document_starts(split);
  }
}

// "step 40, updates 40".
std::string numbers_of(const Manifest& manifest) {
  std::string text;
  for (const auto& [name, value] : manifest.integers)
    text += concat(text.empty() ? "" : ", ", name, " ", grouped(value));
  for (const auto& [name, value] : manifest.reals)
    text += concat(text.empty() ? "" : ", ", name, " ", value);
  return text;
}

std::string checkpoint_line(const std::string& path) {
  try {
    const Checkpoint checkpoint(path);
    return fmt::format("step {:>8}  {:>9}", grouped(checkpoint.manifest().step),
                       format_bytes(checkpoint.bytes()));
  } catch (const SystemError& error) {
    return "cannot be read: " + printable(error.what(), std::string_view::npos);
  } catch (const UsageError& error) {
    return "damaged: " + printable(error.what(), std::string_view::npos);
  }
}

void verify(const RunPaths& run, const Config& config, const Checkpoint& checkpoint) {
  checkpoint.verify();
  checkpoint.check_config(run.config_path(), Digest::from_hex(config_digest(config)),
                          is_same_run(checkpoint.manifest().config, config));
  run.tokenizer_path(checkpoint.manifest().tokenizer_digest);
}

// Verifies a checkpoint if that is requested. Returns false when a run that is in progress has
// removed it.
bool verify_or_removed(const RunPaths& run, const Config& config, const std::string& path,
                       const InspectOptions& options) {
  try {
    if (options.is_verified) verify(run, config, Checkpoint(path));
  } catch (const Error&) {
    if (kind_of(path) == PathKind::folder) throw;
  }
  return kind_of(path) == PathKind::folder;
}

std::string last_lines_of(const std::string& path, int count) {
  constexpr std::int64_t kMost = 4096;
  const File file = File::open(path);
  const std::int64_t begin = std::max<std::int64_t>(file.size() - kMost, 0);
  std::string tail(file.size() - begin, '\0');
  tail.resize(file.read_some_at(begin, tail.data(), static_cast<std::int64_t>(tail.size())));
  std::size_t at = tail.size();
  for (int i = 0; i <= count && at != std::string::npos && at > 0; ++i)
    at = tail.rfind('\n', at - 1);
  return at == std::string::npos || at == 0 ? tail : tail.substr(at + 1);
}

/// A row per tensor, whose ranges may be in several shards.
std::vector<TensorRow> rows_of(const Manifest& manifest) {
  std::vector<TensorRow> rows;
  std::map<std::string_view, std::size_t> places;
  for (const ManifestShard& shard : manifest.shards)
    for (const ManifestTensor& tensor : shard.tensors) {
      const auto [place, is_new] = places.emplace(tensor.name, rows.size());
      if (is_new) rows.push_back({tensor.name, name_of(tensor.dtype), tensor.shape.to_string(), 0});
      rows[place->second].bytes += tensor.bytes;
    }
  return rows;
}

}  // namespace

std::string inspect_config(const std::string& path) {
  const Config config = load_config(path);
  return fmt::format("{}: the configuration of run {}\n", path, config.run.name) +
         config_lines(config) + labelled("digest", config_digest(config));
}

std::string inspect_token_set(const std::string& path, const InspectOptions& options) {
  const TokenSet set = TokenSet::open(path);
  const auto tokenizer = set.tokenizer();
  std::string text =
      fmt::format("{}: token set, {}\n", path, format_bytes(File::open(path).size()));
  text += labelled("tokenizer", tokenizer->summary());
  text += labelled("stored as", token_bytes(set.vocab_size()) == 2 ? "u16" : "u32");
  for (const Split split : {Split::train, Split::validation}) {
    const auto num_tokens = static_cast<double>(set.num_tokens(split));
    text += labelled(
        name_of(split),
        fmt::format(
            "{} in {}, {} of text{}", counted(set.num_tokens(split), "token"),
            counted(set.num_documents(split), "document"), format_bytes(set.num_bytes(split)),
            num_tokens == 0 ? ""
                            : fmt::format(", {:.2f} bytes per token",
                                          static_cast<double>(set.num_bytes(split)) / num_tokens)));
    if (num_tokens > 0) text += sample_line(set, *tokenizer, split);
    if (split == Split::validation && set.split_rule() == SplitRule::documents)
      text += labelled("", "documents chosen by a hash");
  }
  text += labelled("digest", set.digest().hex());
  if (options.is_verified) read_all(set);
  return text + labelled("verified", options.is_verified
                                         ? "all digests match"
                                         : "header and metadata; the tokens were not read");
}

std::string inspect_checkpoint(const std::string& folder, const InspectOptions& options) {
  const Checkpoint checkpoint(folder);
  const Manifest& manifest = checkpoint.manifest();
  const std::vector<TensorRow> rows = rows_of(manifest);
  std::string text =
      fmt::format("{}: checkpoint after {}, {} in {}\n", folder, counted(manifest.step, "step"),
                  format_bytes(checkpoint.bytes()),
                  counted(static_cast<std::int64_t>(manifest.shards.size()), "shard"));
  text += labelled("written by",
                   fmt::format("{}, on {}", printable(manifest.build), printable(manifest.device)));
  if (!manifest.processor.empty()) text += labelled("processor", printable(manifest.processor));
  if (manifest.tokenizer_digest)
    text += labelled("tokenizer digest", manifest.tokenizer_digest->hex());
  text += labelled("config digest", manifest.config_digest.hex());
  text += labelled("data digest", manifest.data_digest.hex());
  if (manifest.base_digest) text += labelled("base digest", manifest.base_digest->hex());
  text += labelled("numbers", numbers_of(manifest));
  if (options.is_verified) checkpoint.verify();
  text +=
      labelled("verified", options.is_verified ? "all digests match"
                                               : "manifest and sizes; the tensors were not read");
  return concat(text, "\n", tensor_table(rows, options.is_each));
}

std::string inspect_run(const std::string& folder, const InspectOptions& options) {
  const RunPaths run(folder);
  const Config config = load_config(run.config_path());
  std::string text = fmt::format("{}: the folder of run {}\n", folder, config.run.name);
  text += config_lines(config);
  const std::string tokenizer = run.tokenizer_path();
  text += labelled("tokenizer", tokenizer.empty() ? "none" : load_tokenizer(tokenizer)->summary());
  std::string label = "checkpoints";
  if (kind_of(run.checkpoints_path()) == PathKind::folder) {
    for (const FolderEntry& entry : list_folder(run.checkpoints_path())) {
      const std::string path = run.checkpoints_path() + "/" + entry.name;
      if (entry.kind != PathKind::folder || !entry.name.starts_with("step-")) continue;
      const std::string line = checkpoint_line(path);
      if (!verify_or_removed(run, config, path, options)) continue;
      text += labelled(label, fmt::format("{}  {}", printable(entry.name), line));
      label.clear();
    }
  }
  if (!label.empty()) text += labelled(label, "none yet");
  if (label.empty() && options.is_verified)
    text += labelled("verified", "all digests of checkpoints, configuration and tokenizer match");
  if (kind_of(run.log_path()) == PathKind::file)
    text.append("\n").append(printable_lines(last_lines_of(run.log_path(), 4)));
  return text;
}

std::string inspect_safetensors(const std::string& path, const InspectOptions& options) {
  const SafetensorsFile file(path);
  std::vector<TensorRow> rows;
  for (const SafetensorsEntry& entry : file.entries())
    rows.push_back({entry.name, printable(entry.dtype), entry.shape_text(), entry.bytes});
  std::string text =
      fmt::format("{}: safetensors, {}\n", path, format_bytes(File::open(path).size()));
  for (const auto& [name, value] : file.metadata())
    text += labelled(printable(name), quoted(value, 76));
  if (options.is_verified)
    text += labelled("verified", "header and extents; the format has no digests");
  return concat(text, "\n", tensor_table(rows, options.is_each));
}

std::string inspect_tokenizer(const std::string& path) {
  const auto tokenizer = load_tokenizer(path);
  std::string text =
      fmt::format("{}: tokenizer, {}\n", path, format_bytes(File::open(path).size()));
  text += labelled("kind", tokenizer->summary());
  text += labelled("end of text", grouped(tokenizer->end_of_text()));
  text += labelled("digest", tokenizer->digest().hex());
  // Every token of a small vocabulary; else the first after the bytes, then evenly spaced ones.
  const std::int32_t size = tokenizer->vocab_size(), first = std::min(260, size);
  const std::int32_t stride = std::max((size - first) / 24, 1);
  std::string pieces;
  for (std::int32_t id = size > 512 ? first : 65; id < std::min(size, 100'000'000); id += stride) {
    pieces += fmt::format("{} {}  ", id, quoted(tokenizer->bytes_of(id), 24));
    if (pieces.size() > 70) break;
  }
  return text + labelled("some tokens", pieces);
}

}  // namespace smoe
