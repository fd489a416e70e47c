#include "train/ranks.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>

#include "core/base/check.h"
#include "core/device.h"
#include "core/distributed/copy_communicator.h"
#include "core/distributed/nccl_communicator.h"
#include "core/distributed/tcp_communicator.h"

namespace smoe {
namespace {

constexpr double kStartSeconds = 300;
constexpr double kLeastStepSeconds = 60;
constexpr double kMedianSteps = 20;
constexpr std::size_t kTimedSteps = 21;
// After it, or a third of the timeout, a start says what it waits for.
constexpr double kQuietSeconds = 10;
// For store accesses of a rank that is about to exit.
constexpr double kFailureSeconds = 1;

constexpr char kFactEnd = '\n', kValueBegin = '=';

std::string encode(const std::vector<Fact>& facts) {
  std::string text;
  for (const Fact& fact : facts) text += fact.key + kValueBegin + fact.value + kFactEnd;
  return text;
}

std::vector<Fact> decode(const std::string& text) {
  std::vector<Fact> facts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t value = text.find(kValueBegin, at), end = text.find(kFactEnd, at);
    SMOE_INTERNAL_CHECK(value < end && end != std::string::npos, "ranks: malformed facts");
    facts.push_back({text.substr(at, value - at), text.substr(value + 1, end - value - 1)});
    at = end + 1;
  }
  return facts;
}

/// Describes the first fact of `own` that differs from rank 0's; empty when none does.
std::string find_difference(const std::vector<Fact>& first, const std::vector<Fact>& own,
                            int rank) {
  const auto value_in = [](const std::vector<Fact>& facts, const std::string& key) {
    const auto fact =
        std::find_if(facts.begin(), facts.end(), [&](const Fact& one) { return one.key == key; });
    return fact == facts.end() ? "nothing" : fact->value;
  };
  const auto compare = [&](const std::vector<Fact>& keys) -> std::string {
    for (const Fact& fact : keys) {
      const std::string a = value_in(first, fact.key), b = value_in(own, fact.key);
      if (a != b)
        return concat(fact.key, ": must be the same on all ranks; rank 0 has ", a, ", rank ", rank,
                      " has ", b);
    }
    return "";
  };
  const std::string found = compare(first);
  return found.empty() ? compare(own) : found;
}

}  // namespace

Ranks::Ranks(const RankEnvironment& environment, std::int64_t timeout_s, Transport transport)
    : environment_(environment), timeout_s_(static_cast<double>(timeout_s)), transport_(transport) {
  if (!are_several()) return;
  const Endpoint endpoint = parse_endpoint(environment.endpoint, "rendezvous");
  const Deadline deadline = Deadline::in(start_timeout_s());
  if (environment.is_host)
    server_.emplace(RendezvousServer::Options{endpoint.host, endpoint.port, environment.job_id});
  // The store may still contain the keys of an earlier attempt of this job.
  const RendezvousStore::Options options{endpoint, environment.job_id,
                                         concat(environment.restart_count, "/")};
  wait_aloud(
      deadline, [&](const Deadline& until) { store_.emplace(options, until); },
      [&] { return concat("the rendezvous at ", environment.endpoint); });
}

/// Calls wait(deadline), and after a while says what it waits for: variables of another job may
/// have made this process one of several ranks.
void Ranks::wait_aloud(const Deadline& deadline, const std::function<void(const Deadline&)>& wait,
                       const std::function<std::string()>& what) {
  const Deadline quiet = Deadline::in(std::min(kQuietSeconds, deadline.total_s() / 3));
  try {
    return wait(quiet);
  } catch (const SystemError&) {
    if (!quiet.has_passed()) throw;
  }
  std::fprintf(stderr, "rank %d of %d waits for %s\n", rank(), world_size(), what().c_str());
  wait(deadline);
}

Ranks& Ranks::single() {
  static Ranks ranks;
  return ranks;
}

