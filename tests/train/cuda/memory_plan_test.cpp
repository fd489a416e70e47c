#include "train/plan/memory_plan.h"

#include <doctest/doctest.h>

#include "core/device.h"
#include "tests/train/plan/measured_memory.h"
#include "tests/train/small_run.h"

using namespace smoe;
using namespace smoe::test;

// Attention runs on SIMT kernels here, whose workspace is known without asking cuDNN.
TEST_CASE("the plan for a GPU matches the accounting of real steps there, to the byte") {
  SmallRun run;
  run.config.run.device = "cuda";
  const TrainingData set = TrainingData::open(run.config.data);
  const Stream stream(Device{DeviceType::cuda, 0});
  const StreamGuard guard(stream);
  Config wide = run.config;
  wide.model.d_model = 64;
  wide.model.d_expert = 128;
  wide.model.vocab_size = 264;
  wide.train.seq_len = 150;
  for (Config config : {run.config, wide})
    for (const auto& [precision, grad_dtype] : {std::pair(DType::f32, DType::f32),
                                                {DType::bf16, DType::f32},
                                                {DType::bf16, DType::bf16}}) {
      config.train.precision = precision;
      config.train.grad_dtype = grad_dtype;
      const std::string dtype = name_of(precision);
      CAPTURE(dtype);
      CAPTURE(config.model.d_model);
      check_equal(plan_memory(config), measured_memory(config, set, 2));
    }
}
