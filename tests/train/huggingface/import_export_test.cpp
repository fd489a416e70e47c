#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "core/system/folder.h"
#include "tests/support/named_tensors.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/small_run.h"
#include "train/huggingface/export.h"
#include "train/huggingface/import.h"
#include "train/huggingface/weight_files.h"
#include "train/load_model.h"
#include "train/open_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

const std::string kModel = "tests/oracle/mixtral";

void ignore(const char*, std::int64_t, std::int64_t) {}

std::string text_of(const std::string& path) {
  return read_file(path, 1 << 24);
}

/// A run of one step with its token set in `folder`.
Config trained_run(const TemporaryFolder& folder) {
  Config config = small_config(folder.path());
  config.train.steps = 1;
  config.schedule.warmup_steps = 0;
  write_small_token_set(config.data.path);
  open_run(config)->train();
  return config;
}

/// The weights of a run by name.
std::map<std::string, std::vector<double>> weights_of(const std::string& run) {
  const LoadedModel model = load_model(run);
  return tensors_of([&](StateVisitor& v) { model.store().visit_state(v); });
}

/// The tensors of a model folder, as f32 and mutable.
struct Weights {
  explicit Weights(const std::string& folder) {
    const WeightFiles files(folder);
    for (const std::string& name : files.names()) tensors[name] = files.read(name, DType::f32);
  }
  void write(const std::string& folder, DType dtype = DType::f32) const {
    std::vector<ParameterPart> plan;
    for (const auto& [name, tensor] : tensors) plan.push_back({name, tensor.shape()});
    WeightFilesWriter writer(folder, plan, dtype, 1 << 30);
    for (const auto& [name, tensor] : tensors) writer.write(name, tensor);
    writer.finish();
  }
  std::map<std::string, Tensor> tensors;
};

}  // namespace

