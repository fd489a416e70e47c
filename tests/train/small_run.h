// SmallRun: a small configuration with a token set of artificial words, for tests that train.
#pragma once
#include <string>

#include "core/random.h"
#include "tests/support/model_cases.h"
#include "tests/support/temporary_folder.h"
#include "train/config/config.h"
#include "train/data/token_set_writer.h"

namespace smoe::test {

/// Writes a token set of words drawn from a skewed distribution over a small vocabulary, about
/// which a model learns something within a few steps.
inline void write_small_token_set(const std::string& path) {
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(path, tokenizer);
  RandomStream random(11, hash_name("words"));
  const auto text = [&](int words) {
    static const char* const kSyllables[] = {"ba", "do", "ki", "lu", "mo", "ne", "ra", "si"};
    std::string out;
    for (int w = 0; w < words; ++w) {
      const auto word = random.below(random.below(12) + 1);
      out += kSyllables[word % 8];
      out += kSyllables[(word * 5 + 3) % 8];
      out += w % 9 == 8 ? ".\n" : " ";
    }
    return out;
  };
  for (int document = 0; document < 3; ++document) {
    writer.begin_document(Split::train);
    writer.append(text(1500));
  }
  writer.begin_document(Split::validation);
  writer.append(text(150));
  writer.finish();
}

/// Two layers, four experts, two micro-batches per step; all paths are in `folder`.
inline Config small_config(const std::string& folder) {
  Config c;
  c.run.name = "small";
  c.run.dir = folder + "/runs";
  c.run.seed = 3;
  c.model = small_model_config();
  c.model.vocab_size = 257;
  c.model.num_experts = 4;
  c.data.path = folder + "/small.h5";
  c.train.steps = 12;
  c.train.seq_len = 17;
  c.train.micro_batch = 2;
  c.train.global_batch = 4;
  c.optim.lr = 1e-2;
  c.schedule.warmup_steps = 3;
  c.log.every = 1;
  return c;
}

/// The configuration and its token set, in a temporary folder in `parent`.
struct SmallRun {
  TemporaryFolder folder;
  Config config = small_config(folder.path());

  explicit SmallRun(const std::string& parent = "/tmp") : folder(parent) {
    write_small_token_set(config.data.path);
  }

  Config named(const std::string& name) const {
    Config copy = config;
    copy.run.name = name;
    return copy;
  }
};

}  // namespace smoe::test
