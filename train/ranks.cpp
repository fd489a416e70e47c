#include "train/ranks.h"

#include <algorithm>
#include <thread>

#include "core/base/check.h"
#include "core/distributed/gloo_communicator.h"

namespace smoe {
namespace {

constexpr double kStartSeconds = 300;
constexpr double kLeastStepSeconds = 60;
constexpr double kMedianSteps = 20;
constexpr std::size_t kTimedSteps = 21;
// To say or hear why a rank fails: the process is about to end, and shall not take long.
constexpr double kFarewellSeconds = 1;

constexpr char kFactEnd = '\n', kValueBegin = '=';

std::string text_of(const std::vector<Fact>& facts) {
  std::string text;
  for (const Fact& fact : facts) text += fact.key + kValueBegin + fact.value + kFactEnd;
  return text;
}

std::vector<Fact> facts_in(const std::string& text) {
  std::vector<Fact> facts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t value = text.find(kValueBegin, at), end = text.find(kFactEnd, at);
    SMOE_INTERNAL_CHECK(value < end && end != std::string::npos, "ranks: bad facts");
    facts.push_back({text.substr(at, value - at), text.substr(value + 1, end - value - 1)});
    at = end + 1;
  }
  return facts;
}

/// The first fact in which `own` differs from rank 0's; empty when none does.
std::string difference(const std::vector<Fact>& first, const std::vector<Fact>& own, int rank) {
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

Ranks::Ranks(const RankEnvironment& place, std::int64_t timeout_s)
    : place_(place), timeout_s_(static_cast<double>(timeout_s)) {
  if (!are_several()) return;
  const Endpoint endpoint = parse_endpoint(place.endpoint, "rendezvous");
  const Deadline deadline = Deadline::in(start_timeout_s());
  if (place.is_host)
    server_.emplace(RendezvousServer::Options{endpoint.host, endpoint.port, place.job_id});
  // Keys of an earlier attempt of this job may still be there.
  store_.emplace(RendezvousStore::Options{endpoint, place.job_id, concat(place.restart_count, "/")},
                 deadline);
}

Ranks& Ranks::single() {
  static Ranks ranks;
  return ranks;
}

Ranks::~Ranks() {
  several_.reset();  // before the store that others may still ask
}

double Ranks::start_timeout_s() const {
  return timeout_s_ > 0 ? timeout_s_ : kStartSeconds;
}

void Ranks::join(const std::vector<Fact>& facts) {
  if (!are_several()) return;
  const Deadline deadline = Deadline::in(start_timeout_s());
  try {
    if (is_first()) store_->set("facts", text_of(facts), deadline);
    store_->set(concat("here/", rank()), "", deadline);
    const std::string of_first = store_->get("facts", deadline);
    check_not_refused(deadline);
    const std::string found = difference(facts_in(of_first), facts, rank());
    if (!found.empty() && store_->add("refusals", 1, deadline) == 1)
      store_->set("refusal", found, deadline);
    if (store_->add("compared", 1, deadline) == world_size())
      store_->set("all compared", "", deadline);
    store_->get("all compared", deadline);
  } catch (const SystemError&) {
    if (!deadline.has_passed()) throw;
    throw SystemError(
        concat("ranks: ", missing_ranks(), " did not come within ", deadline.total_s(), " s"));
  }
  check_not_refused(deadline);
  several_ = gloo_communicator(rank(), world_size(), *store_, start_timeout_s());
}

void Ranks::check_not_refused(const Deadline& deadline) {
  const std::optional<std::string> refusal = store_->find("refusal", deadline);
  if (refusal) throw UsageError(*refusal);
}

std::string Ranks::missing_ranks() {
  std::string missing;
  for (int rank = 0; rank < world_size(); ++rank)
    if (!store_->find(concat("here/", rank), Deadline::in(kFarewellSeconds)))
      missing += concat(missing.empty() ? "rank " : ", ", rank);
  return missing.empty() ? "some rank" : missing;
}

std::string Ranks::from_first(const std::string& text) {
  if (!are_several()) return text;
  auto size = static_cast<std::int64_t>(text.size());
  const Tensor length = Tensor::from<std::int64_t>({size}, {1}, Category::workspace);
  several_->broadcast(length, 0)->wait();
  size = length.to_vector<std::int64_t>()[0];
  std::vector<std::uint8_t> bytes(text.begin(), text.end());
  bytes.resize(size);
  const Tensor said = Tensor::from(bytes, {size}, Category::workspace);
  several_->broadcast(said, 0)->wait();
  bytes = said.to_vector<std::uint8_t>();
  return {bytes.begin(), bytes.end()};
}

int Ranks::agree_on_signal(int own) {
  if (!are_several()) return own;
  std::vector<std::int64_t> signals(world_size());
  signals[rank()] = own;
  const Tensor all = Tensor::from(signals, {world_size()}, Category::workspace);
  several_->all_reduce(all)->wait();
  for (const std::int64_t signal : all.to_vector<std::int64_t>())
    if (signal != 0) return static_cast<int>(signal);
  return 0;
}

void Ranks::step_took(double seconds) {
  if (!are_several()) return;
  if (step_times_.size() < kTimedSteps) step_times_.resize(num_steps_ + 1);
  step_times_[num_steps_++ % kTimedSteps] = seconds;
  if (timeout_s_ > 0 || num_steps_ < kTimedSteps) return;
  std::vector<double> times = step_times_;
  std::nth_element(times.begin(), times.begin() + kTimedSteps / 2, times.end());
  several_->set_timeout(std::max(kLeastStepSeconds, kMedianSteps * times[kTimedSteps / 2]));
}

void Ranks::expect_long_wait() {
  if (several_) several_->set_timeout(start_timeout_s());
}

std::string Ranks::fail(const std::string& message, bool is_communication) {
  if (!are_several()) return message;
  const std::string who = concat("rank ", rank(), step_ > 0 ? concat(", step ", step_) : "", ": ");
  std::string own = who + message;
  try {
    const Deadline deadline = Deadline::in(kFarewellSeconds);
    if (store_->add("failures", 1, deadline) == 1) {
      store_->set("failed_rank", std::to_string(rank()), deadline);
      store_->set("failure", own, deadline);
    } else if (is_communication) {
      own = concat(who, "stopping, because of ", store_->get("failure", deadline));
    }
    if (!several_) {  // the others may wait in join()
      if (store_->add("refusals", 1, deadline) == 1) store_->set("refusal", own, deadline);
      store_->set("facts", "", deadline);
      store_->set("all compared", "", deadline);
    }
    // Who serves the store stays until the others have asked it.
    while (server_ && store_->add("failures", 0, deadline) < world_size())
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  } catch (const Error&) {
    // Without a store each rank has its own view of what happened, which it prints.
  }
  if (several_) several_->cancel();
  return own;
}

}  // namespace smoe
