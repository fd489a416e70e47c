// `smoe launch [flags] [--] train CONFIG ...`: several ranks of one job on this host, and on others
// that run the same command.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "core/base/check.h"
#include "core/system/file.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/commands/commands.h"
#include "train/config/config.h"
#include "train/config/run_paths.h"
#include "train/launch/launcher.h"

namespace smoe {
namespace {

constexpr int kFirstPort = 29500;  // torchrun's, where launchers of several hosts meet

// The flags as they were given.
struct LaunchFlags {
  std::string nproc_per_node = "1";
  int nnodes = 1;
  int node_rank = -1;
  std::string master_addr;
  int master_port = -1;
  std::string rdzv_endpoint;
  std::string rdzv_id;
  bool standalone = false;
  int max_restarts = 0;
  double grace = 30;
  std::string log_dir;
  int log_mb = 64;
  std::string redirects = "0";
  std::string tee = "0";
  bool no_python = false;
  std::string command;  // for --help
};

void set_place(const LaunchFlags& flags, LaunchOptions& options) {
  const bool is_one_host = flags.nnodes == 1;
  SMOE_CHECK(flags.nnodes >= 1 && flags.nnodes <= 65536, "--nnodes: must be 1 to 65536; got ",
             flags.nnodes);
  SMOE_CHECK(!flags.standalone || is_one_host, "--standalone: is for one host; got --nnodes ",
             flags.nnodes);
  SMOE_CHECK(is_one_host || flags.node_rank >= 0, "--node-rank: must be given with --nnodes, 0 to ",
             flags.nnodes - 1);
  SMOE_CHECK(flags.node_rank < flags.nnodes, "--node-rank: must be below --nnodes, ", flags.nnodes,
             "; got ", flags.node_rank);
  options.num_nodes = flags.nnodes;
  options.node_rank = std::max(0, flags.node_rank);
  options.job_id = flags.rdzv_id;
  if (options.job_id.empty()) options.job_id = is_one_host ? random_job_id() : "none";
  if (flags.standalone) return;
  if (!flags.rdzv_endpoint.empty()) {
    SMOE_CHECK(flags.master_addr.empty() && flags.master_port < 0,
               "--rdzv-endpoint: says what --master-addr and --master-port say; give one or the "
               "other");
    const bool has_port = flags.rdzv_endpoint.find(':') != std::string::npos;
    const Endpoint endpoint = parse_endpoint(
        has_port ? flags.rdzv_endpoint : concat(flags.rdzv_endpoint, ":", kFirstPort),
        "--rdzv-endpoint");
    options.host = endpoint.host;
    options.port = endpoint.port;
  } else {
    if (!flags.master_addr.empty()) options.host = flags.master_addr;
    options.port = flags.master_port >= 0 ? flags.master_port : is_one_host ? 0 : kFirstPort;
  }
  SMOE_CHECK(options.port <= 65535 && (is_one_host || options.port > 0),
             "--master-port: must be 1 to 65535; got ", options.port);
  SMOE_CHECK(is_one_host || !flags.master_addr.empty() || !flags.rdzv_endpoint.empty(),
             "--master-addr: must name the host of node 0 when there are several");
}

// What this program itself is started by, also after a new build has replaced the file.
std::string own_program() {
  return "/proc/self/exe";
}

// `command` is `train CONFIG [key=value ...]`. A wrong configuration is told here, once, instead of
// by each rank.
void set_training(const std::vector<std::string>& command, LaunchOptions& options) {
  SMOE_CHECK(command[0] == "train", "smoe launch: only train runs on several ranks; got '",
             command[0], "'");
  options.program = own_program();
  options.arguments = {"smoe"};
  options.arguments.insert(options.arguments.end(), command.begin(), command.end());
  std::vector<std::string> words;
  std::copy_if(command.begin() + 1, command.end(), std::back_inserter(words),
               [](const std::string& word) { return !word.starts_with("-"); });
  if (words.empty() || words.size() + 1 < command.size()) return;  // --help and the like
  const Config config = load_config(words[0], {words.begin() + 1, words.end()});
  const RunPaths run(config.run.folder());
  if (options.log_folder.empty()) options.log_folder = run.logs_path();
  options.restart_arguments = {"checkpoint.resume=auto"};
  const CheckpointStore checkpoints({.folder = run.checkpoints_path()}, nullptr);
  options.saved_step = [checkpoints] { return checkpoints.newest_step(); };
}

int run_launch(const LaunchFlags& flags, std::vector<std::string> command) {
  if (!command.empty() && command[0] == "--") command.erase(command.begin());
  SMOE_CHECK(!command.empty(),
             "smoe launch: must be told what to run, like train CONFIG; see "
             "smoe launch --help");
  SMOE_CHECK(!command[0].starts_with("-"), "smoe launch: unknown flag ", command[0],
             "; see smoe launch --help");
  LaunchOptions options;
  options.num_local_ranks = parse_num_ranks("--nproc-per-node", flags.nproc_per_node);
  set_place(flags, options);
  SMOE_CHECK(flags.max_restarts >= 0, "--max-restarts: must be 0 or more; got ",
             flags.max_restarts);
  SMOE_CHECK(flags.grace >= 0 && flags.grace <= 86400, "--grace: must be 0 to 86400 s; got ",
             flags.grace);
  SMOE_CHECK(flags.log_mb >= 1, "--log-mb: must be 1 or more; got ", flags.log_mb);
  options.max_restarts = flags.max_restarts;
  options.grace_s = flags.grace;
  options.log_folder = flags.log_dir;
  options.max_log_bytes = std::int64_t{flags.log_mb} << 20;
  options.redirects = StreamChoice("--redirects", flags.redirects);
  options.tee = StreamChoice("--tee", flags.tee);
  if (flags.no_python) {
    options.program = command[0];
    options.arguments = command;
  } else {
    set_training(command, options);
  }
  return Launcher(options).run();
}

// Adds an option under its name and, unseen, under torchrun's older spelling with underscores.
template <class T>
void add(CLI::App& command, const std::string& names, T& target, const std::string& meaning) {
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<T, bool>)
    option = command.add_flag(names, target, meaning);
  else
    option = command.add_option(names, target, meaning);
  std::string underscored = option->get_lnames()[0];
  if (underscored.find('-') == std::string::npos) return;
  std::replace(underscored.begin(), underscored.end(), '-', '_');
  if constexpr (std::is_same_v<T, bool>)
    command.add_flag("--" + underscored, target)->group("");
  else
    command.add_option("--" + underscored, target)->group("");
}

void add_flags(CLI::App& command, LaunchFlags& flags) {
  add(command, "--nproc-per-node", flags.nproc_per_node,
      "Ranks on this host: a number, cpu (one a core), gpu (one a GPU) or auto");
  add(command, "--nnodes", flags.nnodes, "Hosts");
  add(command, "--node-rank", flags.node_rank, "Of this host, 0 to nnodes-1");
  add(command, "--master-addr", flags.master_addr,
      "Address of node 0, as the other hosts reach it; else the loopback address");
  add(command, "--master-port", flags.master_port,
      "Port of node 0; 29500 for several hosts, a free one for one host");
  add(command, "--rdzv-endpoint", flags.rdzv_endpoint, "Both of them as host:port");
  add(command, "--rdzv-id", flags.rdzv_id,
      "Name of the job, the same on all hosts; whoever does not know it is refused");
  add(command, "--standalone", flags.standalone,
      "One host; what the flags above say of the place is ignored");
  add(command, "--max-restarts", flags.max_restarts,
      "How often the ranks are started again after a failure, from the newest checkpoint");
  add(command, "--grace", flags.grace, "Seconds from a signal to the end by force");
  add(command, "--log-dir", flags.log_dir,
      "Folder for rank-N.log of each rank; else logs/ in the run's folder");
  add(command, "--log-mb", flags.log_mb, "Size at which a log is rotated; three older are kept");
  add(command, "-r,--redirects", flags.redirects,
      "Streams that only go to the log: 0 none, 1 output, 2 error, 3 both, or 0:3,2:1 for some "
      "ranks of this host");
  add(command, "-t,--tee", flags.tee, "Streams to show here too, each line behind its rank");
  add(command, "--no-python", flags.no_python, "COMMAND is a program of your own");
}

}  // namespace

