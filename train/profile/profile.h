// Profile: where the time and the memory of a training step go. Times are milliseconds per step,
// costs are per step too, unless stated otherwise.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "train/config/config.h"
#include "train/plan/communication_cost.h"
#include "train/plan/memory_plan.h"
#include "train/profile/memory_timeline.h"
#include "train/profile/power.h"
#include "train/profile/recording.h"
#include "train/profile/roofline.h"

namespace smoe {

/// A part of a step: its launches, or those of one layer.
struct Group {
  std::string name{};
  double launches = 0;
  double ms = 0;
  double host_ms = 0;  ///< of the host, in the calls
  Cost cost{};
  double least_ms = 0;  ///< by the roofline, launch by launch

  void add(const LaunchSample& launch, const Roofline& roofline, double per_step);
  /// Share of the roofline: 1 is as fast as this device can.
  double roof_share() const { return ms > 0 ? least_ms / ms : 0; }
  /// What a kernel at the roofline would save.
  double excess_ms() const { return ms - least_ms; }
};

/// The launches of one kernel in one op.
struct OpGroup {
  std::string op{}, part{}, kernel{};
  Phase phase = Phase::none;
  Group group{};
  Group beside{};  ///< of them, those at least half of whose time an operation among the ranks ran

  /// How many times as long the kernel takes beside such operations, for the same work; 1 if it is
  /// not known.
  double slowdown() const;
  /// What that costs, in milliseconds.
  double slowdown_ms() const { return beside.ms - beside.ms / slowdown(); }
};

/// The launches of one layer.
struct LayerGroup {
  int layer = 0;
  double forward_ms = 0, backward_ms = 0, recompute_ms = 0, experts_ms = 0;
};

/// The launches of one micro-batch.
struct MicroBatchTimes {
  int index = 0;
  double forward_ms = 0, backward_ms = 0;  ///< backward with recompute
};

/// Time in which the device ran no kernel.
struct Gap {
  int step = 0;
  double ms = 0;
  double begin = 0;
  std::string before, after;  ///< the kernels around it
  bool is_host_late = false;  ///< the device was idle when the host launched `after`
  double operation_ms = 0;    ///< of it, in which an operation among the ranks ran

  bool is_for_ranks() const { return operation_ms > ms / 2; }
};

/// Waits of the host for the device, at one place.
struct WaitGroup {
  std::string place;
  double waits = 0;  ///< per step
  double ms = 0;
};

/// What a step loses to unequal loads of experts.
struct RoutingCost {
  std::vector<double> imbalance{};  ///< by layer: largest over mean load
  double tile_rows = 0;             ///< rows of an expert GEMM's tile; 0: unknown
  double tile_fill = 0;    ///< routed rows over rows of the tiles that hold them, all layers
  double experts_ms = 0;   ///< expert GEMMs
  double balanced_ms = 0;  ///< the same at equal loads, from forward passes with both loads

  /// Of the expert GEMMs, for the rows of tiles that hold none.
  double padding_ms() const { return tile_rows > 0 ? experts_ms * (1 - tile_fill) : 0; }
};

/// A recommendation: time that could be had, and how.
struct Advice {
  double ms = 0;
  std::string text;
};

/// A setting that lowers the peak of memory.
struct MemoryOption {
  std::string setting;  ///< "train.recompute=experts"
  std::int64_t peak_bytes = 0;
  double extra_ms = 0;  ///< estimated from the measured kernels
};

/// The operation among the ranks that is a step's n-th: its mean over the window's steps.
struct CommunicationGroup {
  std::string operation{};  ///< "all_reduce"
  Phase phase = Phase::none;
  std::int64_t bytes = 0;             ///< of its tensors
  double ready_ms = 0, begin_ms = 0;  ///< since the step's begin
  double ms = 0;
  double exposed_ms = 0;   ///< of it, without a kernel
  double response_ms = 0;  ///< from ready to its end
  double bytes_per_s = 0;  ///< that one rank sends
  double late_ms = 0;      ///< from the first rank that was ready to the last
  int last_rank = -1;      ///< -1: not known
};

/// Part of the step of one rank.
struct RankTimes {
  int rank = 0;
  double step_ms = 0, busy_ms = 0, communication_ms = 0, exposed_ms = 0, data_ms = 0;
  std::int64_t peak_bytes = 0;

  /// Share of the communication beside which kernels ran; 1 without communication.
  double hidden_share() const {
    return communication_ms > 0 ? 1 - exposed_ms / communication_ms : 1;
  }
};

struct Profile {
  std::string run, version, time, device, mode, mode_note;  ///< note: why not by CUPTI
  std::int64_t num_steps = 0, num_warmup = 0, tokens_per_step = 0;
  int num_ranks = 1;
  Roofline roofline;
  double step_ms = 0;  ///< in the window, from the begin of a step to that of the next
  double before_ms = 0, after_ms = 0;  ///< steps before and after the window
  double launch_ms = 0;                ///< that events show for a launch of nothing; not in busy_ms
  double busy_ms = 0;                  ///< kernels
  double overlap_ms = 0;               ///< in which two kernels ran, by CUPTI; counted once
  double gap_ms = 0;                   ///< step_ms - busy_ms
  double host_ms = 0;                  ///< host time in launches and between, without waits
  std::vector<double> phase_ms;        ///< kernels by Phase
  double data_ms = 0;                  ///< host time in reading batches
  Group gemms, attention, memory_bound;
  std::vector<OpGroup> ops;    ///< longest first
  std::vector<Group> kernels;  ///< CUDA kernels by CUPTI, longest first; no cost
  std::vector<LayerGroup> layers;
  std::vector<MicroBatchTimes> micro_batches;  ///< in order
  std::vector<Gap> gaps;                       ///< longest first, at most 20
  double communication_ms = 0;                 ///< in which operations among the ranks ran
  double exposed_ms = 0;                       ///< of it, without a kernel
  double host_late_ms = 0;                ///< in other gaps in which the device waited for the host
  double ahead_ms = 0, max_ahead_ms = 0;  ///< from a launch to its begin on a GPU: median, most
  std::vector<WaitGroup> waits;           ///< longest first
  MemoryTimeline memory;
  MemoryPlan plan;
  std::vector<MemoryOption> memory_options;
  Cost planned;  ///< of a step's kernels
  Cost measured;
  std::int64_t device_used_bytes = 0, device_total_bytes = 0;  ///< of a GPU, between steps
  std::int64_t beside_tensors_bytes = 0;  ///< of it: CUDA, its libraries, NCCL, other processes
  std::int64_t pool_peak_bytes = 0;       ///< that tensors came from, unused parts included
  std::optional<RoutingCost> routing;
  PowerReport power;
  std::string transport;                          ///< among the ranks; empty: one rank
  CommunicationCost planned_communication;        ///< among GPUs
  std::vector<CommunicationGroup> communication;  ///< in order of their begins
  std::vector<RankTimes> ranks;                   ///< when there are several
  std::vector<Advice> advice;                     ///< largest first
};

/// Fills in what follows from a recording: times, gaps, waits, groups.
void analyze(const Recording& recording, Profile& profile);
/// Fills in the advice that follows from the rest.
void advise(Profile& profile);

}  // namespace smoe