TEST_CASE("export and import are bit-identical") {
  const TemporaryFolder folder;
  const std::string run = trained_run(folder).run.folder();
  const ExportSummary exported = export_model({.path = run, .output = folder / "model"}, ignore);
  CHECK(exported.step == 1);
  CHECK(exported.num_weight_files == 1);
  CHECK(exported.tokenizer_files ==
        std::vector<std::string>{"tokenizer.json", "tokenizer_config.json"});
  const ImportSummary imported = import_model({folder / "model", folder / "again/"}, ignore);
  CHECK(imported.num_tensors == exported.num_tensors);
  CHECK(imported.tokenizer == "bytes, vocabulary 257");
  CHECK(imported.config.unknown_keys.empty());
  CHECK(weights_of(folder / "again") == weights_of(run));
  const Config again = load_config(folder / "again/config.yaml");
  CHECK(again.run.folder() == folder / "again");
  CHECK(again.model.d_model == 24);
  CHECK(again.model.head_dim == 6);
  CHECK(again.train.seq_len == 17);

  const ExportOptions in_shards{
      .path = folder / "again", .output = folder / "shards", .max_shard_bytes = 20'000};
  CHECK(export_model(in_shards, ignore).num_weight_files > 2);
  import_model({folder / "shards", folder / "third"}, ignore);
  CHECK(weights_of(folder / "third") == weights_of(run));
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json"})
    CHECK(text_of(folder / "shards/" + name) == text_of(folder / "model/" + name));
}

TEST_CASE("export and import of JetMoE are bit-identical, and missing biases become zeros") {
  const TemporaryFolder folder;
  import_model({"tests/oracle/jetmoe", folder / "run"}, ignore);
  const ExportSummary exported =
      export_model({.path = folder / "run", .output = folder / "model"}, ignore);
  CHECK(exported.config.family == ModelFamily::jetmoe);
  const Weights before("tests/oracle/jetmoe"), after(folder / "model");
  REQUIRE(after.tensors.size() == before.tensors.size());
  for (const auto& [name, tensor] : before.tensors)
    CHECK(values_of(after.tensors.at(name)) == values_of(tensor));

  SmallRun small(folder.path());
  small.config.model.attention = {
      .kind = "moa", .settings = {{"num_experts", std::int64_t{4}}, {"top_k", std::int64_t{2}}}};
  small.config.model.norm_epsilon = 1e-6;
  small.config.train.steps = small.config.schedule.warmup_steps = 1;
  open_run(small.config)->train();
  export_model({.path = small.config.run.folder(), .output = folder / "unbiased"}, ignore);
  import_model({folder / "unbiased", folder / "biased"}, ignore);
  auto biased = weights_of(folder / "biased");
  for (const std::string layer : {"model.layers.0.", "model.layers.1."})
    for (const char* name : {"self_attn.output_bias", "block_sparse_moe.output_bias"}) {
      CHECK(biased.at(layer + name) == std::vector<double>(24, 0.0));
      biased.erase(layer + name);
    }
  CHECK(biased == weights_of(small.config.run.folder()));
}

TEST_CASE("a model keeps its context length when it is trained on shorter sequences") {
  const TemporaryFolder folder;
  Config config = trained_run(folder);
  export_model({.path = config.run.folder(), .output = folder / "model"}, ignore);
  import_model({folder / "model", folder / "imported"}, ignore);
  CHECK(load_config(folder / "imported/config.yaml").model.max_positions == 17);
  config.run.name = "tuned";
  config.train.init_from = folder / "imported";
  config.train.seq_len = 8;
  open_run(config)->train();
  config.train.steps = 2;
  open_run(config, Ranks::single(), {"train.steps"})->train();
  CHECK(load_config(config.run.folder() + "/config.yaml").model.max_positions == 17);
  export_model({.path = config.run.folder(), .output = folder / "again"}, ignore);
  CHECK(text_of(folder / "again/config.json").find("\"max_position_embeddings\": 17") !=
        std::string::npos);
}

TEST_CASE("weights can be rounded to bf16 by export and are widened by import") {
  const TemporaryFolder folder;
  import_model({kModel, folder / "a"}, ignore);
  export_model({.path = folder / "a", .output = folder / "model", .dtype = DType::bf16}, ignore);
  CHECK(text_of(folder / "model/config.json").find("\"bfloat16\"") != std::string::npos);
  import_model({folder / "model", folder / "b"}, ignore);
  const auto before = weights_of(folder / "a"), after = weights_of(folder / "b");
  for (const auto& [name, values] : before) {
    const std::vector<double>& rounded = after.at(name);
    for (std::size_t i = 0; i < values.size(); ++i)
      REQUIRE(rounded[i] == static_cast<float>(bf16(values[i])));
  }
}

TEST_CASE("missing, unknown and mismatched tensors are reported by name") {
  const TemporaryFolder folder;
  const auto refusal = [&](auto change) {
    remove_folder(folder / "model");
    make_folders(folder / "model");
    overwrite(folder / "model/config.json", text_of(kModel + "/config.json"));
    Weights weights(kModel);
    change(weights.tensors);
    weights.write(folder / "model");
    const std::string message = message_of([&] {
      import_model({folder / "model", folder / "run"}, ignore);
    });
    CHECK(kind_of(folder / "run") == PathKind::none);
    CHECK(kind_of(folder / ".tmp-run") == PathKind::none);
    return message.substr(message.find(": ") + 2);
  };
  const std::string w2 = "model.layers.1.block_sparse_moe.experts.3.w2.weight";
  CHECK(refusal([&](auto& tensors) { tensors.erase(w2); }) ==
        "must have all tensors of the model; " + w2 + " [40, 28] is missing");
  CHECK(refusal([&](auto& tensors) { tensors["lm_head.bias"] = tensors[w2]; }) ==
        "lm_head.bias: not a tensor of the model that config.json describes; 1 of the files' "
        "tensors would be lost");
  CHECK(refusal([&](auto& tensors) {
          tensors[w2] = tensors[w2].reshape({28, 40});
        }) == w2 + ": must be [40, 28] by config.json; got [28, 40]");
  CHECK(refusal([](auto& tensors) {
          tensors = {{"a", tensors["model.norm.weight"]}};
        }) == "config.json says 3 layers of 5 experts, and the files have 1 tensors");
}

TEST_CASE("f64 weights are rounded, redundant tensors are ignored") {
  const TemporaryFolder folder;
  overwrite(folder / "config.json", text_of(kModel + "/config.json"));
  Weights(kModel).write(folder.path(), DType::f64);
  import_model({folder.path(), folder / "wide"}, ignore);
  import_model({kModel, folder / "run"}, ignore);
  CHECK(weights_of(folder / "wide") == weights_of(folder / "run"));

  const std::string tied = "tests/oracle/mixtral-tied";
  Weights weights(tied);
  ImportSummary summary;
  const auto imports = [&] {
    remove_folder(folder / "model");
    remove_folder(folder / "tied");
    make_folders(folder / "model");
    overwrite(folder / "model/config.json", text_of(tied + "/config.json"));
    weights.write(folder / "model");
    return message_of([&] { summary = import_model({folder / "model", folder / "tied"}, ignore); });
  };
  weights.tensors["lm_head.weight"] = weights.tensors["model.embed_tokens.weight"];
  weights.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] =
      tensor_of({1, 0.1}, {2}, DType::f32);
  CHECK(imports() == "no error");
  CHECK(summary.redundant ==
        std::map<std::string, std::int64_t>{{"lm_head.weight, which repeats the tied embedding", 1},
                                            {"rotary_emb.inv_freq, which is recomputed", 1}});
  weights.tensors["lm_head.weight"] =
      random_normal("other", weights.tensors["model.embed_tokens.weight"].shape(), DType::f32);
  CHECK(imports().find("lm_head.weight: not a tensor of the model") != std::string::npos);
}

