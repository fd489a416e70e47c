// Embedding: rows of a table by token, and their backward.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// output[t] = table[token_ids[t]]. Ids are trusted to be rows of the table.
struct EmbeddingArgs {
  ConstMatrix table;              ///< [V, D]
  const std::int32_t* token_ids;  ///< [T]
  Matrix output;                  ///< [T, D], the table's dtype
};
void embedding(const Launch& launch, const EmbeddingArgs& args);

/// dtable = beta dtable + sum over tokens of doutput[t] in row token_ids[t], added in an order that
/// the ids alone decide.
struct EmbeddingBackwardArgs {
  ConstMatrix doutput;            ///< [T, D]
  const std::int32_t* token_ids;  ///< [T]
  Matrix dtable;                  ///< [V, D], accumulation dtype
  double beta;                    ///< 0 never reads dtable
  void* workspace;                ///< embedding_backward_workspace_bytes()
};
void embedding_backward(const Launch& launch, const EmbeddingBackwardArgs& args);

/// Bytes of scratch embedding_backward needs; 0 where none.
std::int64_t embedding_backward_workspace_bytes(const Launch& launch,
                                                const EmbeddingBackwardArgs& args);

}  // namespace smoe::kernels
