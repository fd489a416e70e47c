// Communicator over Gloo's TCP connections, of which it uses sending and receiving alone: its own
// reductions would add in other orders. One thread runs the operations, one after the other.
//
//   reduce_scatter  everyone sends each rank its part and adds up what it receives, by rank
//   all_gather      everyone sends its part to everyone
//   all_reduce      one after the other; for small tensors, everyone sends all it has to everyone
#include <gloo/rendezvous/context.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/block_signals.h"
#include "core/communicator.h"
#include "core/ordered_sum.h"

namespace smoe {
namespace {

// What is exchanged with each rank at a time, so that the memory for it stays small.
constexpr std::int64_t kPieceBytes = std::int64_t{4} << 20;
// Below this the time of an exchange is that of its messages' ways, not of their bytes.
constexpr std::int64_t kSmallBytes = std::int64_t{16} << 10;

/// Gloo's view of a store. It throws what the store throws.
class GlooStore final : public gloo::rendezvous::Store {
 public:
  GlooStore(RendezvousStore& store, const Deadline& deadline)
      : store_(store), deadline_(deadline) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    store_.set(name(key), {data.data(), data.size()}, deadline_);
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = store_.get(name(key), deadline_);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) store_.get(name(key), deadline_);
  }

 private:
  static std::string name(const std::string& key) { return "gloo/" + key; }
  RendezvousStore& store_;
  Deadline deadline_;
};

/// Connects all ranks; Gloo from 2023 on wants to share the store.
template <class Context, class Device>
void connect_all(Context& context, const std::shared_ptr<GlooStore>& store, Device& device) {
  if constexpr (requires { context.connectFullMesh(*store, device); })
    context.connectFullMesh(*store, device);
  else
    context.connectFullMesh(store, device);
}

/// What Gloo says, without the place in its source.
std::string reason_of(const std::exception& error) {
  const std::string text = error.what();
  const std::size_t end = text.find("] ");
  return text.front() == '[' && end != std::string::npos ? text.substr(end + 2) : text;
}

/// An operation, from being queued to being done.
class Task final : public Work {
 public:
  Task(const char* name, std::function<void()> run) : name_(name), run_(std::move(run)) {}

  const char* name() const { return name_; }
  void run() {
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
    error_ = error;
    is_done_ = true;
    run_ = nullptr;  // lets go of the tensor
    done_.notify_all();
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
  const char* name_;
  std::function<void()> run_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;
  std::exception_ptr error_;
};

/// Bytes of a tensor, in whole elements.
struct Span {
  char* data;
  std::int64_t bytes;
};
constexpr Span kNothing{nullptr, 0};

class GlooCommunicator final : public Communicator {
 public:
  GlooCommunicator(int rank, int world_size, RendezvousStore& store, double timeout_s)
      : rank_(rank), world_size_(world_size), timeout_s_(timeout_s) {
    const BlockSignals blocked;  // also SIGPIPE, which a dead rank would send
    connect(store);
    thread_ = std::thread([this] { run(); });
  }