Command add_launch_command(CLI::App& app) {
  auto flags = std::make_shared<LaunchFlags>();
  CLI::App* command =
      app.add_subcommand("launch", "Train with several ranks, on one or more hosts");
  add_flags(*command, *flags);
  // All behind the flags is the command's own. It is shown as a positional argument, which takes
  // nothing, since CLI11 would look for flags behind what it took, and for "--" without one,
  // nowhere.
  command->prefix_command();
  command->validate_positionals();
  command->add_option("COMMAND", flags->command, "train CONFIG [key.path=value ...]")
      ->check(CLI::Validator([](std::string&) { return std::string("left to COMMAND"); }, ""))
      ->type_name("");
  command->footer(
      "Flags and variables are torchrun's. The console shows what rank 0 prints; what each rank\n"
      "prints is in its log. When one fails, all end within seconds, and the last line says which\n"
      "was first, and why. Ctrl-C, SIGTERM and SIGUSR1 save and stop all ranks at the same step;\n"
      "a second signal kills them. Each rank gets its share of the cores unless run.threads is "
      "set.\n"
      "\n"
      "Examples:\n"
      "  smoe launch --nproc-per-node 4 train configs/tiny.yaml train.micro_batch=2\n"
      "  smoe launch --nproc-per-node cpu --max-restarts 3 --tee 3 train configs/tiny.yaml\n"
      "  smoe launch --nnodes 2 --node-rank 0 --master-addr 10.0.0.1 --nproc-per-node 2 \\\n"
      "    --rdzv-id $SECRET train configs/tiny.yaml     # and on the other: --node-rank 1");
  return {command, [flags, command] { return run_launch(*flags, command->remaining()); }};
}

}  // namespace smoe
