// Communicator over a TcpMesh, whose reductions add in rank order.
// One thread runs the operations in order.
//
//   reduce_scatter  each rank sends every other rank that rank's shard, and adds in rank order
//   all_gather      each rank sends its shard to every other rank
//   all_reduce      reduce_scatter, then all_gather; for small tensors, an exchange of whole
//   tensors
#include "core/distributed/tcp_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/distributed/ordered_sum.h"
#include "core/distributed/tcp_mesh.h"
#include "core/system/block_signals.h"

namespace smoe {
namespace {

// Bytes exchanged with each rank at a time, which bounds the receive buffers.
constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;
// Up to this size, latency rather than bandwidth determines the time of an exchange.
constexpr std::int64_t kSmallBytes = std::int64_t{16} << 10;
constexpr const char* kBarrier = "barrier";

/// An operation, from submission to completion.
class Operation final : public Collective {
 public:
  Operation(const char* name, std::int64_t bytes, std::function<void()> run)
      : times_{.name = name, .bytes = bytes, .place = current_place(), .start_ns = now_ns()},
        run_(std::move(run)) {
    times_.ready_ns = times_.start_ns;
  }

  const char* name() const { return times_.name; }
  /// After wait().
  const CollectiveTimes& times() const { return times_; }
  void run() {
    times_.begin_ns = now_ns();
    std::exception_ptr error;
    try {
      run_();
    } catch (...) {
      error = std::current_exception();
    }
    finish(error);
  }
  void finish(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    times_.end_ns = now_ns();
    error_ = error;
    is_done_ = true;
    run_ = nullptr;  // releases the tensor
    done_.notify_all();
  }
  bool is_done() {
    const std::lock_guard lock(mutex_);
    return is_done_;
  }
  bool failed() {
    const std::lock_guard lock(mutex_);
    return error_ != nullptr;
  }
  void wait() override {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return is_done_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  CollectiveTimes times_;
  std::function<void()> run_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;
  std::exception_ptr error_;
};

class TcpCommunicator final : public Communicator {
 public:
  TcpCommunicator(int rank, int world_size, RendezvousStore& store, double timeout_s)
      : rank_(rank), world_size_(world_size), timeout_s_(timeout_s) {
    const BlockSignals blocked;
    mesh_ = std::make_unique<TcpMesh>(rank, world_size, store, timeout_s);
    thread_ = std::thread([this] { run(); });
  }

  ~TcpCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      // Who waited for an operation may be here before the thread is: that it is done counts.
      if ((running_ && !running_->is_done()) || !queue_.empty())
        mesh_->stop("the communicator was closed");
      is_closing_ = true;
    }
    mesh_->interrupt();
    thread_.join();
  }

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  CollectiveHandle all_reduce(const Tensor& values) override {
    const OrderedSum add = check("all_reduce", values, true);
    return queue("all_reduce", values.bytes(), [=, this] {
      if (values.bytes() <= kSmallBytes) return all_reduce_small(values, add);
      reduce_scatter_chunks(values, add);
      gather_shards(values);
    });
  }
  CollectiveHandle reduce_scatter(const Tensor& values) override {
    const OrderedSum add = check("reduce_scatter", values, true);
    return queue("reduce_scatter", values.bytes(),
                 [=, this] { reduce_scatter_chunks(values, add); });
  }
  CollectiveHandle all_gather(const Tensor& values) override {
    check("all_gather", values, false);
    return queue("all_gather", values.bytes(), [=, this] { gather_shards(values); });
  }
  CollectiveHandle broadcast(const Tensor& values, int root) override {
    return broadcast_each({{values, root}});
  }
  CollectiveHandle broadcast_each(const std::vector<RootedTensor>& tensors) override {
    std::int64_t bytes = 0;
    for (const auto& [values, root] : tensors) {
      check("broadcast", values, false);
      bytes += values.bytes();
      SMOE_CHECK(root >= 0 && root < world_size_, "broadcast: root must be a rank; got ", root,
                 " of ", world_size_);
    }
    return queue("broadcast", bytes, [=, this] {
      for (const auto& [values, root] : tensors) {
        if (values.bytes() <= kSmallBytes) {
          send_all(values, root);
        } else {
          scatter_shards(values, root);
          gather_shards(values);
        }
      }
    });
  }
  CollectiveHandle barrier() override {
    return queue(kBarrier, 0, [this] {
      char own = 0;
      std::vector<char> others(world_size_);
      exchange(
          [&](int) {
            return Span{&own, 1};
          },
          [&](int rank) {
            return Span{&others[rank], 1};
          });
    });
  }

  void set_timeout(double seconds) override {
    const std::lock_guard lock(mutex_);
    timeout_s_ = seconds;
  }

  void cancel() override { mesh_->stop("cancelled"); }

  void start_timing() override {
    const std::lock_guard lock(mutex_);
    is_timing_ = true;
  }
  std::vector<CollectiveTimes> stop_timing() override {
    std::vector<std::shared_ptr<Operation>> operations;
    {
      const std::lock_guard lock(mutex_);
      is_timing_ = false;
      operations.swap(timed_);
    }
    std::vector<CollectiveTimes> times;
    for (const auto& operation : operations) {
      operation->wait();
      times.push_back(operation->times());
    }
    return times;
  }

  std::string failure() const override { return mesh_->stop_reason(); }
  std::string description() const override { return "TCP"; }

 private:
  using Span = ByteSpan;
  using SpanOf = TcpMesh::SpanOf;

