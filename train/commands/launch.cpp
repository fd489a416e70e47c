// `smoe launch [flags] [--] train CONFIG ...`: several ranks of one job on this host, and on others
// that run the same command.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/config/changes.h"
#include "train/config/run_paths.h"
#include "train/launch/launcher.h"
#include "train/report/run_folder.h"

namespace smoe {
namespace {

constexpr std::int64_t kMaxJobIdBytes = 256;
constexpr int kDefaultPort = 29500;  // as in torchrun, for jobs on several hosts

// The flags as given on the command line.
struct LaunchFlags {
  std::string nproc_per_node = "1";
  int nnodes = 1;
  int node_rank = -1;
  std::string master_addr;
  int master_port = -1;
  std::string rdzv_endpoint;
  std::string rdzv_id;
  std::string rdzv_id_file;
  bool standalone = false;
  std::optional<int> max_restarts;
  double grace = 30;
  std::string log_dir;
  int log_mb = 64;
  std::string redirects = "0";
  std::string tee = "0";
  std::string numa_binding;
  bool no_python = false;
  std::string command;  // for --help
};

// The command line of a process is visible to all users of its host, so a secret id comes from a
// file or the environment.
std::string job_id_of(const LaunchFlags& flags) {
  if (flags.rdzv_id_file.empty()) return flags.rdzv_id;
  SMOE_CHECK(flags.rdzv_id.empty(),
             "--rdzv-id-file: must not be combined with --rdzv-id or SMOE_RDZV_ID");
  std::string id = read_file(flags.rdzv_id_file, kMaxJobIdBytes);
  while (!id.empty() && (id.back() == '\n' || id.back() == '\r')) id.pop_back();
  SMOE_CHECK(!id.empty(), "--rdzv-id-file: ", flags.rdzv_id_file,
             " must contain the id of the job");
  return id;
}

void set_rendezvous(const LaunchFlags& flags, LaunchOptions& options) {
  const bool is_one_host = flags.nnodes == 1;
  SMOE_CHECK(flags.nnodes >= 1 && flags.nnodes <= 65536, "--nnodes: must be 1 to 65536; got ",
             flags.nnodes);
  SMOE_CHECK(!flags.standalone || is_one_host, "--standalone: requires one host; got --nnodes ",
             flags.nnodes);
  SMOE_CHECK(is_one_host || flags.node_rank >= 0, "--node-rank: must be given with --nnodes, 0 to ",
             flags.nnodes - 1);
  SMOE_CHECK(flags.node_rank < flags.nnodes, "--node-rank: must be below --nnodes, ", flags.nnodes,
             "; got ", flags.node_rank);
  options.num_nodes = flags.nnodes;
  options.node_rank = std::max(0, flags.node_rank);
  options.job_id = job_id_of(flags);
  if (options.job_id.empty()) options.job_id = is_one_host ? random_job_id() : "none";
  if (flags.standalone) return;
  if (!flags.rdzv_endpoint.empty()) {
    SMOE_CHECK(flags.master_addr.empty() && flags.master_port < 0,
               "--rdzv-endpoint: must not be combined with --master-addr or --master-port");
    const bool has_port = flags.rdzv_endpoint.find(':') != std::string::npos;
    const Endpoint endpoint = parse_endpoint(
        has_port ? flags.rdzv_endpoint : concat(flags.rdzv_endpoint, ":", kDefaultPort),
        "--rdzv-endpoint");
    options.host = endpoint.host;
    options.port = endpoint.port;
  } else {
    if (!flags.master_addr.empty()) options.host = flags.master_addr;
    options.port = flags.master_port >= 0 ? flags.master_port : is_one_host ? 0 : kDefaultPort;
  }
  SMOE_CHECK(options.port <= 65535 && (is_one_host || options.port > 0),
             "--master-port: must be 1 to 65535; got ", options.port);
  SMOE_CHECK(is_one_host || !flags.master_addr.empty() || !flags.rdzv_endpoint.empty(),
             "--master-addr: must name the host of node 0 when there are several hosts");
}

// The path of the running program, valid even after a new build has replaced the file.
std::string own_program() {
  return "/proc/self/exe";
}

// `command` is `train CONFIG [key=value ...]`, or the same with profile. An invalid configuration
// is reported here, once, instead of by each rank.
void set_training(const std::vector<std::string>& command, LaunchOptions& options) {
  const bool trains = command[0] == "train";
  SMOE_CHECK(trains || command[0] == "profile",
             "smoe launch: only train and profile run on several ranks; got '", command[0], "'");
  options.program = own_program();
  options.arguments = {"smoe"};
  options.arguments.insert(options.arguments.end(), command.begin(), command.end());
  CLI::App parser;
  TrainArguments arguments;
  arguments.add_to(parser);
  try {
    std::vector<std::string> words(command.rbegin(), command.rend() - 1);  // CLI11 takes them so
    parser.parse(words);
  } catch (const CLI::Error&) {  // --help, or what the ranks report
    return;
  }
  if (arguments.print_config) return;
  const Config config = arguments.config.load();
  if (!arguments.change.empty()) parse_consent(arguments.change, config);
  const RunPaths run(config.run.folder());
  if (!trains) {
    if (options.log_folder.empty()) options.log_folder = run.path() + "/profile/logs";
    return;
  }
  if (options.node_rank == 0) check_not_written(run.path());
  if (options.log_folder.empty()) options.log_folder = run.logs_path();
  // A branch resumes by its own rule: from the other run until it has a checkpoint.
  const std::string& resume = config.checkpoint.resume;
  const bool is_branch = resume != "auto" && resume != "none" &&
                         !is_same_path(parent_of(resume), run.checkpoints_path());
  if (!is_branch) options.restart_arguments = {"checkpoint.resume=auto"};
  options.saved_step = [folder = run.checkpoints_path()] {
    return CheckpointStore({.folder = folder}, nullptr).newest_step();
  };
}

int run_launch(const LaunchFlags& flags, std::vector<std::string> command) {
  if (!command.empty() && command[0] == "--") command.erase(command.begin());
  SMOE_CHECK(!command.empty(),
             "smoe launch: a command is required, such as train CONFIG; see smoe launch --help");
  SMOE_CHECK(!command[0].starts_with("-"), "smoe launch: unknown flag ", command[0],
             "; see smoe launch --help");
  LaunchOptions options;
  options.num_local_ranks = parse_num_ranks("--nproc-per-node", flags.nproc_per_node);
  set_rendezvous(flags, options);
  if (!flags.numa_binding.empty()) {
    SMOE_CHECK(flags.numa_binding == "node", "--numa-binding: must be node; got '",
               flags.numa_binding, "'");
    options.cores = cores_near_gpus("--numa-binding", options.num_local_ranks);
  }
  SMOE_CHECK(flags.max_restarts.value_or(0) >= 0, "--max-restarts: must be 0 or more; got ",
             *flags.max_restarts);
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

// Adds an option under its name and, hidden, under torchrun's older spelling with underscores.
template <class T>
CLI::Option* add(CLI::App& command, const std::string& names, T& target,
                 const std::string& meaning) {
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<T, bool>)
    option = command.add_flag(names, target, meaning);
  else
    option = command.add_option(names, target, meaning);
  std::string underscored = option->get_lnames()[0];
  if (underscored.find('-') == std::string::npos) return option;
  std::replace(underscored.begin(), underscored.end(), '-', '_');
  if constexpr (std::is_same_v<T, bool>)
    command.add_flag("--" + underscored, target)->group("");
  else
    command.add_option("--" + underscored, target)->group("");
  return option;
}

void add_flags(CLI::App& command, LaunchFlags& flags) {
  add(command, "--nproc-per-node", flags.nproc_per_node,
      "Ranks on this host: a number, cpu (one per core), gpu (one per GPU) or auto")
      ->capture_default_str();
  add(command, "--nnodes", flags.nnodes, "Number of hosts")->capture_default_str();
  add(command, "--node-rank", flags.node_rank, "Rank of this host, 0 to nnodes-1");
  add(command, "--master-addr", flags.master_addr,
      "Address of node 0, reachable from the other hosts; default: the loopback address");
  add(command, "--master-port", flags.master_port,
      "Port of node 0; default: 29500 for several hosts, a free port for one host");
  add(command, "--rdzv-endpoint", flags.rdzv_endpoint, "Address and port of node 0 as host:port");
  add(command, "--rdzv-id", flags.rdzv_id,
      "Id of the job, the same on all hosts; connections with another id are refused. Other users\n"
      "of a host can read its command lines: set SMOE_RDZV_ID or --rdzv-id-file for a secret id")
      ->envname("SMOE_RDZV_ID");
  add(command, "--rdzv-id-file", flags.rdzv_id_file, "File with the id of the job");
  add(command, "--standalone", flags.standalone,
      "One host; the address and port flags above are ignored");
  add(command, "--max-restarts", flags.max_restarts,
      "Number of restarts of all ranks after a failure, from the newest checkpoint; before the "
      "first\n"
      "checkpoint, one of them. By default one, before the first checkpoint only; 0: none");
  add(command, "--grace", flags.grace, "Seconds from a signal until ranks are killed")
      ->capture_default_str();
  add(command, "--log-dir", flags.log_dir,
      "Folder for rank-N.log of each rank; default: logs/ in the run's folder");
  add(command, "--log-mb", flags.log_mb,
      "Size in MiB at which a log is rotated; three older logs are kept")
      ->capture_default_str();
  add(command, "-r,--redirects", flags.redirects,
      "Streams written to the log only: 0 none, 1 stdout, 2 stderr, 3 both, or 0:3,2:1 for some "
      "ranks of this host")
      ->capture_default_str();
  add(command, "-t,--tee", flags.tee,
      "Streams written to the console too, each line prefixed with its rank")
      ->capture_default_str();
  add(command, "--numa-binding", flags.numa_binding,
      "node: each rank runs on the cores of its GPU's NUMA node");
  add(command, "--no-python", flags.no_python, "COMMAND is another program");
}

}  // namespace

Command add_launch_command(CLI::App& app) {
  auto flags = std::make_shared<LaunchFlags>();
  CLI::App* command =
      app.add_subcommand("launch", "Train with several ranks, on one or more hosts");
  add_flags(*command, *flags);
  // Everything after the flags belongs to COMMAND. The positional argument only documents it and
  // accepts nothing: CLI11 would parse flags after an accepted word, and without a positional
  // argument it would reject "--".
  command->prefix_command();
  command->validate_positionals();
  command->add_option("COMMAND", flags->command, "train or profile, CONFIG [key.path=value ...]")
      ->check(CLI::Validator([](std::string&) { return std::string("left to COMMAND"); }, ""))
      ->type_name("");
  command->footer(
      "Flags have the names of torchrun's (there is no --rdzv-backend), and ranks get its\n"
      "environment variables: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_RANK,\n"
      "MASTER_ADDR, MASTER_PORT, TORCHELASTIC_RUN_ID and TORCHELASTIC_RESTART_COUNT.\n"
      "The console shows the output of rank 0; each rank has a log.\n"
      "When one rank fails, all exit within seconds, and the last line names the first failure.\n"
      "Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save and stop all ranks at the same step; a second\n"
      "signal kills them. The cores are divided among the ranks unless run.threads is set.\n"
      "\n"
      "Examples:\n"
      "  smoe launch --nproc-per-node 4 train configs/tiny.yaml train.micro_batch=2\n"
      "  smoe launch --nproc-per-node 2 --max-restarts 3 --tee 3 train configs/tiny.yaml "
      "train.micro_batch=4\n"
      "  smoe launch --nnodes 2 --node-rank 0 --master-addr 10.0.0.1 --nproc-per-node 2 \\\n"
      "    --rdzv-id-file id.txt train configs/tiny.yaml train.micro_batch=2  "
      "# and on the other: --node-rank 1");
  return {command, [flags, command] { return run_launch(*flags, command->remaining()); }};
}

}  // namespace smoe