TEST_CASE("a model keeps its byte-level tokenizer through import and export") {
  const TemporaryFolder folder;
  Weights weights("tests/oracle/mixtral-tied");
  const std::string tokenizer = "tests/oracle/byte-level/llama3/";
  std::string config = text_of("tests/oracle/mixtral-tied/config.json");
  const std::string size = "\"vocab_size\": ";
  const std::size_t at = config.find(size) + size.size();
  config.replace(at, config.find_first_of(",\n", at) - at, "430");
  Tensor& embedding = weights.tensors["model.embed_tokens.weight"];
  embedding = random_normal("embedding", {430, embedding.shape()[1]}, DType::f32);
  make_folders(folder / "model");
  overwrite(folder / "model/config.json", config);
  overwrite(folder / "model/tokenizer.json", text_of(tokenizer + "tokenizer.json"));
  overwrite(folder / "model/tokenizer_config.json", text_of(tokenizer + "tokenizer_config.json"));
  weights.write(folder / "model");
  const ImportSummary summary = import_model({folder / "model", folder / "run"}, ignore);
  CHECK(summary.tokenizer == "byte-level BPE, vocabulary 422, texts begin with <|begin_of_text|>");
  const LoadedModel loaded = load_model(folder / "run");
  REQUIRE(loaded.tokenizer);
  export_model({.path = folder / "run", .output = folder / "back"}, ignore);
  CHECK(load_tokenizer(folder / "back/tokenizer.json")->digest() == loaded.tokenizer->digest());
  CHECK(text_of(folder / "back/config.json").find("\"bos_token_id\": 420") != std::string::npos);
  CHECK(text_of(folder / "back/config.json").find("\"eos_token_id\": 421") != std::string::npos);
}

TEST_CASE("an index and its shards must agree") {
  const TemporaryFolder folder;
  const std::string index = text_of(kModel + "/model.safetensors.index.json");
  for (const FolderEntry& entry : list_folder(kModel))
    overwrite(folder / entry.name, text_of(kModel + "/" + entry.name));
  const std::string path = folder / "model.safetensors.index.json";
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string text = index;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    overwrite(path, text.replace(at, from.size(), to));
    return message_of([&] { WeightFiles{folder.path()}; });
  };
  const std::string first = "model-00001-of-00004.safetensors";
  CHECK(refusal("{", "{") == "no error");
  CHECK(refusal("\"model-00001", "\"../model-00001") ==
        path +
            ": weight_map: lm_head.weight: must be a file NAME.safetensors of this folder; got "
            "\"../model-00001-of-00004.safetensors\"");
  CHECK(refusal("model-00001", "model-00002") ==
        path + ": weight_map: lm_head.weight is not in model-00002-of-00004.safetensors");
  CHECK(refusal("\"lm_head.weight\": \"" + first + "\",", "") ==
        folder.path() + "/" + first + ": lm_head.weight is not in the weight_map of " + path);
  CHECK(refusal("lm_head.weight", "lm_head.bias") ==
        path + ": weight_map: lm_head.bias is not in " + first);
  CHECK(refusal("\"weight_map\"", "\"map\"") == path + ": has no \"weight_map\"");
  CHECK(refusal(first, "other.safetensors") ==
        "open " + folder.path() + "/other.safetensors: No such file or directory");
  CHECK(refusal(first, std::string(6000, 'x') + ".safetensors") ==
        path +
            ": weight_map: lm_head.weight: must be a file NAME.safetensors of this folder; got \"" +
            std::string(79, 'x') + "...");
}