  OrderedSum check(const char* op, const Tensor& values, bool adds) const {
    SMOE_CHECK(values.device().type == DeviceType::cpu, op,
               ": tensors must be on the CPU to be sent over TCP; got one on ",
               to_string(values.device()));
    return adds ? ordered_sum_for(op, values.dtype()) : nullptr;
  }

  CollectiveHandle queue(const char* name, std::int64_t bytes, std::function<void()> run) {
    auto operation = std::make_shared<Operation>(name, bytes, std::move(run));
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(operation);
      if (is_timing_) timed_.push_back(operation);
    }
    mesh_->interrupt();
    return operation;
  }

  void run() {
    std::unique_lock lock(mutex_);
    bool may_leave = false;  // no other rank still needs this one
    for (;;) {
      while (!is_closing_ && queue_.empty()) {
        lock.unlock();
        mesh_->wait();
        lock.lock();
      }
      if (queue_.empty()) break;
      const std::shared_ptr<Operation> operation = queue_.front();
      queue_.pop_front();
      running_ = operation;
      op_ = operation->name();
      deadline_ = Deadline::in(timeout_s_);
      lock.unlock();
      operation->run();
      lock.lock();
      running_ = nullptr;
      if (operation->failed()) mesh_->stop("an earlier operation failed");
      may_leave = operation->name() == kBarrier && !operation->failed();
    }
    lock.unlock();
    if (may_leave) mesh_->leave();
  }

  void exchange(const SpanOf& send, const SpanOf& receive) {
    mesh_->exchange(op_, deadline_, send, receive);
  }

  static Span bytes_of(const Tensor& values, std::int64_t begin, std::int64_t end) {
    const std::int64_t size = size_of(values.dtype());
    return {static_cast<char*>(values.data()) + begin * size, (end - begin) * size};
  }
  Span shard_bytes(const Tensor& values, int rank) const {
    const Range shard = shard_range(values.numel(), rank, world_size_);
    return bytes_of(values, shard.begin, shard.end);
  }

  /// Receive buffers of `bytes` bytes per rank.
  char* receive_buffers(std::int64_t bytes) {
    received_.resize(std::max(received_.size(), static_cast<std::size_t>(bytes * world_size_)));
    return received_.data();
  }

  void all_reduce_small(const Tensor& values, OrderedSum add) {
    const Span own{static_cast<char*>(values.data()), values.bytes()};
    add_exchanged(own, values.dtype(), add, [&](int) { return own; });
  }

  void reduce_scatter_chunks(const Tensor& values, OrderedSum add) {
    const std::int64_t step = kChunkBytes / size_of(values.dtype());
    const std::int64_t largest = shard_range(values.numel(), 0, world_size_).numel();
    for (std::int64_t at = 0; at < largest; at += step) {
      const auto chunk_of = [&](int rank) {
        const Range shard = shard_range(values.numel(), rank, world_size_);
        const std::int64_t begin = std::min(shard.begin + at, shard.end);
        return bytes_of(values, begin, std::min(begin + step, shard.end));
      };
      add_exchanged(chunk_of(rank_), values.dtype(), add, chunk_of);
    }
  }

  /// Sends each rank its span, and replaces `own` by its sum over the ranks.
  void add_exchanged(Span own, DType dtype, OrderedSum add, const SpanOf& send) {
    char* const received = receive_buffers(own.bytes);
    const auto place_of = [&](int rank) { return Span{received + rank * own.bytes, own.bytes}; };
    exchange(send, place_of);
    std::vector<const void*> terms;
    for (int rank = 0; rank < world_size_; ++rank)
      terms.push_back(rank == rank_ ? own.data : place_of(rank).data);
    add(terms, own.bytes / size_of(dtype), own.data);
  }

  void gather_shards(const Tensor& values) {
    exchange([&](int) { return shard_bytes(values, rank_); },
             [&](int rank) { return shard_bytes(values, rank); });
  }

  void send_all(const Tensor& values, int root) {
    const Span all{static_cast<char*>(values.data()), values.bytes()};
    exchange([&](int) { return rank_ == root ? all : Span(); },
             [&](int rank) { return rank == root ? all : Span(); });
  }

  void scatter_shards(const Tensor& values, int root) {
    exchange([&](int rank) { return rank_ == root ? shard_bytes(values, rank) : Span(); },
             [&](int rank) { return rank == root ? shard_bytes(values, rank_) : Span(); });
  }

  const int rank_, world_size_;
  std::unique_ptr<TcpMesh> mesh_;
  std::thread thread_;

  std::mutex mutex_;  // guards the members up to is_closing_
  std::deque<std::shared_ptr<Operation>> queue_;
  bool is_timing_ = false;
  std::vector<std::shared_ptr<Operation>> timed_;  // started since start_timing
  double timeout_s_;
  std::shared_ptr<Operation> running_;
  bool is_closing_ = false;

  // Used only by thread_.
  const char* op_ = "";
  Deadline deadline_;
  std::vector<char> received_;
};

}  // namespace

std::unique_ptr<Communicator> tcp_communicator(int rank, int world_size, RendezvousStore& store,
                                               double timeout_s) {
  SMOE_CHECK(rank >= 0 && rank < world_size, "communicator: rank must be 0 to ", world_size - 1,
             "; got ", rank);
  return std::make_unique<TcpCommunicator>(rank, world_size, store, timeout_s);
}

}  // namespace smoe
