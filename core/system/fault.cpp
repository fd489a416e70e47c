#include "core/system/fault.h"

#ifdef SMOE_FAULTS

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::string_view kAnySite = "*";

struct Action {
  std::string_view name;
  int signal = 0;
  Fault fault{};
  std::chrono::milliseconds delay{0};
};
constexpr Action kActions[] = {
    {"kill", SIGKILL},
    {"stop", SIGSTOP},
    {"slow", 0, {}, std::chrono::milliseconds(1500)},
    {"short", 0, {.is_short = true}},
    {"nan", 0, {.is_nan = true}},
    {"EINTR", 0, {EINTR}},
    {"EIO", 0, {EIO}},
    {"ENOSPC", 0, {ENOSPC}},
    {"EDQUOT", 0, {EDQUOT}},
    {"EACCES", 0, {EACCES}},
    {"EROFS", 0, {EROFS}},
    {"ESTALE", 0, {ESTALE}},
    {"EMFILE", 0, {EMFILE}},
    {"ENOMEM", 0, {ENOMEM}},
    {"EAGAIN", 0, {EAGAIN}},
    {"EINVAL", 0, {EINVAL}},
    {"ENOSYS", 0, {ENOSYS}},
    {"ENOLCK", 0, {ENOLCK}},
    {"EOPNOTSUPP", 0, {EOPNOTSUPP}},
    {"ETIMEDOUT", 0, {ETIMEDOUT}},
    {"ECONNRESET", 0, {ECONNRESET}},
};

struct PlannedFault {
  std::string site;
  std::int64_t first = 0;
  bool is_lasting = false;
  Action action;

  bool concerns(std::string_view name) const { return site == kAnySite || site == name; }
};

PlannedFault parse_fault(std::string_view text) {
  const auto refuse = [&] {
    throw UsageError(
        concat("SMOE_FAULT: must be site:k:action[,...], k from 1 on; got '", text, "'"));
  };
  const std::size_t first = text.find(':'), second = text.find(':', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos) refuse();
  PlannedFault fault;
  fault.site = text.substr(0, first);
  std::string_view number = text.substr(first + 1, second - first - 1);
  fault.is_lasting = number.ends_with('+');
  if (fault.is_lasting) number.remove_suffix(1);
  const char* const end = number.data() + number.size();
  const auto [rest, error] = std::from_chars(number.data(), end, fault.first);
  if (fault.site.empty() || error != std::errc() || rest != end || fault.first < 1) refuse();
  for (const Action& action : kActions)
    if (action.name == text.substr(second + 1)) fault.action = action;
  if (fault.action.name.empty()) refuse();
  return fault;
}

std::vector<PlannedFault> parse_faults(std::string_view text) {
  std::vector<PlannedFault> faults;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    faults.push_back(parse_fault(text.substr(0, comma)));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return faults;
}

/// The requested faults and the calls counted so far.
class FaultPlan {
 public:
  static FaultPlan& get() {
    static FaultPlan plan;
    return plan;
  }

  void replace(std::vector<PlannedFault> faults) {
    const std::lock_guard lock(mutex_);
    faults_ = std::move(faults);
    calls_.clear();
  }

  Action call(std::string_view site) {
    const std::lock_guard lock(mutex_);
    const auto count = [&](std::string_view name) {
      const auto found = calls_.find(name);
      return found == calls_.end() ? (calls_[std::string(name)] = 1) : ++found->second;
    };
    const std::int64_t of_site = count(site), of_all = count(kAnySite);
    for (const PlannedFault& fault : faults_) {
      if (!fault.concerns(site)) continue;
      const std::int64_t call = fault.site == kAnySite ? of_all : of_site;
      if (call == fault.first || (fault.is_lasting && call > fault.first)) return fault.action;
    }
    return {};
  }

  std::int64_t calls(std::string_view site) {
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find(site);
    return found == calls_.end() ? 0 : found->second;
  }

 private:
  FaultPlan() {
    if (const char* text = std::getenv("SMOE_FAULT")) faults_ = parse_faults(text);
  }

  std::mutex mutex_;
  std::vector<PlannedFault> faults_;
  std::map<std::string, std::int64_t, std::less<>> calls_;
};

}  // namespace

Fault fault_point(std::string_view site) {
  const Action action = FaultPlan::get().call(site);
  // A signal that a process sends to itself is delivered before kill() returns.
  if (action.signal) ::kill(::getpid(), action.signal);
  if (action.delay.count() > 0) std::this_thread::sleep_for(action.delay);
  return action.fault;
}

FaultScope::FaultScope(std::string_view faults) {
  FaultPlan::get().replace(parse_faults(faults));
}

FaultScope::~FaultScope() {
  FaultPlan::get().replace({});
}

std::int64_t FaultScope::calls(std::string_view site) const {
  return FaultPlan::get().calls(site);
}

}  // namespace smoe

#endif
