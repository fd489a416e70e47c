#include "train/profile/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>

#include "train/profile/communication.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

constexpr double kShortestGapMs = 0.0005;
constexpr std::size_t kMaxGaps = 20;

bool is_attention(std::string_view kernel) {
  return kernel.find("attention") != std::string_view::npos;
}
// Not those whose bytes take far longer than their FLOP, such as a norm's that also multiplies by
// the router's weights.
bool is_gemm(const Cost& cost, const Roofline& roofline) {
  constexpr double kFar = 16;
  return cost.flops > 0 && kFar * cost.flops >= cost.bytes * roofline.ridge();
}
bool is_expert_kernel(std::string_view kernel) {
  return kernel.starts_with("expert_") || kernel == "grouped_gemm";
}

template <class Item, class Key>
void sort_descending(std::vector<Item>& items, Key key) {
  std::stable_sort(items.begin(), items.end(),
                   [&](const Item& a, const Item& b) { return key(a) > key(b); });
}

std::string text_of(const char* text) {
  return text ? text : "";
}

std::string gap_end(const LaunchSample& launch) {
  const std::string place = describe(launch.place);
  return fmt::format("{} ({})", launch.name, place);
}

class Analysis {
 public:
  Analysis(const Recording& recording, Profile& profile)
      : r_(recording),
        p_(profile),
        operations_(operations_of(recording)),
        per_step_(1.0 / static_cast<double>(recording.steps.size())) {}

  void run() {
    add_times();
    add_groups();
    add_device_kernels();
    analyze_communication(r_, p_);
    add_gaps();
    add_waits();
    add_lead();
  }

 private:
  void add_times() {
    const double window = r_.steps.back().end - r_.steps.front().begin;
    p_.step_ms = window * per_step_;
    p_.launch_ms = r_.launch_ms;
    double waited = 0;
    for (const WaitSample& wait : r_.waits) waited += wait.end - wait.begin;
    const double host = r_.steps.back().host_end - r_.steps.front().host_begin;
    p_.host_ms = (host - waited) * per_step_;
    p_.phase_ms.assign(kNumPhases, 0);
    for (const RangeSample& range : r_.ranges)
      if (range.place.phase == Phase::data && !range.place.op)
        p_.data_ms += (range.end - range.begin) * per_step_;
  }

  void add_groups() {
    std::map<std::tuple<Phase, std::string, std::string, std::string>, OpGroup> ops;
    std::map<int, LayerGroup> layers;
    std::map<int, MicroBatchTimes> micro_batches;
    p_.gemms.name = "GEMMs";
    p_.attention.name = "attention";
    p_.memory_bound.name = "memory-bound kernels";
    for (const LaunchSample& launch : r_.launches) {
      const Place& place = launch.place;
      p_.busy_ms += launch.busy * per_step_;
      p_.measured.flops += launch.cost.flops * per_step_;
      p_.measured.bytes += launch.cost.bytes * per_step_;
      p_.phase_ms[static_cast<int>(place.phase)] += launch.busy * per_step_;
      Group& kind = is_attention(launch.name)           ? p_.attention
                    : is_gemm(launch.cost, p_.roofline) ? p_.gemms
                                                        : p_.memory_bound;
      kind.add(launch, p_.roofline, per_step_);
      OpGroup& op = ops[{place.phase, text_of(place.op), text_of(place.part), launch.name}];
      if (op.kernel.empty()) {
        op = {.op = text_of(place.op),
              .part = text_of(place.part),
              .kernel = launch.name,
              .phase = place.phase,
              .group = {.name = launch.name}};
      }
      op.group.add(launch, p_.roofline, per_step_);
      if (is_beside_operation(launch)) op.beside.add(launch, p_.roofline, per_step_);
      if (place.layer >= 0) add_to_layer(launch, layers[place.layer]);
      if (place.micro_batch >= 0) {
        MicroBatchTimes& times = micro_batches[place.micro_batch];
        (place.phase == Phase::forward ? times.forward_ms : times.backward_ms) +=
            launch.busy * per_step_;
      }
    }
    for (auto& [key, op] : ops) p_.ops.push_back(std::move(op));
    sort_descending(p_.ops, [](const OpGroup& op) { return op.group.ms; });
    for (auto& [layer, group] : layers) {
      group.layer = layer;
      p_.layers.push_back(group);
    }
    for (auto& [index, times] : micro_batches) {
      times.index = index;
      p_.micro_batches.push_back(times);
    }
  }

