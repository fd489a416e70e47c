#include "train/doctor/rank_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "core/device.h"
#include "core/distributed/nccl_communicator.h"
#include "core/distributed/rendezvous_server.h"
#include "core/distributed/tcp_communicator.h"
#include "core/gpu.h"
#include "core/system/format.h"
#include "core/system/kernel_file.h"
#include "core/tensor.h"

namespace smoe {
namespace {

constexpr double kTimeoutSeconds = 60;
constexpr std::int64_t kLeastBytes = std::int64_t{1} << 20;
constexpr std::int64_t kPatternNumel = std::int64_t{1} << 20;
constexpr double kSlowTcp = 0.2e9, kSlowNccl = 20e9;  // bytes per second that a rank sends

using RankWork = std::function<Finding(Communicator& communicator)>;

// Exact in f32, also summed over any number of ranks that one machine has.
float value_at(std::int64_t i, int rank) {
  return static_cast<float>(i % 1021 + 3 * rank);
}

// Calls work(first, pattern) for each part of `values` that one pattern covers.
template <class Work>
void for_each_part(const Tensor& values, Work&& work) {
  for (std::int64_t begin = 0; begin < values.numel(); begin += kPatternNumel)
    work(values.view(begin, {std::min(kPatternNumel, values.numel() - begin)}));
}

void fill(const Tensor& values, int rank) {
  std::vector<float> pattern(static_cast<std::size_t>(std::min(kPatternNumel, values.numel())));
  for (std::size_t i = 0; i < pattern.size(); ++i)
    pattern[i] = value_at(static_cast<std::int64_t>(i), rank);
  const Tensor source =
      Tensor::from(pattern, {static_cast<std::int64_t>(pattern.size())}, Category::workspace);
  for_each_part(values,
                [&](const Tensor& part) { part.copy_from(source.view(0, {part.numel()})); });
}

std::int64_t count_wrong(const Tensor& values, int num_ranks) {
  std::vector<float> expected(static_cast<std::size_t>(std::min(kPatternNumel, values.numel())),
                              0.0F);
  for (std::size_t i = 0; i < expected.size(); ++i)
    for (int rank = 0; rank < num_ranks; ++rank)
      expected[i] += value_at(static_cast<std::int64_t>(i), rank);
  std::int64_t count = 0;
  for_each_part(values, [&](const Tensor& part) {
    const auto got = part.to_vector<float>();
    for (std::size_t i = 0; i < got.size(); ++i) count += got[i] != expected[i];
  });
  return count;
}

// Runs `work` on ranks that are threads, each with the device that `device_of` names, and returns
// the finding of rank 0. Rethrows the error of the first rank that failed.
Finding on_threads(int num_ranks, const std::function<Device(int rank)>& device_of,
                   const RankWork& work) {
  const RendezvousServer server({.job_id = "doctor"});
  std::vector<std::exception_ptr> errors(num_ranks);
  std::vector<std::thread> threads;
  Finding finding;
  const auto run = [&](int rank) {
    const Stream stream(device_of(rank));
    const StreamGuard guard(stream);
    RendezvousStore store({{"127.0.0.1", server.port()}, "doctor"}, Deadline::in(kTimeoutSeconds));
    const auto control = tcp_communicator(rank, num_ranks, store, kTimeoutSeconds);
    {
      std::unique_ptr<Communicator> gpus;
      if (stream.device().type == DeviceType::cuda)
        gpus = nccl_communicator(store, *control, {.timeout_s = kTimeoutSeconds});
      const Finding own = work(gpus ? *gpus : *control);
      if (rank == 0) finding = own;
    }
    control->barrier()->wait();
  };
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        run(rank);
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
  return finding;
}

// What `check` finds; of its failure a red line.
Finding found(const std::string& subject, const std::string& advice,
              const std::function<Finding()>& check) {
  try {
    Finding finding = check();
    finding.subject = subject;
    return finding;
  } catch (const Error& error) {
    return {Health::red, subject, error.what(), advice};
  }
}

Finding check_tcp(std::int64_t bytes) {
  const std::int64_t size = fitting_bytes(bytes, 2, available_memory_bytes());
  return on_threads(
      2, [](int) { return Device{}; },
      [&](Communicator& communicator) { return check_all_reduce(communicator, size); });
}

Finding check_nccl(std::int64_t bytes, int num_gpus) {
  std::int64_t available = 0;
  for (int i = 0; i < num_gpus; ++i) {
    const std::int64_t free = gpu::memory_info(i).free_bytes;
    available = i == 0 ? free : std::min(available, free);
  }
  const std::int64_t size = fitting_bytes(bytes, 1, available);
  return on_threads(
      num_gpus, [&](int rank) { return select_device("cuda", rank, num_gpus); },
      [&](Communicator& communicator) { return check_all_reduce(communicator, size); });
}

}  // namespace

std::int64_t fitting_bytes(std::int64_t bytes, int num_ranks, std::int64_t available) {
  while (bytes > kLeastBytes && num_ranks * bytes > available / 2) bytes /= 2;
  return bytes;
}

Finding check_all_reduce(Communicator& communicator, std::int64_t bytes) {
  const Tensor values =
      Tensor::empty({bytes / size_of(DType::f32)}, DType::f32, Category::workspace);
  fill(values, communicator.rank());
  current_stream().synchronize();
  communicator.barrier()->wait();
  const auto begin = std::chrono::steady_clock::now();
  communicator.all_reduce(values)->wait();
  current_stream().synchronize();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const int num_ranks = communicator.world_size();
  const double sent = 2.0 * (num_ranks - 1) / num_ranks * static_cast<double>(values.bytes());
  const double speed = sent / seconds;
  Finding finding{.result =
                      fmt::format("{} among {} ranks in {:.0f} ms, each sends {:.2f} GB/s; {}",
                                  format_bytes(values.bytes()), num_ranks, 1e3 * seconds,
                                  speed / 1e9, communicator.description())};
  const bool is_gpu = current_stream().device().type == DeviceType::cuda;
  if (const std::int64_t wrong = count_wrong(values, num_ranks); wrong > 0) {
    finding.health = Health::red;
    finding.result = fmt::format("{} of {} sums are wrong; {}", wrong, values.numel(),
                                 communicator.description());
    finding.advice = is_gpu ? "the link between the GPUs is faulty: do not train on several"
                            : "this machine's memory or network stack is faulty: do not train here";
  } else if (speed < (is_gpu ? kSlowNccl : kSlowTcp)) {
    finding.health = Health::yellow;
    finding.advice = is_gpu ? "gradients will not be hidden behind backward: are the GPUs linked "
                              "by NVLink (nvidia-smi topo -m)?"
                            : "ranks on this machine will wait for each other: is it busy?";
  }
  return finding;
}

Findings check_ranks(std::int64_t bytes) {
  Findings findings{found("ranks on the CPU, all-reduce",
                          "ranks of this machine cannot train together: is the loopback network "
                          "interface up?",
                          [&] { return check_tcp(bytes); })};
  const int num_gpus = current_stream().device().type == DeviceType::cuda ? gpu::num_visible() : 0;
  if (num_gpus == 1)
    findings.push_back(
        {.subject = "ranks on GPUs, all-reduce", .result = "one GPU: there is nothing to check"});
  if (num_gpus > 1)
    findings.push_back(found("ranks on GPUs, all-reduce",
                             "ranks on these GPUs cannot train together: see NCCL_DEBUG=INFO",
                             [&] { return check_nccl(bytes, num_gpus); }));
  return findings;
}

}  // namespace smoe
