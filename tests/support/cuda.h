// GPU tests of kernels: a function creates its inputs, launches kernels on the current stream and
// returns their outputs. It runs once on the CPU, which is the oracle, and twice on the GPU.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/device.h"
#include "tests/support/compare.h"
#include "tests/support/sanitizer_shard.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// The stream that GPU tests run on. Throws: UsageError without a GPU.
inline const Stream& gpu_stream() {
  static const Stream& stream = *new Stream(select_device("cuda"));
  return stream;
}

/// One output of a run, and how close to the CPU's it must be. Integers must be equal.
struct Result {
  std::string name;
  Tensor tensor;
  Closeness closeness = {};
};

/// Compares each output of two GPU runs: element by element with `wanted`, and bit by bit with each
/// other.
inline void check_results(const std::string& what, const std::vector<Result>& got,
                          const std::vector<Result>& again, const std::vector<Result>& wanted) {
  REQUIRE(got.size() == wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::string name = what + ": " + got[i].name;
    REQUIRE(got[i].tensor.device().type == DeviceType::cuda);
    if (is_floating(got[i].tensor.dtype()))
      check_close(name, got[i].tensor, values_of(wanted[i].tensor), got[i].closeness);
    else
      check_same_bits(name + " compared with the reference's", got[i].tensor, wanted[i].tensor);
    check_same_bits(name + " run twice", again[i].tensor, got[i].tensor);
  }
}

/// Runs `run` once on the GPU if this process of a sanitized run takes it. True under a sanitizer.
inline bool runs_for_sanitizer(const std::function<std::vector<Result>()>& run) {
  SanitizerShard& shard = sanitizer_shard();
  if (!shard.is_on()) return false;
  if (shard.takes_next()) {
    const StreamGuard guard(gpu_stream());
    run();
    gpu_stream().synchronize();
  }
  return true;
}

/// Compares each output of `run` on the GPU with the CPU's, and two runs on the GPU. New tensors
/// are filled with NaNs. `run` must create its inputs itself, from host values that are rounded to
/// the tested dtype, as tests/support/tensors.h does.
/// Under a sanitizer it runs once on the GPU, without NaN filling or comparisons.
inline void check_on_gpu(const std::string& what, const std::function<std::vector<Result>()>& run) {
  if (runs_for_sanitizer(run)) return;
  const PoisonGuard poison;
  const std::vector<Result> wanted = run();
  const StreamGuard guard(gpu_stream());
  const std::vector<Result> got = run(), again = run();
  check_results(what, got, again, wanted);
}

/// The same compared with the portable expert kernels on the GPU, for sizes that take the CPU long.
inline void check_against_portable(const std::string& what,
                                   const std::function<std::vector<Result>()>& run) {
  if (runs_for_sanitizer(run)) return;
  const PoisonGuard poison;
  const auto run_with = [&](ExpertKernels kernels) {
    const StreamGuard guard(gpu_stream(), {.experts = kernels});
    return run();
  };
  const std::vector<Result> wanted = run_with(ExpertKernels::portable);
  const std::vector<Result> got = run_with(ExpertKernels::automatic);
  check_results(what, got, run_with(ExpertKernels::automatic), wanted);
}

}  // namespace smoe::test
