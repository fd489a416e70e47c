// Elementwise ops, the weighted sum of loss terms, and row copies.
#include "kernels/elementwise.h"

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "core/device.h"

namespace smoe {

Variable add(const Variable& a, const Variable& b) {
  SMOE_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype(),
             "add: a and b must have one shape and dtype; got ", a.shape(), " ", name_of(a.dtype()),
             " and ", b.shape(), " ", name_of(b.dtype()));
  Tensor sum = Tensor::empty_like(a.data());
  kernels::add(launch(), {a.data().data(), b.data().data(), sum.data(), sum.dtype(), sum.numel()});
  return record("add", std::move(sum), {&a, &b}, {}, [](Tensor dy, InputGradients& out) {
    out.give(0, dy);
    out.give(1, std::move(dy));
  });
}

Variable jitter(const Variable& x, double epsilon, std::uint64_t seed, std::uint64_t a,
                std::uint64_t b) {
  SMOE_CHECK(epsilon >= 0 && epsilon < 1, "jitter: epsilon must be in [0, 1); got ", epsilon);
  const auto multiply = [=](const Tensor& source, const Tensor& target) {
    kernels::jitter(launch(), {.source = source.data(),
                               .target = target.data(),
                               .dtype = target.dtype(),
                               .numel = target.numel(),
                               .epsilon = epsilon,
                               .seed = seed,
                               .a = a,
                               .b = b});
  };
  Tensor y = Tensor::empty_like(x.data());
  multiply(x.data(), y);
  return record("jitter", std::move(y), {&x}, {}, [multiply](Tensor dy, InputGradients& out) {
    Tensor dx = dy.is_sole_reference() ? dy : Tensor::empty_like(dy);
    multiply(dy, dx);
    out.give(0, std::move(dx));
  });
}

Variable dropout(const Variable& x, double probability, std::uint64_t seed, std::uint64_t a,
                 std::uint64_t b) {
  SMOE_CHECK(probability >= 0 && probability < 1, "dropout: probability must be in [0, 1); got ",
             probability);
  const auto drop = [=](const Tensor& source, const Tensor& target) {
    kernels::dropout(launch(), {.source = source.data(),
                                .target = target.data(),
                                .dtype = target.dtype(),
                                .numel = target.numel(),
                                .probability = probability,
                                .seed = seed,
                                .a = a,
                                .b = b});
  };
  Tensor y = Tensor::empty_like(x.data());
  drop(x.data(), y);
  return record("dropout", std::move(y), {&x}, {}, [drop](Tensor dy, InputGradients& out) {
    Tensor dx = dy.is_sole_reference() ? dy : Tensor::empty_like(dy);
    drop(dy, dx);
    out.give(0, std::move(dx));
  });
}

namespace {

Tensor scale_tensor(const Tensor& x, double factor) {
  Tensor y = Tensor::empty_like(x);
  kernels::scale(launch(), {x.data(), x.dtype(), y.data(), y.dtype(), y.numel(), factor});
  return y;
}

std::vector<const void*> addresses_of(std::span<const Variable> scalars) {
  std::vector<const void*> addresses;
  for (const Variable& scalar : scalars) addresses.push_back(scalar.data().data());
  return addresses;
}

}  // namespace

Variable scale(const Variable& x, double factor) {
  return record(
      "scale", scale_tensor(x.data(), factor), {&x}, {},
      [factor](Tensor dy, InputGradients& out) { out.give(0, scale_tensor(dy, factor)); });
}

Variable weighted_sum(std::span<const Variable> scalars, std::span<const double> weights) {
  SMOE_CHECK(!scalars.empty() && scalars.size() == weights.size(),
             "weighted_sum: must have at least one scalar and one weight per scalar; got ",
             scalars.size(), " scalars and ", weights.size(), " weights");
  std::vector<const Variable*> inputs;
  for (const Variable& scalar : scalars) {
    SMOE_CHECK(scalar.shape() == scalars[0].shape() && scalar.data().numel() == 1 &&
                   scalar.dtype() == scalars[0].dtype(),
               "weighted_sum: scalars must have one element and one dtype; got ", scalar.shape(),
               " ", name_of(scalar.dtype()), " beside ", scalars[0].shape(), " ",
               name_of(scalars[0].dtype()));
    inputs.push_back(&scalar);
  }
  Tensor sum = Tensor::empty_like(scalars[0].data());
  const std::vector<const void*> addresses = addresses_of(scalars);
  kernels::weighted_sum(launch(), {addresses, weights, sum.dtype(), sum.data()});
  std::vector<double> factors(weights.begin(), weights.end());
  return record_outputs(
      "weighted_sum", {std::move(sum)}, std::span<const Variable* const>(inputs), {},
      [factors = std::move(factors)](std::vector<Tensor> dys, InputGradients& out) {
        Tensor dy = dys[0];  // times `factor`; equal factors share it
        double factor = 1;
        for (int i = 0; i < static_cast<int>(factors.size()); ++i) {
          if (!out.wants(i)) continue;
          if (factors[i] != factor)
            dy = factors[i] == 1 ? dys[0] : scale_tensor(dys[0], factors[i]);
          factor = factors[i];
          out.give(i, dy);
        }
      })[0];
}

void gather_scalars(std::span<const Variable> scalars, std::span<const double> weights,
                    const Tensor& values) {
  SMOE_CHECK(!scalars.empty() && scalars.size() == weights.size() &&
                 values.numel() == static_cast<std::int64_t>(scalars.size()),
             "gather_scalars: must have one weight and one value per scalar; got ", scalars.size(),
             " scalars, ", weights.size(), " weights and values ", values.shape());
  const std::vector<const void*> addresses = addresses_of(scalars);
  kernels::gather_scalars(launch(),
                          {addresses, weights, scalars[0].dtype(), values.data_as<double>()});
}

Tensor last_rows(const Tensor& x, std::int64_t num_sequences) {
  SMOE_CHECK(x.rank() == 2 && num_sequences > 0 && x.dim(0) > 0 && x.dim(0) % num_sequences == 0,
             "last_rows: x must be [B*S, D] with B=", num_sequences, " and S > 0; got ", x.shape());
  const std::int64_t seq_len = x.dim(0) / num_sequences;
  if (seq_len == 1) return x;
  if (num_sequences == 1) return x.rows(seq_len - 1, seq_len);
  Tensor last = Tensor::empty({num_sequences, x.dim(1)}, x.dtype());
  for (std::int64_t i = 0; i < num_sequences; ++i) {
    const Tensor source = x.rows((i + 1) * seq_len - 1, (i + 1) * seq_len);
    const Tensor target = last.rows(i, i + 1);
    kernels::scale(launch(), {source.data(), x.dtype(), target.data(), x.dtype(), source.numel()});
  }
  return last;
}

}  // namespace smoe
