// The families of Hugging Face models that import and export know: how config.json describes a
// model, and which tensors of the files hold each parameter.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "core/base/dtype.h"
#include "layers/model_config.h"

namespace smoe {

enum class ModelFamily : std::uint8_t {
  mixtral,  ///< grouped-query attention and experts (arXiv:2401.04088)
  jetmoe,   ///< mixtures of attention and of experts (arXiv:2404.07413)
};
/// "Mixtral", "JetMoE"
const char* name_of(ModelFamily family);

/// The supported contents of a model's config.json.
struct HuggingFaceConfig {
  ModelFamily family = ModelFamily::mixtral;
  ModelConfig model;
  std::int64_t max_positions = 0;           ///< context length in tokens
  std::optional<std::int32_t> begin_token;  ///< before each document
  std::optional<std::int32_t> end_token;    ///< ends generated text
  std::vector<std::string> unknown_keys{};  ///< ignored keys that the family does not define
};

/// Parses config.json as written by transformers 4 or 5; `path` stands for the file in messages. A
/// missing key gets transformers' default unless it determines a shape.
/// Throws: UsageError naming the key, its value and the supported values.
HuggingFaceConfig parse_model_config(const std::string& text, const std::string& path);

/// The family that can represent the model. Throws: UsageError naming the first key that the family
/// closest to it cannot represent.
ModelFamily family_of(const ModelConfig& model);

/// The text of config.json for weights stored as `dtype`, valid for transformers 4 and 5.
std::string model_config_text(const HuggingFaceConfig& config, DType dtype);

/// A router's balance loss and the coefficient in config.json: at perfect balance smoe's loss is 1,
/// transformers' is K.
double balance_loss_of(double aux_loss_coefficient, const ModelConfig& model);
double aux_loss_coefficient_of(const ModelConfig& model);

/// Whether the kind adds a bias after the sum over experts.
bool has_output_bias(const KindConfig& kind);

/// Tensors of the family's files that the model lacks, since it computes as if they were zero.
std::vector<ParameterPart> zero_tensors(const HuggingFaceConfig& config);

/// The tensors in the files that hold the elements of a parameter, in its order: its parts, whose
/// names are Mixtral's, or one tensor of another name and shape.
std::vector<ParameterPart> file_tensors(ModelFamily family, const Parameter& parameter);

}  // namespace smoe