TEST_CASE("a folder without a model and an existing output are refused") {
  const TemporaryFolder folder;
  CHECK(message_of([&] {
          import_model({folder.path(), folder / "run"}, ignore);
        }) ==
        folder.path() + ": must be the folder of a Hugging Face model; it has no config.json");
  overwrite(folder / "config.json", text_of(kModel + "/config.json"));
  CHECK(message_of([&] {
          import_model({folder.path(), folder / "run"}, ignore);
        }) == folder.path() +
                  ": must hold model.safetensors or model.safetensors.index.json; other "
                  "weight formats are not supported");
  CHECK(message_of([&] {
          import_model({kModel, folder.path()}, ignore);
        }) == folder.path() + ": exists; remove it or choose another name");
  import_model({kModel, folder / "run"}, ignore);
  CHECK(message_of([&] {
          export_model({folder / "run", folder.path()}, ignore);
        }) == folder.path() + ": exists; remove it or choose another name");
}

TEST_CASE("a run starts with the weights of train.init_from and a new optimizer") {
  const TemporaryFolder folder;
  const Config first = trained_run(folder);
  Config second = first;
  second.run.name = "second";
  second.train.init_from = first.run.folder();
  second.optim.lr = 1e-30;  // too small to change a weight
  second.optim.weight_decay = 0;
  second.model.rope_theta = 5000;
  CHECK(open_run(second)->train() == 0);
  CHECK(weights_of(second.run.folder()) == weights_of(first.run.folder()));
  const std::string log = text_of(second.run.folder() + "/log.txt");
  CHECK(log.find("weights from " + first.run.folder() + "/checkpoints/step-00000001\n") !=
        std::string::npos);
  CHECK(log.find("model.rope_theta=5000, it was trained with 10000\n") != std::string::npos);
  CHECK(open_run(second)->train() == 0);  // resumes from its own checkpoint
}

TEST_CASE("train.init_from refuses weights of another shape or tokenizer") {
  const TemporaryFolder folder;
  Config config = trained_run(folder);
  const std::string run = config.run.folder();
  config.run.name = "other";
  config.train.init_from = run;
  config.model.d_expert = 8;
  CHECK(message_of([&] { open_run(config); }).find("mismatched: model.layers.1") !=
        std::string::npos);
  config.model.d_expert = 20;
  config.train.init_from = folder / "nothing";
  CHECK(message_of([&] { open_run(config); }) ==
        folder / "nothing" + ": must be the folder of a run, or of a checkpoint in one");
  import_model({kModel, folder / "imported"}, ignore);
  config.model = load_config(folder / "imported/config.yaml").model;
  config.model.vocab_size = 257;
  config.train.init_from = folder / "imported";
  CHECK(message_of([&] { open_run(config); })
            .find("mismatched: lm_head.weight (expected f32 [257, 40], got "
                  "f32 [67, 40])") != std::string::npos);
}

TEST_CASE("weights that are not finite are not exported") {
  for (const float value : {NAN, INFINITY}) {
    const TemporaryFolder folder;
    Weights weights(kModel);
    const Tensor& tensor = weights.tensors.at("model.norm.weight");
    tensor.data_as<float>()[1] = value;
    make_folders(folder / "model");
    overwrite(folder / "model/config.json", text_of(kModel + "/config.json"));
    weights.write(folder / "model");
    import_model({folder / "model", folder / "run"}, ignore);
    std::string message;
    try {
      export_model({.path = folder / "run", .output = folder / "again"}, ignore);
    } catch (const UsageError& error) {
      message = error.what();
    }
    CHECK(message.find(": model.norm.weight has NaN or infinite weights") != std::string::npos);
    CHECK(kind_of(folder / "again") == PathKind::none);
  }
}