Ranks::~Ranks() {
  gpus_.reset();
  control_.reset();  // before the store, which other ranks may still access
}

double Ranks::start_timeout_s() const {
  return timeout_s_ > 0 ? timeout_s_ : kStartSeconds;
}

void Ranks::join(const std::vector<Fact>& facts, const std::string& own_device) {
  if (!are_several()) return;
  const Deadline deadline = Deadline::in(start_timeout_s());
  try {
    if (is_first()) store_->set("facts", encode(facts), deadline);
    store_->set(concat("here/", rank()), "", deadline);
    const std::string facts_of_first = store_->get("facts", deadline);
    check_not_refused(deadline);
    std::string difference = find_difference(decode(facts_of_first), facts, rank());
    if (difference.empty()) difference = claim_device(own_device, deadline);
    if (!difference.empty() && store_->add("refusals", 1, deadline) == 1)
      store_->set("refusal", difference, deadline);
    if (store_->add("compared", 1, deadline) == world_size())
      store_->set("all compared", "", deadline);
    wait_aloud(
        deadline, [&](const Deadline& until) { store_->get("all compared", until); },
        [&] { return missing_ranks(deadline); });
  } catch (const SystemError&) {
    if (!deadline.has_passed()) throw;
    throw SystemError(concat("ranks: ", missing_ranks(Deadline::in(kFailureSeconds)),
                             " did not join within ", deadline.total_s(), " s"));
  }
  check_not_refused(deadline);
  connect();
}

/// Why this rank may not use `device`: another rank does. Empty if it may.
std::string Ranks::claim_device(const std::string& device, const Deadline& deadline) {
  if (device.empty()) return "";
  const std::string owner = concat("device/", device);
  if (store_->add(concat(owner, "/claims"), 1, deadline) == 1) {
    store_->set(owner, std::to_string(rank()), deadline);
    return "";
  }
  return concat("device: each rank needs a GPU of its own; ranks ", store_->get(owner, deadline),
                " and ", rank(), " both use ", device);
}

void Ranks::connect() {
  control_ = tcp_communicator(rank(), world_size(), *store_, start_timeout_s());
  if (current_stream().device().type == DeviceType::cuda) gpus_ = connect_gpus();
}

std::unique_ptr<Communicator> Ranks::connect_gpus() {
  const bool is_one_host = environment_.local_world_size == world_size();
  const auto end_process = [this](const std::string& why) {
    std::fprintf(stderr, "rank %d, step %ld: %s; the GPU does not respond\n", rank(), step_.load(),
                 why.c_str());
    ::_exit(1);
  };
  std::string why = "the ranks are on several hosts";
  if (transport_ != Transport::nccl && is_one_host) {
    auto communicator = copy_communicator(
        *store_, *control_, {.timeout_s = start_timeout_s(), .on_stuck = end_process}, why);
    if (communicator) return communicator;
  }
  SMOE_CHECK(transport_ != Transport::copy,
             "transport: copy must be possible on all ranks; got: ", why, "; use nccl");
  // On one host NCCL needs no other network interface to connect, and there may be none.
  if (is_one_host) ::setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  return nccl_communicator(*store_, *control_,
                           {.timeout_s = start_timeout_s(), .on_stuck = end_process});
}

Communicator& Ranks::communicator() {
  if (gpus_) return *gpus_;
  return control_ ? *control_ : single_communicator();
}

void Ranks::check_not_refused(const Deadline& deadline) {
  const std::optional<std::string> refusal = store_->find("refusal", deadline);
  if (refusal) throw UsageError(*refusal);
}

std::string Ranks::missing_ranks(const Deadline& deadline) {
  std::string missing;
  for (int rank = 0; rank < world_size(); ++rank)
    if (!store_->find(concat("here/", rank), deadline))
      missing += concat(missing.empty() ? "rank " : ", ", rank);
  return missing.empty() ? "some rank" : missing;
}