  bool is_beside_operation(const LaunchSample& launch) const {
    const double overlap = operations_.overlap(launch.begin, launch.end);
    return overlap > 0 && overlap >= (launch.end - launch.begin) / 2;
  }

  void add_to_layer(const LaunchSample& launch, LayerGroup& layer) const {
    const double ms = launch.busy * per_step_;
    (launch.place.phase == Phase::backward    ? layer.backward_ms
     : launch.place.phase == Phase::recompute ? layer.recompute_ms
                                              : layer.forward_ms) += ms;
    if (is_expert_kernel(launch.name)) layer.experts_ms += ms;
  }

  void add_device_kernels() {
    std::map<std::string, Group> kernels;
    for (const DeviceSample& sample : r_.device) {
      Group& group = kernels[sample.name];
      group.name = sample.name;
      group.launches += per_step_;
      group.ms += sample.busy * per_step_;
      p_.overlap_ms += (sample.end - sample.begin - sample.busy) * per_step_;
    }
    for (auto& [name, group] : kernels) p_.kernels.push_back(std::move(group));
    sort_descending(p_.kernels, [](const Group& group) { return group.ms; });
  }

  // Between launches in order of time; work on other streams may fill them.
  void add_gaps() {
    std::vector<const LaunchSample*> order;
    for (const LaunchSample& launch : r_.launches) order.push_back(&launch);
    std::stable_sort(order.begin(), order.end(),
                     [](const auto* a, const auto* b) { return a->begin < b->begin; });
    double end = r_.steps.front().begin;
    const LaunchSample* last = nullptr;
    for (const LaunchSample* launch : order) {
      if (launch->begin - end > kShortestGapMs) add_gap(last, *launch, end);
      if (launch->end >= end) {
        end = launch->end;
        last = launch;
      }
    }
    p_.gap_ms = std::max(0.0, p_.step_ms - p_.busy_ms);
    sort_descending(p_.gaps, [](const Gap& gap) { return gap.ms; });
    if (p_.gaps.size() > kMaxGaps) p_.gaps.resize(kMaxGaps);
  }

  void add_gap(const LaunchSample* before, const LaunchSample& after, double begin) {
    const Gap gap{.step = after.step,
                  .ms = after.begin - begin,
                  .begin = begin,
                  .before = before ? gap_end(*before) : "start of the window",
                  .after = gap_end(after),
                  .is_host_late = after.host_end > begin,
                  .operation_ms = operations_.overlap(begin, after.begin)};
    if (gap.is_host_late) p_.host_late_ms += (gap.ms - gap.operation_ms) * per_step_;
    p_.gaps.push_back(gap);
  }

  // How long launches are queued before they begin.
  void add_lead() {
    std::vector<double> leads;
    for (const LaunchSample& launch : r_.launches)
      leads.push_back(std::max(0.0, launch.begin - launch.host_end));
    if (leads.empty()) return;
    p_.max_ahead_ms = *std::max_element(leads.begin(), leads.end());
    p_.ahead_ms = median(std::move(leads));
  }

  void add_waits() {
    std::map<std::string, WaitGroup> groups;
    for (const WaitSample& wait : r_.waits) {
      WaitGroup& group = groups[describe(wait.place)];
      group.place = describe(wait.place);
      group.waits += per_step_;
      group.ms += (wait.end - wait.begin) * per_step_;
    }
    for (auto& [place, group] : groups) p_.waits.push_back(std::move(group));
    sort_descending(p_.waits, [](const WaitGroup& group) { return group.ms; });
  }

  const Recording& r_;
  Profile& p_;
  const IntervalUnion operations_;
  double per_step_;
};

// ---- advice ------------------------------------------------------------------------------------

std::string title_of(const OpGroup& op) {
  std::string title = op.kernel;
  if (!op.op.empty()) title += " in " + op.op;
  if (!op.part.empty()) title += " " + op.part;
  return fmt::format("{} ({})", title, name_of(op.phase));
}