  ~GlooCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      if (is_busy_ || !queue_.empty()) stop_waiting("the communicator was closed");
      is_closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  WorkHandle all_reduce(const Tensor& values) override {
    const OrderedSum add = check("all_reduce", values, true);
    return queue("all_reduce", [=, this] {
      if (values.bytes() <= kSmallBytes) return sum_small(values, add);
      scatter_sums(values, add);
      gather_parts(values);
    });
  }
  WorkHandle reduce_scatter(const Tensor& values) override {
    const OrderedSum add = check("reduce_scatter", values, true);
    return queue("reduce_scatter", [=, this] { scatter_sums(values, add); });
  }
  WorkHandle all_gather(const Tensor& values) override {
    check("all_gather", values, false);
    return queue("all_gather", [=, this] { gather_parts(values); });
  }
  WorkHandle broadcast(const Tensor& values, int root) override {
    check("broadcast", values, false);
    SMOE_CHECK(root >= 0 && root < world_size_, "broadcast: root must be a rank; got ", root,
               " of ", world_size_);
    return queue("broadcast", [=, this] {
      if (values.bytes() <= kSmallBytes) return send_all(values, root);
      scatter_parts(values, root);
      gather_parts(values);
    });
  }
  WorkHandle barrier() override {
    return queue("barrier", [this] {
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

  void cancel() override {
    const std::lock_guard lock(mutex_);
    stop_waiting("cancelled");
  }

 private:
  using Buffer = std::unique_ptr<gloo::transport::UnboundBuffer>;
  /// What goes to or comes from a rank; no bytes: nothing.
  using SpanOf = std::function<Span(int rank)>;

  void connect(RendezvousStore& store) {
    gloo::transport::tcp::attr attributes;
    if (const char* const interface = std::getenv("GLOO_SOCKET_IFNAME"))
      attributes.iface = interface;
    else
      attributes.hostname = store.local_host();
    try {
      device_ = gloo::transport::tcp::CreateDevice(attributes);
      context_ = std::make_shared<gloo::rendezvous::Context>(rank_, world_size_);
      // Gloo waits for a connection five times as long.
      context_->setTimeout(std::chrono::milliseconds(static_cast<long>(timeout_s_ * 1000 / 5) + 1));
      connect_all(*context_, std::make_shared<GlooStore>(store, Deadline::in(timeout_s_)), device_);
    } catch (const gloo::Exception& error) {
      throw CommunicationError(concat("communicator: rank ", rank_, " of ", world_size_,
                                      " cannot connect to the others: ", reason_of(error)));
    }
  }

  OrderedSum check(const char* op, const Tensor& values, bool adds) const {
    SMOE_CHECK(values.device().type == DeviceType::cpu, op,
               ": Gloo's tensors are on the CPU; got one on ", to_string(values.device()));
    return adds ? ordered_sum_for(op, values.dtype()) : nullptr;
  }

  WorkHandle queue(const char* name, std::function<void()> run) {
    auto task = std::make_shared<Task>(name, std::move(run));
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(task);
    }
    changed_.notify_all();
    return task;
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return is_closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const std::shared_ptr<Task> task = queue_.front();
      queue_.pop_front();
      is_busy_ = true;
      op_ = task->name();
      deadline_ = Deadline::in(timeout_s_);
      lock.unlock();
      task->run();
      lock.lock();
      is_busy_ = false;
      if (task->failed() && failure_.empty()) failure_ = "an earlier operation failed";
    }
  }

  /// Lets the thread out of its waits, and into no new ones. Called with the mutex held.
  void stop_waiting(const char* why) {
    if (failure_.empty()) failure_ = why;
    for (const auto& [rank, buffer] : receiving_) buffer->abortWaitRecv();
    for (const auto& [rank, buffer] : sending_) buffer->abortWaitSend();
  }

  /// Sends and receives at once, with each other rank what the functions say, and waits for it.
  void exchange(const SpanOf& send, const SpanOf& receive) {
    try {
      begin_exchange(send, receive);
      // This thread alone changes the lists, so that it may read them without the mutex.
      for (const auto& [rank, buffer] : receiving_) finish(rank, *buffer, &Transfer::waitRecv);
      for (const auto& [rank, buffer] : sending_) finish(rank, *buffer, &Transfer::waitSend);
    } catch (...) {
      end_exchange();
      throw;
    }
    end_exchange();
  }

  /// From here on Gloo does not touch the memory any more, also that of a transfer that failed.
  void end_exchange() {
    const std::lock_guard lock(mutex_);
    receiving_.clear();
    sending_.clear();
  }

  void begin_exchange(const SpanOf& send, const SpanOf& receive) {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) throw CommunicationError(concat(op_, ": ", failure_));
    ++slot_;
    // Ranks begin with the next one each, so that not all turn to the same one at once.
    for (int i = 1; i < world_size_; ++i) {
      const int from = (rank_ + world_size_ - i) % world_size_, to = (rank_ + i) % world_size_;
      if (const Span span = receive(from); span.bytes > 0)
        receiving_.emplace_back(from, context_->createUnboundBuffer(span.data, span.bytes));
      if (const Span span = send(to); span.bytes > 0)
        sending_.emplace_back(to, context_->createUnboundBuffer(span.data, span.bytes));
    }
    for (const auto& [rank, buffer] : receiving_)
      guarded(rank, [&, rank = rank] { buffer->recv(rank, slot_); });
    for (const auto& [rank, buffer] : sending_)
      guarded(rank, [&, rank = rank] { buffer->send(rank, slot_); });
  }

  using Transfer = gloo::transport::UnboundBuffer;
  using Wait = bool (Transfer::*)(int*, std::chrono::milliseconds);
  void finish(int rank, Transfer& buffer, Wait wait) {
    guarded(rank, [&] {
      const auto left = std::max(deadline_.left(), std::chrono::milliseconds(1));
      if ((buffer.*wait)(nullptr, left)) return;
      const std::lock_guard lock(mutex_);
      throw CommunicationError(concat(op_, ": ", failure_));
    });
  }

