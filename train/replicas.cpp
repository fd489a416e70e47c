#include "train/replicas.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/device.h"
#include "core/host_chunks.h"
#include "core/system/digest.h"
#include "kernels/digest.h"

namespace smoe {
namespace {

class DigestVisitor final : public StateVisitor {
 public:
  void tensor(std::string_view name, Tensor& value) override {
    if (value.device().type == DeviceType::cuda) return add_on_gpu(name, value);
    Hasher hasher;
    for_each_host_chunk(value, [&](std::int64_t, const void* data, std::int64_t bytes) {
      hasher.update(data, bytes);
    });
    add(name, hasher.digest());
  }
  void integer(std::string_view name, std::int64_t& value) override {
    add(name, digest_of(&value, sizeof value));
  }
  void real(std::string_view name, double& value) override {
    add(name, digest_of(&value, sizeof value));
  }

  const std::vector<std::string>& names() const { return names_; }
  /// Waits for the device.
  const std::vector<std::int64_t>& values() {
    for (const auto& [index, digest] : on_gpu_)
      values_[index] = digest.to_vector<std::int64_t>()[0];
    on_gpu_.clear();
    return values_;
  }

 private:
  // Copying large tensors to the host takes longer than many training steps.
  void add_on_gpu(std::string_view name, const Tensor& value) {
    const Tensor digest = Tensor::zeros({1}, DType::i64, Category::workspace);
    kernels::digest(launch(), {.x = value.data(),
                               .bytes = value.bytes(),
                               .result = static_cast<std::uint64_t*>(digest.data())});
    on_gpu_.emplace_back(values_.size(), digest);
    names_.emplace_back(name);
    values_.push_back(0);
  }
  void add(std::string_view name, Digest digest) {
    names_.emplace_back(name);
    values_.push_back(static_cast<std::int64_t>(digest.low ^ digest.high));
  }

  std::vector<std::string> names_;
  std::vector<std::int64_t> values_;                    // 64 bits of the digest of each
  std::vector<std::pair<std::size_t, Tensor>> on_gpu_;  // index in values_, digest in progress
};

/// The values of all ranks: [world_size][values per rank].
std::vector<std::int64_t> gather(Communicator& communicator, const std::vector<std::int64_t>& own) {
  std::vector<std::int64_t> all(own.size() * communicator.world_size());
  std::copy(own.begin(), own.end(), all.begin() + own.size() * communicator.rank());
  const auto numel = static_cast<std::int64_t>(all.size());
  const Stream host_stream;
  const StreamGuard host(host_stream);
  const Tensor tensor = Tensor::from(all, {numel}, Category::workspace);
  communicator.all_reduce(tensor)->wait();
  return tensor.to_vector<std::int64_t>();
}

bool all_equal(const std::vector<std::int64_t>& values) {
  return std::all_of(values.begin(), values.end(), [&](auto value) { return value == values[0]; });
}

/// "rank 2 differs from the other ranks", or that the ranks differ if there is no majority.
std::string describe_difference(const std::vector<std::int64_t>& values) {
  const auto count = [&](std::int64_t value) {
    return std::count(values.begin(), values.end(), value);
  };
  const std::int64_t majority = *std::max_element(
      values.begin(), values.end(), [&](auto a, auto b) { return count(a) < count(b); });
  if (2 * count(majority) <= static_cast<std::ptrdiff_t>(values.size()))
    return values.size() == 2 ? "ranks 0 and 1 differ, and one of them is wrong"
                              : "the ranks differ, and no value has a majority";
  std::string wrong;
  for (std::size_t rank = 0; rank < values.size(); ++rank)
    if (values[rank] != majority) wrong += concat(wrong.empty() ? "rank " : ", ", rank);
  return wrong + " differs from the other ranks";
}

/// Throws the error of check_replicas for the first value that is not the same on all ranks.
void report_difference(Communicator& communicator, const std::vector<std::string>& names,
                       const std::vector<std::int64_t>& own) {
  const std::vector<std::int64_t> all = gather(communicator, own);
  for (std::size_t i = 0; i < own.size(); ++i) {
    std::vector<std::int64_t> values;
    for (int rank = 0; rank < communicator.world_size(); ++rank)
      values.push_back(all[rank * own.size() + i]);
    if (all_equal(values)) continue;
    throw SystemError(concat("replicas: ", names[i], ": must be the same on all ranks; ",
                             describe_difference(values),
                             "; suspect faulty memory, and resume from a checkpoint"));
  }
}

}  // namespace

void check_replicas(Communicator& communicator, const std::function<void(StateVisitor&)>& visit,
                    const std::function<void(StateVisitor&)>& visit_parts) {
  if (communicator.world_size() == 1) return;
  DigestVisitor whole;
  visit(whole);
  const std::vector<std::int64_t>& own = whole.values();
  const auto all = digest_of(own.data(), static_cast<std::int64_t>(own.size() * sizeof own[0]));
  if (all_equal(gather(communicator, {static_cast<std::int64_t>(all.low)}))) return;
  for (const auto& detail : {visit_parts, visit}) {
    DigestVisitor digests;
    detail(digests);
    report_difference(communicator, digests.names(), digests.values());
  }
}

}  // namespace smoe
