// Cases of kernels/embedding.h on the current stream.
#pragma once
#include "autograd/ops/run_kernel.h"
#include "kernels/embedding.h"
#include "tests/support/tensors.h"

namespace smoe::test {

struct EmbeddingCase {
  std::int64_t vocabulary, width;
  std::vector<std::int32_t> ids;
  DType dtype;
  DType gradients = accumulation_dtype(dtype);  // of dtable

  Tensor table() const { return random_normal("table", {vocabulary, width}, dtype); }
  Tensor doutput() const { return random_normal("doutput", {num_tokens(), width}, dtype); }
  /// The gradient that beta scales.
  Tensor initial_dtable() const { return random_normal("dtable", {vocabulary, width}, gradients); }
  std::int64_t num_tokens() const { return static_cast<std::int64_t>(ids.size()); }
  Tensor token_ids() const { return Tensor::from(ids, {num_tokens()}); }

  Tensor forward() const {
    const Tensor weight = table(), tokens = token_ids();
    const Tensor output = Tensor::empty({num_tokens(), width}, dtype);
    kernels::embedding(launch(), {.table = matrix_of(weight),
                                  .token_ids = tokens.data_as<std::int32_t>(),
                                  .output = matrix_of(output)});
    return output;
  }

  Tensor backward(double beta) const {
    const Tensor gradient = doutput(), tokens = token_ids();
    const Tensor dtable =
        beta == 0 ? Tensor::empty({vocabulary, width}, gradients) : initial_dtable();
    run_kernel(kernels::embedding_backward, kernels::embedding_backward_workspace_bytes,
               {.doutput = matrix_of(gradient),
                .token_ids = tokens.data_as<std::int32_t>(),
                .dtable = matrix_of(dtable),
                .beta = beta});
    return dtable;
  }
};

}  // namespace smoe::test
