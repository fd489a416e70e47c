#include "core/distributed/nccl_communicator.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/host_wait.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_ranks.h"

using namespace smoe;
using test::on_gpu_ranks;

namespace {

constexpr int kRanks = 2;

/// What `rank` has at element i: of many magnitudes, so that sums round.
double value_at(int rank, std::int64_t i) {
  const double digits = static_cast<double>((i * 7919 + rank * 104'729) % 1'000'003) / 1'000'003;
  return (0.5 + digits) * static_cast<double>(std::int64_t{1} << (rank * 5 + i) % 23);
}

template <class T>
std::vector<T> values_of_rank(int rank, std::int64_t numel) {
  std::vector<T> values(numel);
  for (std::int64_t i = 0; i < numel; ++i) values[i] = static_cast<T>(value_at(rank, i));
  return values;
}

template <class T>
Tensor tensor_of_rank(int rank, std::int64_t numel) {
  return Tensor::from(values_of_rank<T>(rank, numel), {numel}, Category::workspace);
}

/// The sums over two ranks, of which there is one order.
template <class T, class Acc>
std::vector<T> expected_sums(std::int64_t numel) {
  std::vector<T> sums = values_of_rank<T>(0, numel);
  for (std::int64_t i = 0; i < numel; ++i)
    sums[i] = static_cast<T>(static_cast<Acc>(sums[i]) +
                             static_cast<Acc>(static_cast<T>(value_at(1, i))));
  return sums;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
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
  on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator&, RendezvousStore&) {
    for (const std::int64_t numel :
         {0, 1, 3, 64, 65, 128, 1000, 4097, 40'001, 1 << 20, 2'200'001}) {
      CAPTURE(numel);
      const std::vector<T> sums = expected_sums<T, Acc>(numel);
      for (int run = 0; run < 2; ++run) {
        const Tensor reduced = tensor_of_rank<T>(gpus.rank(), numel);
        gpus.all_reduce(reduced)->wait();
        CHECK(same_bits(reduced.to_vector<T>(), sums));
      }
      const Tensor scattered = tensor_of_rank<T>(gpus.rank(), numel);
      gpus.reduce_scatter(scattered)->wait();
      const Range own = shard_range(numel, gpus.rank(), kRanks);
      CHECK(same_bits(scattered.view(own.begin, {own.numel()}).to_vector<T>(),
                      std::vector<T>(sums.begin() + own.begin, sums.begin() + own.end)));
      gpus.all_gather(scattered)->wait();
      CHECK(same_bits(scattered.to_vector<T>(), sums));
    }
  });
}

TEST_CASE("a bucket of 256 MiB is summed as small ones are") {
  const std::int64_t numel = std::int64_t{64} << 20;
  const std::vector<float> sums = expected_sums<float, float>(numel);
  on_gpu_ranks(kRanks, [&](Communicator& gpus, Communicator&, RendezvousStore&) {
    const Tensor values = tensor_of_rank<float>(gpus.rank(), numel);
    gpus.reduce_scatter(values)->wait();
    gpus.all_gather(values)->wait();
    CHECK(same_bits(values.to_vector<float>(), sums));
  });
}

TEST_CASE("GPUs get what the root has, in any dtype") {
  on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator&, RendezvousStore&) {
    for (int root = 0; root < kRanks; ++root)
      for (const std::int64_t numel : {1, 5, 100'000}) {
        const Tensor values = tensor_of_rank<std::int32_t>(gpus.rank(), numel);
        gpus.broadcast(values, root)->wait();
        CHECK(values.to_vector<std::int32_t>() == values_of_rank<std::int32_t>(root, numel));
      }
  });
}

TEST_CASE("an operation starts after the work before it and ends before the work after it") {
  const test::PoisonGuard poison;
  constexpr std::int64_t kNumel = 8 << 20;
  on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator&, RendezvousStore&) {
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
  on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator&, RendezvousStore&) {
    const Stream host_stream;
    const StreamGuard host(host_stream);
    const Tensor values = tensor_of_rank<float>(gpus.rank(), 1000);
    gpus.all_reduce(values)->wait();
    CHECK(same_bits(values.to_vector<float>(), expected_sums<float, float>(1000)));
    gpus.barrier()->wait();
    CHECK(gpus.description().starts_with("NCCL "));
  });
}

TEST_CASE("what NCCL cannot sum is refused before anything is sent") {
  on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator&, RendezvousStore&) {
    CHECK_THROWS_WITH_AS(gpus.all_reduce(Tensor::zeros({4}, DType::u8)),
                         doctest::Contains("all_reduce: sums are for"), UsageError);
    CHECK_THROWS_AS(gpus.broadcast(Tensor::zeros({4}, DType::f32), kRanks), UsageError);
    gpus.barrier()->wait();
  });
}

TEST_CASE("a rank that does not take part is named, and the GPU that waited for it is free again") {
  on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator&, RendezvousStore& store) {
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

TEST_CASE("a rank that is gone ends the others' waits at once") {
  on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator& control, RendezvousStore& store) {
    const Tensor values = tensor_of_rank<float>(gpus.rank(), 1'000'000);
    gpus.all_reduce(values)->wait();
    current_stream().synchronize();
    meet(store, "start");
    if (gpus.rank() == 0) {
      const auto start = Deadline::Clock::now();
      gpus.all_reduce(values)->wait();
      CHECK_THROWS_WITH_AS(current_stream().synchronize(), doctest::Contains("lost rank 1"),
                           CommunicationError);
      CHECK(seconds_since(start) < 1.5);
      gpus.cancel();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      control.cancel();  // and what follows closes its connections, as the end of a process does
    }
  });
}

TEST_CASE("connections come and go") {
  for (int round = 0; round < 5; ++round)
    on_gpu_ranks(kRanks, [](Communicator& gpus, Communicator&, RendezvousStore&) {
      const Tensor values = tensor_of_rank<float>(gpus.rank(), 1000);
      gpus.all_reduce(values)->wait();
      CHECK(same_bits(values.to_vector<float>(), expected_sums<float, float>(1000)));
      gpus.barrier()->wait();
    });
}
