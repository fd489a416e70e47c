#include "train/commands/rank_setup.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "core/device.h"
#include "core/system/standard_output.h"
#include "kernels/threads.h"
#include "train/launch/rank_environment.h"

namespace smoe {
namespace {

/// Reports `error` to the other ranks and ends this one. On a GPU it leaves the process
/// immediately: exit() would wait for kernels that wait for lost ranks.
template <class E>
[[noreturn]] void end_rank(Ranks& ranks, const std::exception& error, bool is_communication,
                           int exit_code) {
  const std::string message = ranks.report_failure(error.what(), is_communication);
  if (current_stream().device().type != DeviceType::cuda) throw E(message);
  std::cout.flush();
  std::fprintf(stderr, "%s\n", message.c_str());
  ::_exit(exit_code);
}

int run_among_ranks(Ranks& ranks, const std::function<int(Ranks&)>& work) {
  try {
    return work(ranks);
  } catch (const CommunicationError& error) {
    end_rank<SystemError>(ranks, error, true, 1);
  } catch (const UsageError& error) {
    end_rank<UsageError>(ranks, error, false, 2);
  } catch (const std::exception& error) {
    end_rank<SystemError>(ranks, error, false, 1);
  }
}

/// The device that run.device names; errors name the key.
Device device_of(const std::string& name, const RankEnvironment& place) {
  try {
    return select_device(name, place.local_rank, place.local_world_size);
  } catch (const UsageError& error) {
    throw UsageError(concat("run.", error.what()));
  }
}

}  // namespace

int run_on_rank(const Config& config, const std::function<int(Ranks&)>& work) {
  ignore_broken_pipes();
  const RankEnvironment environment = read_rank_environment();
  const Stream stream(device_of(config.run.device, environment));
  const StreamGuard guard(stream, {.deterministic = config.train.deterministic});
  const int threads = static_cast<int>(config.run.threads);
  kernels::cpu::set_num_threads(threads > 0 ? threads : threads_of(environment));
  Ranks ranks(environment, config.parallel.timeout_s, config.parallel.transport);
  return ranks.are_several() ? run_among_ranks(ranks, work) : work(Ranks::single());
}

}  // namespace smoe
