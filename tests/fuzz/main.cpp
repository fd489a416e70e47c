// smoe_fuzz TARGET [--runs N] [--seed S]: gives N inputs, derived from seeds by deterministic
// mutation, to one parser. A child process runs the parser, so that crashes, hangs and memory
// growth are detected with the input that caused them. That input is saved to a file, and
// `smoe_fuzz TARGET --file FILE` reproduces the failure.
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>
#include <thread>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "core/system/sandbox.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/target.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;
using namespace smoe::fuzz;

void smoe::fuzz::put_file(const std::string& path, const std::string& bytes) {
  remove_file(path);
  overwrite(path, bytes);
}

namespace {

constexpr double kMaxSeconds = 20;  // per input, including sanitizers and busy machines
constexpr std::int64_t kMaxGrowth = std::int64_t{1}
                                    << 30;  // bytes of memory beyond that at the start
constexpr std::size_t kMaxMessage = 1000;

struct NamedTarget {
  const char* name;
  Target (*make)(const Playground&);
};
constexpr NamedTarget kTargets[] = {
    {"config", config_target},
    {"hdf5", hdf5_target},
    {"inspect", inspect_target},
    {"manifest", manifest_target},
    {"metrics", metrics_target},
    {"mixtral", mixtral_target},
    {"rendezvous", rendezvous_target},
    {"rendezvous_server", rendezvous_server_target},
    {"safetensors", safetensors_target},
    {"token_set", token_set_target},
    {"tokenizer", tokenizer_target},
    {"tokenizer_pieces", tokenizer_pieces_target},
    {"weight_index", weight_index_target},
};

struct Options {
  std::string target;
  std::uint64_t runs = 20'000;
  std::uint64_t seed = 1;
  std::uint64_t first = 0;
  std::string file;
  std::string write;
  std::string keep = ".";
  bool is_verbose = false;
};

// Progress of the child process, in memory shared with the parent.
struct Progress {
  std::atomic<std::uint64_t> index = 0;  // of the current input
  std::atomic<std::uint64_t> num_accepted = 0;
  std::atomic<std::uint64_t> slowest_index = 0;
  std::atomic<double> slowest_s = 0;
  std::atomic<std::int64_t> grown_bytes = 0;
};

std::int64_t peak_bytes() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

double now_s() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// Detects when this process, a child or a library opens the canary.
class Canary {
 public:
  explicit Canary(const std::string& path) : watcher_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    // Created once and never modified, since other fuzzers on this machine may watch it.
    if (kind_of(path) == PathKind::none) {
      make_folders(parent_of(path));
      overwrite(path, "must not be read\n");
    }
    if (watcher_ < 0 || ::inotify_add_watch(watcher_, path.c_str(), IN_OPEN) < 0)
      throw SystemError("inotify: cannot watch " + path);
  }
  ~Canary() { ::close(watcher_); }
  Canary(const Canary&) = delete;
  Canary& operator=(const Canary&) = delete;

  bool was_opened() {
    char events[4096];
    return ::read(watcher_, events, sizeof events) > 0;
  }

 private:
  int watcher_;
};

// The error with which the target refused the input; empty if it accepted it. Throws: Broken.
std::string read_input(const Target& target, const std::string& input) {
  try {
    target.read(input);
    return "";
  } catch (const InternalError& error) {
    throw Broken(concat("internal error: ", error.what()));
  } catch (const Error& error) {
    const std::string_view message = error.what();
    require(message.size() <= kMaxMessage, "a message of ", message.size(),
            " bytes: ", message.substr(0, 200));
    require(message.find('\n') == std::string_view::npos,
            "a message with several lines: ", message);
    return error.what();
  } catch (const std::bad_alloc&) {
    throw Broken("allocated more memory than exists");
  }
}

class Reader {
 public:
  Reader(const Target& target, const Playground& playground, Progress& progress)
      : target_(target), canary_(playground.canary), progress_(progress) {}

  // Returns the result of read_input.
  std::string read(const std::string& input, std::uint64_t index) {
    const double begin = now_s();
    const std::string refusal = read_input(target_, input);
    progress_.num_accepted += refusal.empty();
    require(!canary_.was_opened(), "a file named by the input was opened");
    progress_.grown_bytes = peak_bytes() - start_bytes_;
    require(progress_.grown_bytes <= kMaxGrowth, "memory grew by ", progress_.grown_bytes,
            " bytes");
    const double took = now_s() - begin;
    if (took > progress_.slowest_s) {
      progress_.slowest_s = took;
      progress_.slowest_index = index;
    }
    return refusal;
  }

 private:
  const Target& target_;
  Canary canary_;
  Progress& progress_;
  std::int64_t start_bytes_ = peak_bytes();
};

