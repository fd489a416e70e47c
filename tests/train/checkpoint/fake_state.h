// State of every kind that a checkpoint can contain, filled from a seed.
#pragma once
#include <limits>
#include <vector>

#include "core/state.h"
#include "train/checkpoint/checkpoint.h"

namespace smoe {

/// Tensors of all dtypes, one of them empty and one a view, integers and reals at their limits.
struct FakeState {
  explicit FakeState(std::uint64_t seed) {
    constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::bf16, DType::i32,
                                 DType::i64, DType::u16, DType::u8};
    for (const DType dtype : kDTypes) tensors.push_back(Tensor::empty({3, 5, 7}, dtype));
    tensors.push_back(Tensor::empty({0, 4}, DType::f32));
    tensors.push_back(Tensor::empty({}, DType::f64));
    arena = Tensor::zeros({64}, DType::f32);
    tensors.push_back(arena.view(13, {4, 9}));
    std::uint64_t bits = seed;
    for (Tensor& tensor : tensors)
      for (std::int64_t i = 0; i < tensor.bytes(); ++i) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        static_cast<std::uint8_t*>(tensor.data())[i] = static_cast<std::uint8_t>(bits >> 56);
      }
    step = static_cast<std::int64_t>(seed);
    reals = {static_cast<double>(seed) / 3, -0.0, std::numeric_limits<double>::infinity(),
             std::numeric_limits<double>::denorm_min(), -std::numeric_limits<double>::max()};
  }

  void visit(StateVisitor& visitor) {
    visitor.integer("trainer.step", step);
    visitor.integer("lowest", lowest);
    for (std::size_t i = 0; i < reals.size(); ++i) visitor.real(concat("reals.", i), reals[i]);
    visitor.real("nan", nan);
    for (std::size_t i = 0; i < tensors.size(); ++i)
      visitor.tensor(concat("model.tensors.", i, ".weight"), tensors[i]);
  }
  VisitState visitable() {
    return [this](StateVisitor& visitor) { visit(visitor); };
  }

  /// All its bits, for comparisons.
  std::string bits() {
    std::string text;
    const auto add = [&](const void* data, std::int64_t bytes) {
      if (bytes > 0) text.append(static_cast<const char*>(data), bytes);
    };
    for (const Tensor& tensor : tensors) add(tensor.data(), tensor.bytes());
    add(arena.data(), arena.bytes());
    add(&step, sizeof step);
    add(&lowest, sizeof lowest);
    add(reals.data(), static_cast<std::int64_t>(reals.size() * sizeof(double)));
    add(&nan, sizeof nan);
    return text;
  }

  std::vector<Tensor> tensors;
  Tensor arena;
  std::int64_t step = 0;
  std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  std::vector<double> reals;
  double nan = std::numeric_limits<double>::quiet_NaN();
};

inline CheckpointHeader fake_header(std::int64_t step) {
  CheckpointHeader header;
  header.step = step;
  header.config = {1, 2};
  header.data = {3, 4};
  return header;
}

}  // namespace smoe
