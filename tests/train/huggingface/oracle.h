// Shared by the parity tests: a reference written by tests/oracle/make_model.py, its model,
// imported, and the figures that compare both. SMOE_ORACLE=FOLDER selects a reference instead of
// those in the tree, SMOE_ORACLE_DEVICE=cuda the device of smoe.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/system/folder.h"
#include "tests/support/compare.h"
#include "tests/support/named_tensors.h"
#include "tests/support/temporary_folder.h"
#include "train/config/run_paths.h"
#include "train/huggingface/import.h"
#include "train/huggingface/safetensors.h"
#include "train/load_model.h"

namespace smoe::test {

inline Device oracle_device() {
  const char* device = std::getenv("SMOE_ORACLE_DEVICE");
  return select_device(device ? device : "cpu");
}

/// A folder's model and reference.
struct Oracle {
  std::string folder;
  SafetensorsFile file{folder + "/reference.safetensors"};

  Tensor tensor(const std::string& name, DType dtype = DType::f32) const {
    const SafetensorsEntry* entry = file.find(name);
    REQUIRE_MESSAGE(entry, file.path(), " has no ", name);
    return file.read(*entry, dtype);
  }
  std::vector<double> values(const std::string& name) const { return values_of(tensor(name)); }
};

enum class OracleKind { f32, bf16, training };

inline OracleKind kind_of_oracle(const std::string& folder) {
  if (kind_of(folder + "/train.yaml") == PathKind::file) return OracleKind::training;
  return Oracle{folder}.file.find("expert_ids") ? OracleKind::bf16 : OracleKind::f32;
}

/// The reference folders of one kind: those in the tree, or the one of SMOE_ORACLE.
inline std::vector<std::string> oracle_folders(OracleKind kind, std::vector<std::string> in_tree) {
  const char* folder = std::getenv("SMOE_ORACLE");
  if (!folder) return in_tree;
  if (kind_of_oracle(folder) != kind) return {};
  return {folder};
}

/// Checks a figure against its bound and prints both in the format that tests/oracle/compare.py
/// parses.
inline void check_figure(const std::string& name, double value, double bound) {
  CHECK_MESSAGE(value <= bound, name, " must be at most ", bound, "; got ", value);
  MESSAGE("figure ", name, ": ", value, " <= ", bound);
}

inline LoadedModel imported(const std::string& folder, DType precision) {
  const TemporaryFolder runs;
  import_model({folder, runs / "run"}, [](const char*, std::int64_t, std::int64_t) {});
  StoredModel stored = open_model(runs / "run");
  stored.config.train.precision = precision;
  return load_model(std::move(stored), true);
}

/// A reference's batch: ids [B*S], and each token's successor in its sequence, -1 after the last.
struct OracleBatch {
  Tensor token_ids, targets;
  ForwardContext context;
  double loss_scale;  ///< for the mean cross-entropy

  explicit OracleBatch(const Tensor& ids)
      : token_ids(ids.reshape({ids.numel()})),
        context{.batch = ids.dim(0), .seq_len = ids.dim(1)},
        loss_scale(1.0 / static_cast<double>(ids.dim(0) * (ids.dim(1) - 1))) {
    const std::vector<std::int32_t> tokens = ids.to_vector<std::int32_t>();
    std::vector<std::int32_t> next(tokens.size(), -1);
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
      if ((static_cast<std::int64_t>(i) + 1) % ids.dim(1) != 0) next[i] = tokens[i + 1];
    targets = Tensor::from(next, {ids.numel()});
  }
};

/// By the names of the files' tensors.
inline std::map<std::string, std::vector<double>> gradients_of(const LoadedModel& loaded) {
  const ModelFamily family = family_of(loaded.config.model);
  std::map<std::string, std::vector<double>> gradients;
  for (const Parameter* parameter : loaded.store().parameters()) {
    const std::vector<double> all = values_of(parameter->gradient());
    auto next = all.begin();
    for (const ParameterPart& tensor : file_tensors(family, *parameter)) {
      gradients[tensor.name] = {next, next + tensor.shape.numel()};
      next += tensor.shape.numel();
    }
  }
  return gradients;
}

/// max|a - b| / max|b|.
inline double difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i])) return INFINITY;
    most = std::max(most, std::abs(a[i] - b[i]));
  }
  return most == 0 ? 0 : most / largest(b);
}

}  // namespace smoe::test
