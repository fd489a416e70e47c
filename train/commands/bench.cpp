// `smoe bench SWEEP...`: the paper's experiments on one SMoE layer.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/device.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "kernels/threads.h"
#include "train/bench/bench_report.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/launch/rank_environment.h"

namespace smoe {
namespace {

struct BenchFlags {
  std::vector<std::string> sweeps;
  std::string device = "auto", output;
  std::int64_t scale = 0;
  double seconds = 0.5;
};

// After each sweep, so that the results of a run that is ended early are there.
void write_files(const std::string& folder, const std::vector<SweepResult>& results) {
  make_folders(folder);
  write_file_atomically(folder + "/bench.csv", bench_csv(results));
  write_file_atomically(folder + "/bench.json", bench_json(results));
  write_file_atomically(folder + "/bench.html", bench_page(results));
}

int run_bench(const BenchFlags& flags) {
  SMOE_CHECK(flags.seconds > 0, "--seconds: must be positive; got ", flags.seconds);
  const Stream stream(select_device(flags.device));
  const StreamGuard guard(stream);
  kernels::cpu::set_num_threads(threads_of(read_rank_environment()));
  const bool is_gpu = stream.device().type == DeviceType::cuda;
  constexpr std::int64_t kCpuScale = 16;
  const std::int64_t scale = flags.scale != 0 ? flags.scale : is_gpu ? 1 : kCpuScale;
  std::vector<Sweep> sweeps;
  for (const std::string& name : flags.sweeps)
    sweeps.push_back(make_sweep(name, scale, is_gpu ? DType::bf16 : DType::f32));
  std::vector<SweepResult> results;
  for (const Sweep& sweep : sweeps) {
    std::cout << bench_head(sweep, sweep_device()) << std::flush;
    const SweepObserver printer{
        .on_begin =
            [&](const SweepRow& row) {
              std::cout << bench_row_head(sweep, row.point) << std::flush;
            },
        .on_measurement =
            [&](const SweepRow& row, const Measurement& m) {
              std::cout << bench_line(sweep, row, m) << std::flush;
            },
        .on_end = [](const SweepRow& row) { std::cout << bench_row_foot(row) << std::flush; }};
    results.push_back(run_sweep(sweep, flags.seconds, printer));
    std::cout << bench_foot(results.back()) << std::endl;
    if (!flags.output.empty()) write_files(flags.output, results);
  }
  if (!flags.output.empty()) std::cout << flags.output << "/bench.html, bench.csv and bench.json\n";
  return 0;
}

}  // namespace

Command add_bench_command(CLI::App& app) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand(
      "bench", "Compare the experts of one layer with other ways to compute them");
  command
      ->add_option("SWEEPS", flags->sweeps,
                   "layer, granularity, sparsity, batch, imbalance, inference, parallel_linear, "
                   "attention, model")
      ->required()
      ->type_name("");
  add_option(*command, "--device", flags->device, "DEVICE", "auto, cuda or cpu");
  command
      ->add_option(
          "--scale", flags->scale,
          "Divide tokens and widths by this power of two; by default 1 on a GPU, 16 on a CPU")
      ->type_name("N");
  add_option(*command, "--seconds", flags->seconds, "S", "Time for each variant and size");
  command->add_option("--output", flags->output, "Folder for bench.html, bench.csv and bench.json")
      ->type_name("FOLDER");
  command->footer(
      "Runs the experiments of arXiv:2403.08245 on this machine: the experts of one layer, forward "
      "and\n"
      "backward (inference: forward), against gathered copies with and without padding to tiles "
      "of\n"
      "128 rows, a loop of dense GEMMs over the experts, and a dense MLP of equal active FLOP, all "
      "from\n"
      "the same kernels. A variant whose results differ from the reference is not shown. Memory "
      "is\n"
      "what is kept for backward, and the peak, with and without the reuse of buffers in "
      "backward.\n"
      "parallel_linear runs the op ParallelLinear alone in each pair of layouts, with bias and "
      "gates,\n"
      "at the sizes of six layers, against copies that order the rows and against the GEMMs of the "
      "fused\n"
      "experts. attention runs a mixture of attention against copies of its rows to grouped order "
      "and\n"
      "back. model trains the paper's 1.5B model with these experts and with padded copies.\n"
      "\n"
      "Examples:\n"
      "  smoe bench model --device cpu --scale 64 --seconds 0.1\n"
      "  smoe bench parallel_linear --device cpu --scale 32 --seconds 0.1\n"
      "  smoe bench attention --device cpu --scale 32 --seconds 0.1\n"
      "  smoe bench layer --device cpu --scale 32 --seconds 0.1\n"
      "  smoe bench granularity batch --device cpu --scale 64 --seconds 0.05 --output bench");
  return {command, [flags] { return run_bench(*flags); }};
}

}  // namespace smoe
