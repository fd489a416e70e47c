// The tensors of a checkpoint, for comparison with those of another one.
#pragma once
#include <map>
#include <string>

#include "train/checkpoint/checkpoint.h"

namespace smoe::test {

/// The digests of all tensors of `checkpoint` by name, whatever ranges they were written in.
inline std::map<std::string, std::string> tensor_digests(const Checkpoint& checkpoint) {
  checkpoint.verify();
  std::map<std::string, Tensor> tensors;
  for (const ManifestShard& shard : checkpoint.manifest().shards)
    for (const ManifestTensor& entry : shard.tensors)
      if (tensors.count(entry.name) == 0)
        tensors[entry.name] = Tensor::empty(entry.shape, entry.dtype);
  checkpoint.load_part([&](StateVisitor& visitor) {
    for (auto& [name, tensor] : tensors) visitor.tensor(name, tensor);
  });
  std::map<std::string, std::string> digests;
  for (const auto& [name, tensor] : tensors)
    digests[name] = digest_of(tensor.data(), tensor.bytes()).hex();
  return digests;
}

}  // namespace smoe::test
