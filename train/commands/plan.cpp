// `smoe plan CONFIG [key.path=value ...]`: predicts the cost of a run.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/base/check.h"
#include "core/device.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/plan/plan_text.h"
#include "train/profile/roofline.h"

namespace smoe {
namespace {

struct PlanFlags {
  ConfigArguments config;
  int num_ranks = 1;
  std::uint64_t device_bytes = 0;
  bool is_json = false;
};

// In bf16 a plan is for a GPU, wherever it is made.
bool is_for_this_cpu(const Config& config, int num_ranks) {
  if (config.train.precision == DType::bf16 || num_ranks > 1) return false;
  try {
    return select_device(config.run.device).type == DeviceType::cpu;
  } catch (const UsageError&) {  // a GPU that is not here
    return false;
  }
}

int run_plan(const PlanFlags& options) {
  const Config config = options.config.load();
  if (config.run.threads > 0) kernels::cpu::set_num_threads(static_cast<int>(config.run.threads));
  Plan plan = make_plan(config, options.num_ranks, static_cast<std::int64_t>(options.device_bytes));
  if (!options.is_json && is_for_this_cpu(config, options.num_ranks))
    plan.cpu_flops_per_s = measure_roofline(config.train.precision).flops_per_s;
  std::cout << (options.is_json ? plan_json(plan) : plan_text(plan));
  return 0;
}

}  // namespace

Command add_plan_command(CLI::App& app) {
  auto options = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand("plan", "Predict the cost of a run before it starts");
  options->config.add_to(*command);
  command
      ->add_option("--ranks", options->num_ranks,
                   "Also plan a rank of so many: memory without and with ZeRO, bytes sent and time")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--memory", options->device_bytes,
                   "Memory of the device to run on, such as 80GiB; default: that of this machine's")
      ->transform(CLI::AsSizeValue(false));
  command->add_flag("--json", options->is_json, "Print one JSON object instead of tables");
  command->footer(
      "Prints parameters, FLOP per token, tokens per expert and the memory of a step by category,\n"
      "and warns of settings that make a mixture of experts slow or unstable. For bf16 it adds an\n"
      "estimate of the run's time on H100 or H200, for a run on this machine's CPU one from the\n"
      "speed of a GEMM, measured in less than a second. Trains nothing; the token set need not\n"
      "exist if model.vocab_size is given.\n"
      "\n"
      "Examples:\n"
      "  smoe plan configs/tiny.yaml\n"
      "  smoe plan configs/small-8x.yaml train.precision=bf16 train.recompute=experts\n"
      "  smoe plan configs/smoe-1.5b.yaml --memory 80GiB --ranks 8\n"
      "  smoe plan configs/tiny.yaml --json");
  return {command, [options] { return run_plan(*options); }};
}

}  // namespace smoe
