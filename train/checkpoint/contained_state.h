// ContainedState: the part of a state that a checkpoint contains.
#pragma once
#include <set>
#include <string>

#include "core/state.h"
#include "train/checkpoint/manifest.h"

namespace smoe {

/// Passes on to another visitor the tensors and numbers that a manifest lists, and nothing else.
class ContainedState final : public StateVisitor {
 public:
  ContainedState(const Manifest& manifest, StateVisitor& visitor)
      : manifest_(manifest), visitor_(visitor) {
    for (const ManifestShard& shard : manifest.shards)
      for (const ManifestTensor& tensor : shard.tensors) names_.insert(tensor.name);
  }

  void tensor(std::string_view name, Tensor& value) override {
    if (names_.contains(name)) visitor_.tensor(name, value);
  }
  void range(std::string_view name, const Shape& shape, std::int64_t begin,
             Tensor& elements) override {
    if (names_.contains(name)) visitor_.range(name, shape, begin, elements);
  }
  void integer(std::string_view name, std::int64_t& value) override {
    if (manifest_.integers.contains(std::string(name))) visitor_.integer(name, value);
  }
  void real(std::string_view name, double& value) override {
    if (manifest_.reals.contains(std::string(name))) visitor_.real(name, value);
  }

 private:
  const Manifest& manifest_;
  std::set<std::string, std::less<>> names_;
  StateVisitor& visitor_;
};

}  // namespace smoe
