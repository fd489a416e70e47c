// Embedding: maps each token id to a row of the weight.
#pragma once
#include "autograd/ops.h"
#include "layers/module.h"

namespace smoe {

class Embedding : public Module {
 public:
  Embedding(const std::string& name, std::int64_t vocab_size, std::int64_t d_model, double std)
      : weight_(name, {vocab_size, d_model}, Init::normal(std)) {
    own(weight_);
  }

  /// Token ids i32 [T] in [0, vocab_size) -> [T, d_model].
  Variable forward(const Tensor& token_ids) { return embedding(token_ids, weight_); }

  Parameter& weight() { return weight_; }
  const Parameter& weight() const { return weight_; }

 private:
  Parameter weight_;
};

}  // namespace smoe
