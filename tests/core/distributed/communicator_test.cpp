#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "core/base/check.h"
#include "core/distributed/tcp_communicator.h"
#include "core/system/socket.h"
#include "tests/support/rank_values.h"
#include "tests/support/ranks.h"

using namespace smoe;
using test::expected_sums;
using test::on_ranks;
using test::same_bits;
using test::value_at;

namespace {

template <class T>
Tensor values_of(int rank, std::int64_t numel) {
  return Tensor::from(test::values_of_rank<T>(rank, numel), {numel});
}

/// Once the two others are ready, which may still wait for each other when this rank is done.
void cancel_after_others(Communicator& ranks, RendezvousStore& store) {
  const Deadline deadline = Deadline::in(10);
  while (store.add("ready", 0, deadline) < 2)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ranks.cancel();
}

// None, one, fewer than ranks, shard boundaries, small tensors, and several chunks.
std::vector<std::int64_t> sizes_for(int world_size) {
  std::vector<std::int64_t> sizes = {0, 1, 3, 64, 65, 1000, 4097, 40'001};
  if (world_size == 2) sizes.push_back(2'200'001);
  return sizes;
}

}  // namespace

TEST_CASE("shards cover a tensor for any number of ranks") {
  for (const std::int64_t numel : {0, 1, 63, 64, 65, 1000, 1 << 20})
    for (const int world_size : {1, 2, 3, 4, 7, 64}) {
      std::int64_t end = 0;
      for (int rank = 0; rank < world_size; ++rank) {
        const Range part = shard_range(numel, rank, world_size);
        CHECK(part.begin == end);
        CHECK(part.end >= part.begin);
        CHECK((part.begin % 64 == 0 || part.begin == numel));
        end = part.end;
      }
      CHECK(end == numel);
    }
}

TEST_CASE_TEMPLATE("sums are bit-identical to adding in rank order", T, float, double, bf16,
                   std::int64_t) {
  using Acc = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  for (const int world_size : {2, 3, 4})
    on_ranks(world_size, [=](Communicator& ranks, RendezvousStore&) {
      for (const std::int64_t numel : sizes_for(world_size)) {
        const std::vector<T> sums = expected_sums<T, Acc>(world_size, numel);
        const Tensor reduced = values_of<T>(ranks.rank(), numel);
        ranks.all_reduce(reduced)->wait();
        CHECK(same_bits(reduced.to_vector<T>(), sums));

        const Tensor scattered = values_of<T>(ranks.rank(), numel);
        ranks.reduce_scatter(scattered)->wait();
        const Range part = shard_range(numel, ranks.rank(), world_size);
        const std::vector<T> own(sums.begin() + part.begin, sums.begin() + part.end);
        CHECK(same_bits(scattered.rows(part.begin, part.end).to_vector<T>(), own));
        ranks.all_gather(scattered)->wait();
        CHECK(same_bits(scattered.to_vector<T>(), sums));
      }
    });
}

TEST_CASE("broadcast sends the root's elements to all ranks") {
  for (const int world_size : {2, 4})
    on_ranks(world_size, [=](Communicator& ranks, RendezvousStore&) {
      for (int root = 0; root < world_size; ++root)
        for (const std::int64_t numel : {1, 5, 100'000}) {
          const Tensor values = values_of<std::int32_t>(ranks.rank(), numel);
          ranks.broadcast(values, root)->wait();
          CHECK(same_bits(values.to_vector<std::int32_t>(),
                          values_of<std::int32_t>(root, numel).to_vector<std::int32_t>()));
        }
    });
}

TEST_CASE("operations are queued without blocking the caller") {
  on_ranks(3, [](Communicator& ranks, RendezvousStore&) {
    std::vector<Tensor> tensors;
    std::vector<CollectiveHandle> work;
    for (int i = 0; i < 50; ++i) {
      tensors.push_back(values_of<float>(ranks.rank() + i, 1000 + 37 * i));
      work.push_back(ranks.all_reduce(tensors.back()));
    }
    for (int i = 49; i >= 0; --i) {
      work[i]->wait();
      double sum = 0;
      for (int rank = 0; rank < 3; ++rank) sum += value_at(rank + i, 999);
      CHECK(tensors[i].to_vector<float>()[999] == doctest::Approx(sum));
    }
  });
}

TEST_CASE("a barrier holds every rank until all have reached it") {
  std::atomic<int> arrived = 0;
  on_ranks(4, [&](Communicator& ranks, RendezvousStore&) {
    for (int round = 1; round <= 20; ++round) {
      ++arrived;
      ranks.barrier()->wait();
      CHECK(arrived >= 4 * round);
      ranks.barrier()->wait();
    }
  });
}

TEST_CASE("a rank that does not respond in time is named, and all ranks stop") {
  const auto start = Deadline::Clock::now();
  on_ranks(3, [](Communicator& ranks, RendezvousStore& store) {
    if (ranks.rank() == 1) {
      store.get("all done", Deadline::in(10));
      return;
    }
    ranks.set_timeout(0.1);
    const Tensor values = values_of<float>(ranks.rank(), 10);
    CHECK_THROWS_WITH_AS(ranks.all_reduce(values)->wait(),
                         "all_reduce: rank 1 did not respond within 0.1 s", CommunicationError);
    CHECK_THROWS_AS(ranks.barrier()->wait(), CommunicationError);
    if (store.add("done", 1, Deadline::in(10)) == 2) store.set("all done", "", Deadline::in(10));
    store.get("all done", Deadline::in(10));
  });
  CHECK(Deadline::Clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("a lost rank is named") {
  on_ranks(3, [](Communicator& ranks, RendezvousStore& store) {
    const Tensor values = values_of<float>(ranks.rank(), 100'000);
    ranks.all_reduce(values)->wait();
    if (ranks.rank() == 2) return cancel_after_others(ranks, store);
    store.add("ready", 1, Deadline::in(10));
    CHECK_THROWS_WITH_AS(ranks.all_reduce(values)->wait(),
                         doctest::Contains("all_reduce: lost rank 2"), CommunicationError);
    if (store.add("done", 1, Deadline::in(10)) == 2) store.set("all done", "", Deadline::in(10));
    store.get("all done", Deadline::in(10));  // closing earlier would count as lost
  });
}

TEST_CASE("a rank that is gone is noticed without an operation that needs it") {
  on_ranks(3, [](Communicator& ranks, RendezvousStore& store) {
    ranks.barrier()->wait();
    CHECK(ranks.failure() == "");
    if (ranks.rank() == 2) return cancel_after_others(ranks, store);
    store.add("ready", 1, Deadline::in(10));
    const Deadline deadline = Deadline::in(5);
    while (ranks.failure().empty() && !deadline.has_passed())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(ranks.failure().starts_with("lost rank 2: "));
    if (store.add("done", 1, Deadline::in(10)) == 2) store.set("all done", "", Deadline::in(10));
    store.get("all done", Deadline::in(10));
  });
}

TEST_CASE("an operation whose data has arrived completes although the sender is gone") {
  for (int round = 0; round < 100; ++round)
    on_ranks(2, [](Communicator& ranks, RendezvousStore&) {
      CHECK_NOTHROW(ranks.barrier()->wait());
      ranks.cancel();  // without notice to the other rank
    });
}

TEST_CASE("cancel ends a wait immediately, and the operations queued after it") {
  on_ranks(2, [](Communicator& ranks, RendezvousStore& store) {
    if (ranks.rank() == 1) {
      store.get("cancelled", Deadline::in(10));
      return;
    }
    const Tensor values = values_of<float>(0, 100'000);
    const CollectiveHandle first = ranks.all_reduce(values), second = ranks.barrier();
    std::thread cancelling([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ranks.cancel();
    });
    const auto start = Deadline::Clock::now();
    CHECK_THROWS_WITH_AS(first->wait(), "all_reduce: cancelled", CommunicationError);
    CHECK_THROWS_AS(second->wait(), CommunicationError);
    CHECK_THROWS_AS(ranks.barrier()->wait(), CommunicationError);
    CHECK(Deadline::Clock::now() - start < std::chrono::seconds(2));
    cancelling.join();
    store.set("cancelled", "", Deadline::in(10));
  });
}

TEST_CASE("a communicator can be destroyed while its operations wait") {
  CHECK_THROWS_WITH_AS(on_ranks(2,
                                [](Communicator& ranks, RendezvousStore&) {
                                  if (ranks.rank() == 1) return ranks.cancel();
                                  ranks.all_reduce(values_of<float>(0, 1000));
                                  throw UsageError("leaving");
                                }),
                       "leaving", UsageError);
}

TEST_CASE("invalid operations are refused before anything is sent") {
  on_ranks(2, [](Communicator& ranks, RendezvousStore&) {
    CHECK_THROWS_WITH_AS(ranks.all_reduce(Tensor::zeros({4}, DType::u8)),
                         doctest::Contains("all_reduce: dtype must be f32, f64, bf16 or i64"),
                         UsageError);
    CHECK_THROWS_AS(ranks.broadcast(Tensor::zeros({4}, DType::f32), 2), UsageError);
    ranks.barrier()->wait();
  });
}

TEST_CASE("the timeout bounds the wait for ranks that never connect") {
  const auto start = Deadline::Clock::now();
  const RendezvousServer server({.job_id = "test"});
  RendezvousStore store({{"127.0.0.1", server.port()}, "test"}, Deadline::in(5));
  CHECK_THROWS_AS(tcp_communicator(0, 2, store, 0.2), SystemError);
  CHECK(Deadline::Clock::now() - start < std::chrono::seconds(3));
}

TEST_CASE("operations of a single rank complete immediately") {
  Communicator& single = single_communicator();
  const Tensor values = Tensor::from<float>({1, 2}, {2});
  single.all_reduce(values)->wait();
  single.reduce_scatter(values)->wait();
  single.all_gather(values)->wait();
  single.broadcast(values, 0)->wait();
  single.barrier()->wait();
  CHECK(values.to_vector<float>() == std::vector<float>{1, 2});
}

namespace {

// The ports on which this process listens, apart from `known`.
std::vector<int> listening_ports(const std::vector<int>& known) {
  std::set<std::string> own;  // "socket:[INODE]"
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code closed_meanwhile;
    own.insert(std::filesystem::read_symlink(entry.path(), closed_meanwhile).string());
  }
  std::ifstream table("/proc/net/tcp");
  std::vector<int> ports;
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream words(line);
    std::string number, local, remote, state, word, inode;
    words >> number >> local >> remote >> state >> word >> word >> word >> word >> word >> inode;
    const int port = std::stoi(local.substr(local.find(':') + 1), nullptr, 16);
    if (state == "0A" && own.count("socket:[" + inode + "]") > 0 &&
        std::find(known.begin(), known.end(), port) == known.end())
      ports.push_back(port);
  }
  return ports;
}

}  // namespace

TEST_CASE("strangers who connect to ranks get nothing and do not disturb the start") {
  const RendezvousServer server({.job_id = "test"});
  const std::vector<int> known = listening_ports({});
  const auto join = [&](int rank, const std::function<void()>& before) -> std::string {
    try {
      RendezvousStore store({{"127.0.0.1", server.port()}, "test"}, Deadline::in(10));
      before();
      const auto communicator = tcp_communicator(rank, 2, store, 10);
      communicator->broadcast(Tensor::from(std::vector<double>(100, 0.7), {100}), 0)->wait();
      test::part(*communicator);
      return "connected";
    } catch (const Error& error) {
      return error.what();
    }
  };
  // While rank 0 waits for rank 1: more strangers than it has open at a time, silent or not.
  std::vector<Socket> strangers;
  const auto intrude = [&] {
    std::vector<int> ports;
    const Deadline deadline = Deadline::in(10);
    while (ports.empty() && !deadline.has_passed()) ports = listening_ports(known);
    REQUIRE(ports.size() == 1);
    const std::string texts[] = {"", std::string(8, '\0'), std::string("\1\0\0\0", 4),
                                 std::string("\1\0\0\0", 4) + std::string(16, 'x'),
                                 std::string(1000, '\1')};
    for (int i = 0; i < 100; ++i) {
      strangers.push_back(Socket::connect("127.0.0.1", ports[0], Deadline::in(5)));
      strangers.back().send_some(texts[i % std::size(texts)]);
    }
  };
  std::string first, second;
  std::thread rank0([&] { first = join(0, [] {}); });
  std::thread rank1([&] { second = join(1, intrude); });
  rank0.join();
  rank1.join();
  CHECK(first == "connected");
  CHECK(second == "connected");
  for (const Socket& stranger : strangers) {
    char byte = 0;
    CHECK(stranger.wait_readable(Deadline::in(5)));
    CHECK(stranger.receive_some(&byte, 1).bytes == 0);
  }
}

TEST_CASE("connected ranks listen on no port") {
  const std::vector<int> known = listening_ports({});
  std::vector<int> ports;
  on_ranks(3, [&](Communicator& ranks, RendezvousStore&) {
    ranks.barrier()->wait();
    if (ranks.rank() == 0) ports = listening_ports(known);
    ranks.barrier()->wait();
  });
  CHECK(ports.size() == 1);  // the rendezvous
}

TEST_CASE("ranks connect over the interface that is chosen") {
  ::setenv("SMOE_SOCKET_IFNAME", "lo", 1);
  on_ranks(2, [](Communicator& ranks, RendezvousStore&) { ranks.barrier()->wait(); });
  ::setenv("SMOE_SOCKET_IFNAME", "none0", 1);
  CHECK_THROWS_WITH_AS(on_ranks(2, [](Communicator&, RendezvousStore&) {}),
                       "socket: there is no interface none0 with an IPv4 address", UsageError);
  ::unsetenv("SMOE_SOCKET_IFNAME");
}

TEST_CASE(
    "operations between start_timing and stop_timing are noted, in the order of their calls") {
  on_ranks(2, [](Communicator& communicator, RendezvousStore&) {
    const Tensor values = Tensor::zeros({1 << 16}, DType::f32);
    communicator.all_reduce(values)->wait();
    communicator.start_timing();
    {
      const PlaceScope place({.phase = Phase::backward});
      communicator.reduce_scatter(values);
      communicator.all_gather(values)->wait();
    }
    const std::vector<CollectiveTimes> times = communicator.stop_timing();
    REQUIRE(times.size() == 2);
    CHECK(std::string(times[0].name) == "reduce_scatter");
    CHECK(std::string(times[1].name) == "all_gather");
    for (const CollectiveTimes& one : times) {
      CHECK(one.bytes == values.bytes());
      CHECK(one.place.phase == Phase::backward);
      CHECK(one.start_ns <= one.ready_ns);
      CHECK(one.ready_ns <= one.begin_ns);
      CHECK(one.begin_ns < one.end_ns);
    }
    CHECK(times[1].start_ns >= times[0].start_ns);
    CHECK(times[1].begin_ns >= times[0].end_ns);
    communicator.all_reduce(values)->wait();
    CHECK(communicator.stop_timing().empty());
  });
  CHECK(single_communicator().stop_timing().empty());
}