  template <class F>
  void guarded(int rank, F&& f) {
    try {
      f();
    } catch (const gloo::Exception& error) {
      if (deadline_.has_passed())
        throw CommunicationError(
            concat(op_, ": rank ", rank, " did not answer within ", deadline_.total_s(), " s"));
      throw CommunicationError(concat(op_, ": lost rank ", rank, ": ", reason_of(error)));
    }
  }

  static Span bytes_of(const Tensor& values, std::int64_t begin, std::int64_t end) {
    const std::int64_t size = size_of(values.dtype());
    return {static_cast<char*>(values.data()) + begin * size, (end - begin) * size};
  }
  Span part_bytes(const Tensor& values, int rank) const {
    const Part part = part_of(values.numel(), rank, world_size_);
    return bytes_of(values, part.begin, part.end);
  }

  /// Memory for what comes from the other ranks, `bytes` from each.
  char* staging(std::int64_t bytes) {
    staging_.resize(std::max(staging_.size(), static_cast<std::size_t>(bytes * world_size_)));
    return staging_.data();
  }

  void sum_small(const Tensor& values, OrderedSum add) {
    const Span own{static_cast<char*>(values.data()), values.bytes()};
    add_exchanged(own, values.dtype(), add, [&](int) { return own; });
  }

  void scatter_sums(const Tensor& values, OrderedSum add) {
    const std::int64_t step = kPieceBytes / size_of(values.dtype());
    const std::int64_t largest = part_of(values.numel(), 0, world_size_).numel();
    for (std::int64_t at = 0; at < largest; at += step) {
      const auto piece_of = [&](int rank) {
        const Part part = part_of(values.numel(), rank, world_size_);
        const std::int64_t begin = std::min(part.begin + at, part.end);
        return bytes_of(values, begin, std::min(begin + step, part.end));
      };
      add_exchanged(piece_of(rank_), values.dtype(), add, piece_of);
    }
  }

  /// Sends each rank what is for it, and replaces `own` by its sum over the ranks.
  void add_exchanged(Span own, DType dtype, OrderedSum add, const SpanOf& send) {
    char* const received = staging(own.bytes);
    const auto place_of = [&](int rank) { return Span{received + rank * own.bytes, own.bytes}; };
    exchange(send, place_of);
    std::vector<const void*> terms;
    for (int rank = 0; rank < world_size_; ++rank)
      terms.push_back(rank == rank_ ? own.data : place_of(rank).data);
    add(terms, own.bytes / size_of(dtype), own.data);
  }

  void gather_parts(const Tensor& values) {
    exchange([&](int) { return part_bytes(values, rank_); },
             [&](int rank) { return part_bytes(values, rank); });
  }

  void send_all(const Tensor& values, int root) {
    const Span all{static_cast<char*>(values.data()), values.bytes()};
    exchange([&](int) { return rank_ == root ? all : kNothing; },
             [&](int rank) { return rank == root ? all : kNothing; });
  }

  void scatter_parts(const Tensor& values, int root) {
    exchange([&](int rank) { return rank_ == root ? part_bytes(values, rank) : kNothing; },
             [&](int rank) { return rank == root ? part_bytes(values, rank_) : kNothing; });
  }

  const int rank_, world_size_;
  std::shared_ptr<gloo::transport::Device> device_;
  std::shared_ptr<gloo::rendezvous::Context> context_;
  std::thread thread_;

  std::mutex mutex_;  // of all below that other threads touch
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Task>> queue_;
  double timeout_s_;
  bool is_closing_ = false, is_busy_ = false;
  std::string failure_;  // why no operation can be done any more; empty: they can
  std::vector<std::pair<int, Buffer>> receiving_, sending_;  // of the exchange under way

  // Of the thread alone.
  const char* op_ = "";
  Deadline deadline_;
  std::uint64_t slot_ = 0;
  std::vector<char> staging_;
};

}  // namespace

std::unique_ptr<Communicator> gloo_communicator(int rank, int world_size, RendezvousStore& store,
                                                double timeout_s) {
  SMOE_CHECK(rank >= 0 && rank < world_size, "communicator: rank must be 0 to ", world_size - 1,
             "; got ", rank);
  return std::make_unique<GlooCommunicator>(rank, world_size, store, timeout_s);
}

}  // namespace smoe
