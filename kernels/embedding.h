// Embedding: table lookup by token id, and its backward.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// output[t] = table[token_ids[t]]. Ids are trusted to be in [0, V).
struct EmbeddingArgs {
  ConstMatrix table;              ///< [V, D]
  const std::int32_t* token_ids;  ///< [T]
  Matrix output;                  ///< [T, D], the table's dtype
};
void embedding(const Launch& launch, const EmbeddingArgs& args);

/// Row v of dtable = beta dtable[v] + sum of doutput[t] over tokens t with token_ids[t] == v,
/// accumulated in an order that depends only on the ids. A bf16 row is rounded once where beta is 0
/// or 1.
struct EmbeddingBackwardArgs {
  ConstMatrix doutput;            ///< [T, D]
  const std::int32_t* token_ids;  ///< [T]
  Matrix dtable;                  ///< [V, D], accumulation dtype or bf16
  double beta;                    ///< 0 never reads dtable
  void* workspace = nullptr;      ///< embedding_backward_workspace_bytes()
};
void embedding_backward(const Launch& launch, const EmbeddingBackwardArgs& args);

/// Bytes of workspace that embedding_backward needs, possibly 0.
std::int64_t embedding_backward_workspace_bytes(const Launch& launch,
                                                const EmbeddingBackwardArgs& args);

}  // namespace smoe::kernels
