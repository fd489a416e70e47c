// ExpertVariant: the experts of one SMoE layer (SwiGLU), computed in one of several ways from the
// same kernels, so that their times and memory can be compared.
#pragma once
#include <memory>

#include "train/bench/expert_inputs.h"

namespace smoe {

class ExpertVariant {
 public:
  explicit ExpertVariant(const ExpertInputs& inputs) : in_(inputs) {}
  virtual ~ExpertVariant() = default;
  ExpertVariant(const ExpertVariant&) = delete;
  ExpertVariant& operator=(const ExpertVariant&) = delete;

  /// [T, D]. With `trains` keeps what backward needs; otherwise it keeps nothing.
  virtual Tensor forward(bool trains) = 0;
  /// After forward(true), once: sets the gradients below and frees what was kept. Does not read the
  /// output.
  virtual void backward() = 0;

  Tensor dx;             ///< [T, D]
  Tensor dw1, dw2, dw3;  ///< accumulation dtype; dw3 of a mixture of attention alone

 protected:
  const ExpertInputs& in_;
};

enum class VariantKind : std::uint8_t {
  smoe,           ///< this program's fused op
  smoe_no_reuse,  ///< the same kernels, but each result of backward in a buffer of its own
  padded,         ///< gather, pad each expert's rows to tiles of 128, grouped GEMM, combine
  gathered,       ///< gather, grouped GEMM, combine
  loop,           ///< gather, one dense GEMM per expert, combine; waits for the counts
  dense,          ///< a dense MLP of equal active FLOP; another function of x
  copied,         ///< of a mixture of attention: rows are copied to grouped order and back
  moe_mlp_gemms,  ///< of one ParallelLinear: the GEMMs that moe_mlp runs at its sizes
};
inline constexpr VariantKind kVariants[] = {VariantKind::smoe,   VariantKind::smoe_no_reuse,
                                            VariantKind::padded, VariantKind::gathered,
                                            VariantKind::loop,   VariantKind::dense};

/// "smoe", "padded", ...
const char* name_of(VariantKind kind);

/// Time of the padded variant's GEMMs over that of dense GEMMs per expert on the same padded rows.
double padded_gemm_ratio(const ExpertInputs& inputs);

std::unique_ptr<ExpertVariant> make_variant(VariantKind kind, const ExpertInputs& inputs);

}  // namespace smoe