std::string Ranks::broadcast(const std::string& text) {
  if (!are_several()) return text;
  auto size = static_cast<std::int64_t>(text.size());
  const Stream host_stream;
  const StreamGuard host(host_stream);
  const Tensor length = Tensor::from<std::int64_t>({size}, {1}, Category::workspace);
  control_->broadcast(length, 0)->wait();
  size = length.to_vector<std::int64_t>()[0];
  std::vector<std::uint8_t> bytes(text.begin(), text.end());
  bytes.resize(size);
  const Tensor contents = Tensor::from(bytes, {size}, Category::workspace);
  control_->broadcast(contents, 0)->wait();
  bytes = contents.to_vector<std::uint8_t>();
  return {bytes.begin(), bytes.end()};
}

StepRequests Ranks::agree(const StepRequests& own) {
  if (!are_several()) return own;
  std::vector<std::int64_t> values(world_size() + 1);  // each rank's signal, and whether to save
  values[rank()] = own.signal;
  if (is_first()) values.back() = own.saves ? 1 : 0;
  const Stream host_stream;
  const StreamGuard host(host_stream);
  const Tensor all = Tensor::from(values, {world_size() + 1}, Category::workspace);
  control_->all_reduce(all)->wait();
  values = all.to_vector<std::int64_t>();
  StepRequests agreed{.saves = values.back() != 0};
  values.pop_back();
  const auto signal =
      std::find_if(values.begin(), values.end(), [](std::int64_t value) { return value != 0; });
  if (signal != values.end()) agreed.signal = static_cast<int>(*signal);
  return agreed;
}

void Ranks::record_step_time(double seconds) {
  if (!are_several()) return;
  if (step_times_.size() < kTimedSteps) step_times_.resize(num_steps_ + 1);
  step_times_[num_steps_++ % kTimedSteps] = seconds;
  if (timeout_s_ > 0 || num_steps_ < kTimedSteps) return;
  std::vector<double> times = step_times_;
  std::nth_element(times.begin(), times.begin() + kTimedSteps / 2, times.end());
  communicator().set_timeout(std::max(kLeastStepSeconds, kMedianSteps * times[kTimedSteps / 2]));
}

void Ranks::expect_long_wait() {
  communicator().set_timeout(start_timeout_s());
}

/// Whether another rank was lost just now. The memory of its GPU that was mapped here is gone, too,
/// so CUDA reports errors whose cause is not on this rank.
bool Ranks::lost_another_rank() {
  if (!gpus_) return false;
  for (const Deadline deadline = Deadline::in(kFailureSeconds / 2); !deadline.has_passed();) {
    if (!control_->failure().empty()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

std::string Ranks::report_failure(const std::string& message, bool is_communication) {
  if (!are_several()) return message;
  const std::string place =
      concat("rank ", rank(), step_ > 0 ? concat(", step ", step_) : "", ": ");
  std::string own = place + message;
  if (!is_communication) is_communication = lost_another_rank();
  try {
    const Deadline deadline = Deadline::in(kFailureSeconds);
    if (store_->add("failures", 1, deadline) == 1) {
      store_->set("failed_rank", std::to_string(rank()), deadline);
      store_->set("failure", own, deadline);
    } else if (is_communication) {
      own = concat(place, "stopping, because of ", store_->get("failure", deadline));
    }
    if (!control_) {  // the others may be waiting in join()
      if (store_->add("refusals", 1, deadline) == 1) store_->set("refusal", own, deadline);
      store_->set("facts", "", deadline);
      store_->set("all compared", "", deadline);
    }
    // The rank that serves the store stays until the others have read it.
    while (server_ && store_->add("failures", 0, deadline) < world_size())
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  } catch (const Error&) {
    // Without a store, each rank prints its own error.
  }
  communicator().cancel();
  return own;
}

}  // namespace smoe