// Of unequal loads, which are named where they cost time or are far from equal: grouped GEMMs may
// take no longer with them, but the model learns with few of its experts.
void add_routing_advice(const RoutingCost& routing, double worth, std::vector<Advice>& advice) {
  constexpr double kFarFromEqual = 3;
  const auto worst = std::max_element(routing.imbalance.begin(), routing.imbalance.end());
  const double cost = std::max(0.0, routing.experts_ms - routing.balanced_ms);
  if (worst == routing.imbalance.end() || (cost <= worth && *worst < kFarFromEqual)) return;
  advice.push_back(
      {cost,
       fmt::format("expert loads are unequal, in the worst layer {:.1f} times the mean: raise "
                   "model.router.balance_loss, or model.router.selection_bias_rate with the "
                   "sigmoid score",
                   *worst)});
}

}  // namespace

void Group::add(const LaunchSample& launch, const Roofline& roofline, double per_step) {
  launches += per_step;
  ms += launch.busy * per_step;
  host_ms += (launch.host_end - launch.host_begin) * per_step;
  cost += {launch.cost.flops * per_step, launch.cost.bytes * per_step};
  least_ms += roofline.least_ms(launch.cost) * per_step;
}

// Relative to the roofline, since launches of one kernel differ in size.
double OpGroup::slowdown() const {
  const double alone_ms = group.ms - beside.ms, alone_least_ms = group.least_ms - beside.least_ms;
  if (beside.ms <= 0 || alone_ms <= 0 || alone_least_ms <= 0 || beside.least_ms <= 0) return 1;
  return (beside.ms / beside.least_ms) / (alone_ms / alone_least_ms);
}

void analyze(const Recording& recording, Profile& profile) {
  Analysis(recording, profile).run();
}

void advise(Profile& p) {
  constexpr double kGood = 0.9, kWorthMs = 0.002;  // of the roofline; of the step
  const double worth = kWorthMs * p.step_ms;
  const auto add = [&](double ms, std::string text) {
    if (ms > worth) p.advice.push_back({ms, std::move(text)});
  };
  for (const OpGroup& op : p.ops)
    if (op.group.roof_share() < kGood)
      add(op.group.excess_ms(), fmt::format("{} runs at {:.0f} % of the roofline", title_of(op),
                                            100 * op.group.roof_share()));
  constexpr double kSlow = 1.1;
  for (const OpGroup& op : p.ops)
    if (op.slowdown() > kSlow)
      add(op.slowdown_ms(),
          fmt::format("{} takes {:.2f} times as long beside communication{}", title_of(op),
                      op.slowdown(),
                      p.mode == "clock" ? ""
                                        : ", whose kernels hold SMs that its tiles wait for: "
                                          "parallel.transport=copy needs none"));
  const auto late = std::find_if(p.gaps.begin(), p.gaps.end(), [](const Gap& gap) {
    return gap.is_host_late && !gap.is_for_ranks();
  });
  if (p.host_late_ms > worth)
    add(p.host_late_ms, fmt::format("{}; the longest time before {}",
                                    p.mode == "clock" ? "the host works between kernels"
                                                      : "the device waits for the host",
                                    late == p.gaps.end() ? "a step" : late->after));
  if (p.routing) add_routing_advice(*p.routing, worth, p.advice);
  const auto last =
      std::max_element(p.communication.begin(), p.communication.end(),
                       [](const auto& a, const auto& b) { return a.exposed_ms < b.exposed_ms; });
  if (last != p.communication.end())
    add(p.exposed_ms,
        fmt::format("communication that no kernel hides, most of it in the {} of {}: more "
                    "micro-batches per step{}",
                    last->operation, name_of(last->phase),
                    last->late_ms > last->ms / 2
                        ? fmt::format("; rank {} is the last to be ready", last->last_rank)
                        : ""));
  add(p.data_ms, "reading batches, on the host: a faster disk, or more memory for its cache");
  const double recomputed = p.phase_ms[static_cast<int>(Phase::recompute)];
  add(recomputed, "recomputing activations: train.recompute=none if memory allows");
  sort_descending(p.advice, [](const Advice& advice) { return advice.ms; });
}

}  // namespace smoe
