// NCCL and peer copies do the same.
#include <doctest/doctest.h>

#include <cmath>

#include "core/gpu.h"
#include "core/host_wait.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/rank_values.h"

using namespace smoe;
using test::on_gpu_ranks;
using Body = std::function<void(Communicator&, Communicator&, RendezvousStore&)>;

namespace {

constexpr int kRanks = 2;

template <class T>
Tensor tensor_of_rank(int rank, std::int64_t numel) {
  return Tensor::from(test::values_of_rank<T>(rank, numel), {numel}, Category::workspace);
}

void with_each_transport(const Body& body, double timeout_s = 20) {
  for (const Transport transport : {Transport::nccl, Transport::copy}) {
    CAPTURE(transport == Transport::nccl);
    on_gpu_ranks(transport, kRanks, body, timeout_s);
  }
}

/// The three operations on sums of one size, in consecutive elements of `memory` from `begin` on.
template <class T, class Acc>
class SumCheck {
 public:
  SumCheck(int rank, std::int64_t numel, const Tensor& memory, std::int64_t begin) : numel_(numel) {
    const Tensor source = tensor_of_rank<T>(rank, numel);
    for (Tensor* const values : {&once_, &again_, &scattered_, &gathered_}) {
      *values = memory.view(begin, {numel});
      values->copy_from(source);
      begin += room(numel);
    }
  }
  /// Elements of memory for a tensor, and for all of a check.
  static std::int64_t room(std::int64_t numel) { return (numel + 63) / 64 * 64; }
  static std::int64_t room_of_all(std::int64_t numel) { return 4 * room(numel); }

  void run(Communicator& gpus) const {
    gpus.all_reduce(once_)->wait();
    gpus.all_reduce(again_)->wait();
    gpus.reduce_scatter(scattered_)->wait();
    gpus.reduce_scatter(gathered_)->wait();
    gpus.all_gather(gathered_)->wait();
  }
  void check(int rank, int world_size) const {
    CAPTURE(numel_);
    const std::vector<T> sums = test::expected_sums<T, Acc>(world_size, numel_);
    CHECK(test::same_bits(once_.to_vector<T>(), sums));
    CHECK(test::same_bits(again_.to_vector<T>(), sums));
    const Range own = shard_range(numel_, rank, world_size);
    CHECK(test::same_bits(scattered_.view(own.begin, {own.numel()}).template to_vector<T>(),
                          std::vector<T>(sums.begin() + own.begin, sums.begin() + own.end)));
    CHECK(test::same_bits(gathered_.to_vector<T>(), sums));
  }

 private:
  std::int64_t numel_;
  Tensor once_, again_, scattered_, gathered_;
};

/// Ranks that share a process must not call what may wait for devices (to allocate, map, read or
/// free memory) while another waits there for them: that happens before the operations of all
/// ranks, and after. Memory is mapped by the first operation on it, one allocation in all.
template <class T, class Acc>
void check_sums(Communicator& gpus, const std::vector<std::int64_t>& sizes) {
  using Check = SumCheck<T, Acc>;
  std::int64_t room = 0;
  for (const std::int64_t numel : sizes) room += Check::room_of_all(numel);
  for (const Category category : {Category::workspace, Category::gradients}) {
    const Tensor memory = Tensor::empty({room}, dtype_of<T>, category);
    std::vector<Check> checks;
    std::int64_t begin = 0;
    for (const std::int64_t numel : sizes) {
      checks.emplace_back(gpus.rank(), numel, memory, begin);
      begin += Check::room_of_all(numel);
    }
    current_stream().synchronize();
    gpus.barrier()->wait();
    for (const Check& one : checks) {
      one.run(gpus);
      current_stream().synchronize();
    }
    gpus.barrier()->wait();
    for (const Check& one : checks) one.check(gpus.rank(), gpus.world_size());
    gpus.barrier()->wait();
  }
}

double seconds_since(Deadline::Clock::time_point start) {
  return std::chrono::duration<double>(Deadline::Clock::now() - start).count();
}

/// Waits until both ranks are here; the store survives what ends communicators.
void meet(RendezvousStore& store, const std::string& place) {
  if (store.add(place, 1, Deadline::in(20)) == kRanks)
    store.set("all at " + place, "", Deadline::in(20));
  store.get("all at " + place, Deadline::in(20));
}

}  // namespace