Target make_target(const std::string& name, const Playground& playground) {
  for (const NamedTarget& target : kTargets)
    if (name == target.name) return target.make(playground);
  throw UsageError("smoe_fuzz: no target " + name + "; see --help");
}

void print_result(const std::string& refusal) {
  std::cout << (refusal.empty() ? "accepted" : refusal) << std::endl;
}

// Parses the inputs in order. Returns an exit code.
int read_all(const Options& options, const Playground& playground, Progress& progress) {
  try {
    const Target target = make_target(options.target, playground);
    if (!options.write.empty()) {
      overwrite(options.write, make_input(target, options.target, options.seed, options.first));
      return 0;
    }
    Reader reader(target, playground, progress);
    if (!options.file.empty()) {
      print_result(reader.read(read_file(options.file, std::int64_t{1} << 30), 0));
      return 0;
    }
    for (std::uint64_t i = options.first; i < options.first + options.runs; ++i) {
      progress.index = i;
      const std::string refusal =
          reader.read(make_input(target, options.target, options.seed, i), i);
      if (options.is_verbose) print_result(refusal);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << options.target << ": " << error.what() << std::endl;
    return 1;
  }
}

// Waits for the child process and kills it if one input takes too long. Returns its failure, or "".
std::string watch(pid_t reader, const Progress& progress) {
  std::uint64_t index = ~std::uint64_t{0};
  double since = now_s();
  for (;;) {
    int status = 0;
    if (::waitpid(reader, &status, WNOHANG) == reader) {
      if (WIFSIGNALED(status)) return concat("ended by signal ", WTERMSIG(status));
      return WEXITSTATUS(status) == 0 ? "" : concat("ended with code ", WEXITSTATUS(status));
    }
    if (progress.index != index) {
      index = progress.index;
      since = now_s();
    }
    if (now_s() - since > kMaxSeconds) {
      ::kill(reader, SIGKILL);
      ::waitpid(reader, &status, 0);
      return concat("parsed one input for more than ", kMaxSeconds, " s");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void report_failure(const Options& options, const Playground& playground, std::uint64_t index,
                    const std::string& how) {
  if (!options.file.empty()) {
    std::cerr << options.target << ": FAILED: " << how << "\n";
    return;
  }
  const Target target = make_target(options.target, playground);
  const std::string path =
      concat(options.keep, "/", options.target, "-", options.seed, "-", index, ".input");
  overwrite(path, make_input(target, options.target, options.seed, index));
  std::cerr << options.target << ": FAILED: input " << index << " of seed " << options.seed << ": "
            << how << "; smoe_fuzz " << options.target << " --file " << path << "\n";
}

int run_fuzzer(const Options& options) {
  void* const shared =
      ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw SystemError("mmap: no shared memory");
  auto* const progress = new (shared) Progress;
  const TemporaryFolder folder;
  // A fixed name, so that inputs that contain it are deterministic.
  const Playground playground{folder.path(), concat("/tmp/smoe-fuzz-canary/", options.target)};
  const double begin = now_s();
  const pid_t reader = ::fork();
  if (reader < 0) throw SystemError("fork: no second process");
  // std::exit, so that a leak checker runs.
  if (reader == 0) std::exit(read_all(options, playground, *progress));
  const std::string how = watch(reader, *progress);
  if (!how.empty()) {
    report_failure(options, playground, progress->index, how);
    return 1;
  }
  if (!options.file.empty() || !options.write.empty()) return 0;
  const double took = now_s() - begin;
  std::printf(
      "%-18s %8llu inputs, %llu accepted, %.1f s, %.0f/s, slowest %.0f ms (input %llu), "
      "memory +%lld MiB\n",
      options.target.c_str(), static_cast<unsigned long long>(options.runs),
      static_cast<unsigned long long>(progress->num_accepted), took,
      static_cast<double>(options.runs) / took, 1e3 * progress->slowest_s,
      static_cast<unsigned long long>(progress->slowest_index),
      static_cast<long long>(progress->grown_bytes >> 20));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  serve_sandboxed_task(argc, argv);
  Options options;
  CLI::App app("Gives damaged and crafted inputs to one of smoe's parsers.", "smoe_fuzz");
  std::string names;
  for (const NamedTarget& target : kTargets)
    names += concat(names.empty() ? "" : ", ", target.name);
  app.add_option("TARGET", options.target, names)->required();
  app.add_option("--runs", options.runs, "Number of inputs")->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of the mutations")->capture_default_str();
  app.add_option("--first", options.first, "Index of the first input")->capture_default_str();
  app.add_option("--file", options.file, "Parse only the input in this file");
  app.add_flag("--verbose", options.is_verbose, "Print the parser's result for each input");
  app.add_option("--write", options.write, "Only write input --first to this file");
  app.add_option("--keep", options.keep, "Folder for a failing input")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return run_fuzzer(options);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
