// What a profiler sees of a thread: where in a training step it is, the kernels that it launches,
// and its waits for the device. Without a profiler a scope costs a few thread-local writes and a
// kernel launch one thread-local read.
#pragma once
#include <cstdint>
#include <utility>

#include "core/base/launch.h"

namespace smoe {

/// The work that one kernel launch cannot avoid.
struct Cost {
  double flops = 0;  ///< of matrix multiplications and attention, two per multiply-add
  double bytes = 0;  ///< each operand read once and each result written once

  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
};

/// The parts of a training step.
enum class Phase : std::uint8_t {
  none,
  data,     ///< reading a batch
  forward,  ///< also its losses
  backward,
  recompute,  ///< the forward that backward repeats
  reduce,     ///< waiting for the gradient's reduction over ranks
  clip,       ///< the gradient norm
  losses,     ///< reading the losses
  optimizer,
};
inline constexpr int kNumPhases = 9;

constexpr const char* name_of(Phase phase) {
  constexpr const char* kNames[kNumPhases] = {"other",  "data", "forward", "backward", "recompute",
                                              "reduce", "clip", "losses",  "optimizer"};
  return kNames[static_cast<int>(phase)];
}

/// Where in a training step a thread is. The strings live as long as the process.
struct Place {
  Phase phase = Phase::none;
  std::int16_t layer = -1;        ///< -1: in none
  std::int32_t micro_batch = -1;  ///< -1: in none
  const char* op = nullptr;    ///< null: in none, or in a forward op, which Tape names at its end
  const char* part = nullptr;  ///< what the op belongs to, "self_attn.qkv_proj"; null: unknown

  friend bool operator==(const Place&, const Place&) = default;
};

/// Receives what the thread does that installed it. Calls nest like scopes.
class Instrument {
 public:
  virtual ~Instrument() = default;
  /// Around the call that queues a kernel, or runs it on the CPU.
  virtual void begin_kernel(const Launch& launch, const char* name, const Cost& cost) = 0;
  virtual void end_kernel(const Launch& launch) = 0;
  /// A forward op ends; the kernels launched since the last op or change of place are its own.
  virtual void end_op(const char* op, const char* part) = 0;
  /// Around a scope of the step.
  virtual void begin_place(const Place& place) = 0;
  virtual void end_place() = 0;
  /// Around a wait of the host for the device.
  virtual void begin_wait() = 0;
  virtual void end_wait() = 0;
};

namespace thread_state {
inline constinit thread_local Instrument* instrument = nullptr;
inline constinit thread_local Place place{};
inline constinit thread_local std::uint64_t place_changes = 0;
}  // namespace thread_state

/// The thread's instrument, or null.
inline Instrument* current_instrument() {
  return thread_state::instrument;
}

/// Where the thread is.
inline const Place& current_place() {
  return thread_state::place;
}
/// Counts the thread's changes of place: what was done at another count was done elsewhere.
inline std::uint64_t num_place_changes() {
  return thread_state::place_changes;
}

/// Installs an instrument on this thread for a scope.
class InstrumentScope {
 public:
  explicit InstrumentScope(Instrument& instrument)
      : previous_(std::exchange(thread_state::instrument, &instrument)) {}
  ~InstrumentScope() { thread_state::instrument = previous_; }
  InstrumentScope(const InstrumentScope&) = delete;
  InstrumentScope& operator=(const InstrumentScope&) = delete;

 private:
  Instrument* previous_;
};

/// Moves the thread to a place for a scope.
class PlaceScope {
 public:
  explicit PlaceScope(const Place& place)
      : previous_(std::exchange(thread_state::place, place)),
        instrument_(thread_state::instrument) {
    ++thread_state::place_changes;
    if (instrument_) instrument_->begin_place(place);
  }
  /// To another phase of the same layer and micro-batch, outside any op.
  explicit PlaceScope(Phase phase)
      : PlaceScope({.phase = phase,
                    .layer = current_place().layer,
                    .micro_batch = current_place().micro_batch}) {}
  ~PlaceScope() {
    if (instrument_) instrument_->end_place();
    ++thread_state::place_changes;
    thread_state::place = previous_;
  }
  PlaceScope(const PlaceScope&) = delete;
  PlaceScope& operator=(const PlaceScope&) = delete;

 private:
  Place previous_;
  Instrument* instrument_;
};

/// The current place in another layer.
inline Place place_in_layer(std::int64_t layer) {
  Place place = current_place();
  place.layer = static_cast<std::int16_t>(layer);
  return place;
}

/// Tells the instrument of a wait for the device.
class WaitScope {
 public:
  WaitScope() : instrument_(thread_state::instrument) {
    if (instrument_) instrument_->begin_wait();
  }
  ~WaitScope() {
    if (instrument_) instrument_->end_wait();
  }
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

 private:
  Instrument* instrument_;
};

}  // namespace smoe