TEST_CASE_TEMPLATE("on two GPUs sums have the bits of adding up in the order of ranks", T, float,
                   double, bf16, std::int64_t) {
  using Acc = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  with_each_transport([](Communicator& gpus, Communicator&, RendezvousStore&) {
    check_sums<T, Acc>(gpus, {0, 1, 3, 64, 65, 128, 1000, 4097, 40'001, 1 << 20, 2'200'001});
  });
}

TEST_CASE_TEMPLATE("copies add up in the order of ranks for each number of GPUs here", T, float,
                   bf16) {
  using Acc = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  for (int world_size = kRanks; world_size <= gpu::num_visible(); ++world_size)
    on_gpu_ranks(Transport::copy, world_size,
                 [](Communicator& gpus, Communicator&, RendezvousStore&) {
                   check_sums<T, Acc>(gpus, {1, 65, 4097, 2'200'001});
                 });
}

TEST_CASE(
    "a bucket of 300 MiB, and views of it that are not aligned, are summed as small ones are") {
  const std::int64_t numel = std::int64_t{75} << 20, offset = 3;
  const std::vector<float> sums = test::expected_sums<float, float>(kRanks, numel);
  with_each_transport([&](Communicator& gpus, Communicator&, RendezvousStore&) {
    for (const Category category : {Category::workspace, Category::gradients}) {
      const Tensor whole = Tensor::empty({numel + offset}, DType::f32, category);
      for (const std::int64_t begin : {std::int64_t{0}, offset}) {
        const Tensor values = whole.view(begin, {numel});
        values.copy_from(tensor_of_rank<float>(gpus.rank(), numel));
        gpus.reduce_scatter(values)->wait();
        gpus.all_gather(values)->wait();
        CHECK(test::same_bits(values.to_vector<float>(), sums));
      }
    }
    gpus.barrier()->wait();
  });
}

TEST_CASE("GPUs get what the root has, in any dtype") {
  with_each_transport([](Communicator& gpus, Communicator&, RendezvousStore&) {
    for (int root = 0; root < kRanks; ++root)
      for (const std::int64_t numel : {1, 5, 100'000}) {
        const Tensor values = tensor_of_rank<std::int32_t>(gpus.rank(), numel);
        gpus.broadcast(values, root)->wait();
        CHECK(values.to_vector<std::int32_t>() == test::values_of_rank<std::int32_t>(root, numel));
      }
    std::vector<RootedTensor> many;  // more than copies send at once
    for (int i = 0; i < 100; ++i)
      many.push_back({tensor_of_rank<std::int32_t>(gpus.rank(), 1'000'001), i % kRanks});
    gpus.broadcast_each(many)->wait();
    for (int i = 0; i < 100; i += 33)
      CHECK(many[i].values.to_vector<std::int32_t>() ==
            test::values_of_rank<std::int32_t>(i % kRanks, 1'000'001));
  });
}

TEST_CASE("an operation starts after the work before it and ends before the work after it") {
  const test::PoisonGuard poison;
  constexpr std::int64_t kNumel = 8 << 20;
  with_each_transport([](Communicator& gpus, Communicator&, RendezvousStore&) {
    std::vector<Tensor> results;
    for (int i = 0; i < 20; ++i) {  // nothing waits on the host until all is queued
      const Tensor values = Tensor::empty({kNumel}, DType::f32, Category::workspace);
      kernels::fill(launch(), {values.data(), DType::f32, kNumel, double(gpus.rank() + i)});
      gpus.all_reduce(values)->wait();
      kernels::fill(launch(), {values.data(), DType::f32, kNumel / 2, -1});
      results.push_back(values);
    }
    for (int i = 0; i < 20; ++i) {
      CHECK(results[i].view(0, {1}).item() == -1);
      CHECK(results[i].view(kNumel / 2, {1}).item() == 2 * i + 1);
      CHECK(results[i].view(kNumel - 1, {1}).item() == 2 * i + 1);
    }
  });
}

TEST_CASE("tensors on the host and barriers travel over the control communicator") {
  with_each_transport([](Communicator& gpus, Communicator&, RendezvousStore&) {
    const Stream host_stream;
    const StreamGuard host(host_stream);
    const Tensor values = tensor_of_rank<float>(gpus.rank(), 1000);
    gpus.all_reduce(values)->wait();
    CHECK(test::same_bits(values.to_vector<float>(),
                          test::expected_sums<float, float>(kRanks, 1000)));
    gpus.barrier()->wait();
    CHECK(gpus.description().find(" GB/s; ") != std::string::npos);
  });
}

TEST_CASE("what cannot be summed is refused before anything is sent") {
  with_each_transport([](Communicator& gpus, Communicator&, RendezvousStore&) {
    CHECK_THROWS_WITH_AS(gpus.all_reduce(Tensor::zeros({4}, DType::u8)),
                         doctest::Contains("all_reduce: sums are for"), UsageError);
    CHECK_THROWS_AS(gpus.broadcast(Tensor::zeros({4}, DType::f32), kRanks), UsageError);
    gpus.barrier()->wait();
  });
}

TEST_CASE("a rank that does not take part is named, and the GPU that waited for it is free again") {
  with_each_transport([](Communicator& gpus, Communicator&, RendezvousStore& store) {
    const Tensor values = tensor_of_rank<float>(gpus.rank(), 1'000'000);
    gpus.all_reduce(values)->wait();
    current_stream().synchronize();
    meet(store, "start");
    if (gpus.rank() == 0) {
      gpus.set_timeout(1);
      const auto start = Deadline::Clock::now();
      gpus.all_reduce(values)->wait();
      CHECK_THROWS_WITH_AS(current_stream().synchronize(),
                           "waiting for the device: all_reduce: rank 1 did not respond within 1 s",
                           CommunicationError);
      CHECK(seconds_since(start) < 2.5);
      CHECK_THROWS_AS(gpus.all_reduce(values), CommunicationError);
      gpus.cancel();
      MESSAGE("aborted after ", seconds_since(start) - 1, " s from the timeout");
      const HostWaitScope free([] {});
      CHECK(Tensor::zeros({1}, DType::f32).item() == 0);
    }
    meet(store, "end");
  });
}

TEST_CASE("connections come and go") {
  for (int round = 0; round < 5; ++round)
    with_each_transport([](Communicator& gpus, Communicator&, RendezvousStore&) {
      const Tensor values = tensor_of_rank<float>(gpus.rank(), 1000);
      gpus.all_reduce(values)->wait();
      CHECK(test::same_bits(values.to_vector<float>(),
                            test::expected_sums<float, float>(kRanks, 1000)));
      gpus.barrier()->wait();
    });
}
