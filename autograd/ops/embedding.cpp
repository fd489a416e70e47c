// Token embedding: rows of the weight; backward accumulates each token's gradient into its row.
#include "kernels/embedding.h"

#include "autograd/ops.h"
#include "autograd/ops/check_ids.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"

namespace smoe {

Variable embedding(const Tensor& token_ids, Parameter& weight) {
  SMOE_CHECK(token_ids.rank() == 1 && token_ids.dtype() == DType::i32,
             "embedding: token_ids must be i32 [T]; got ", token_ids.shape(), " ",
             name_of(token_ids.dtype()));
  SMOE_CHECK(weight.shape().rank() == 2, "embedding: weight must be [V, D]; got ", weight.name(),
             " ", weight.shape());
  check_ids("embedding", token_ids, 0, weight.shape()[0]);
  const Tensor& table = weight.value();                                            // [V, D]
  Tensor output = Tensor::empty({token_ids.dim(0), table.dim(1)}, table.dtype());  // [T, D]
  kernels::embedding(launch(), {.table = matrix_of(table),
                                .token_ids = token_ids.data_as<std::int32_t>(),
                                .output = matrix_of(output)});
  return record("embedding", std::move(output), {}, {&weight},
                [token_ids, &weight](Tensor dy, InputGradients&) {
                  run_kernel(kernels::embedding_backward,
                             kernels::embedding_backward_workspace_bytes,
                             {.doutput = matrix_of(dy),
                              .token_ids = token_ids.data_as<std::int32_t>(),
                              .dtable = matrix_of(weight.gradient()),
                              .beta = weight.claim_gradient()});
                });
}

}  // namespace smoe
