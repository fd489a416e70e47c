// `smoe doctor`: says whether this machine can train, and how well.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/device.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/doctor/kernel_checks.h"
#include "train/doctor/speed_checks.h"
#include "train/doctor/version_checks.h"
#include "train/launch/rank_environment.h"

namespace smoe {
namespace {

struct DoctorFlags {
  std::string device = "auto", folder = ".";
  bool is_json = false;
};

int run_doctor(const DoctorFlags& flags) {
  const Stream stream(select_device(flags.device));
  const StreamGuard guard(stream);
  kernels::cpu::set_num_threads(threads_of(read_rank_environment()));
  Findings findings = check_versions();
  for (const Findings& more : {check_kernels(), check_speed(), check_disk(flags.folder)})
    findings.insert(findings.end(), more.begin(), more.end());
  std::cout << (flags.is_json ? findings_json(findings)
                              : findings_text(findings, ::isatty(STDOUT_FILENO) == 1));
  return worst_of(findings) == Health::red ? 1 : 0;
}

}  // namespace

Command add_doctor_command(CLI::App& app) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command = app.add_subcommand("doctor", "Check this machine: kernels, speed, disk");
  add_option(*command, "--device", flags->device, "DEVICE", "auto, cuda or cpu");
  add_option(*command, "--folder", flags->folder, "FOLDER", "Folder whose disk is checked");
  command->add_flag("--json", flags->is_json, "Print a JSON array instead of a table");
  command->footer(
      "Prints versions, compares each family of kernels with the CPU's in double precision, and\n"
      "measures GEMMs, copies and the disk. Each line is ok, WARN or FAIL, with what to do. The "
      "exit\n"
      "code is 1 if a line is FAIL.\n"
      "\n"
      "Examples:\n"
      "  smoe doctor\n"
      "  smoe doctor --device cpu --json");
  return {command, [flags] { return run_doctor(*flags); }};
}

}  // namespace smoe
