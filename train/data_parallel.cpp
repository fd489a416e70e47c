#include "train/data_parallel.h"

#include <algorithm>

#include "optim/clip.h"

namespace smoe {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

/// Runs of `mib` MiB or a little less, whose parts for each rank are equal, but for the last's.
std::vector<Range> cut(std::int64_t numel, std::int64_t mib, DType dtype, int world_size) {
  const std::int64_t unit = std::int64_t{64} * world_size;
  const std::int64_t size = std::max<std::int64_t>(mib * kMiB / size_of(dtype) / unit, 1) * unit;
  std::vector<Range> buckets;
  for (std::int64_t begin = 0; begin < numel; begin += size)
    buckets.push_back({begin, std::min(begin + size, numel)});
  return buckets;
}

Tensor elements(const Tensor& arena, const Range& part) {
  return arena.view(part.begin, {part.numel()});
}

void wait_for(std::vector<CollectiveHandle>& work) {
  for (const CollectiveHandle& one : work) one->wait();
  work.clear();
}

}  // namespace

DataParallel::DataParallel(ParameterStore& store, Communicator& ranks, const ParallelConfig& config)
    : store_(store),
      ranks_(ranks),
      is_sharded_(config.zero && ranks.world_size() > 1),
      buckets_(cut(store.gradient().numel(), config.bucket_mb, store.gradient().dtype(),
                   ranks.world_size())),
      shards_(buckets_, ranks),
      optimizer_shards_(is_sharded_ ? shards_ : Shards(store.gradient().numel())),
      parameters_in_(buckets_.size()) {
  if (ranks.world_size() == 1) return;
  for (const Parameter* parameter : store.parameters()) {
    const auto [first, last] = buckets_of(*parameter);
    for (std::size_t b = first; b <= last; ++b) ++parameters_in_[b];
  }
  store.set_gradient_hook([this](const Parameter& parameter) { gradient_complete(parameter); });
}

std::pair<std::size_t, std::size_t> DataParallel::buckets_of(const Parameter& parameter) const {
  const std::int64_t size = buckets_.front().numel(), begin = store_.offset_of(parameter);
  return {begin / size, (begin + parameter.numel() - 1) / size};
}

void DataParallel::begin_step() {
  missing_in_ = parameters_in_;
  work_.clear();
}

void DataParallel::gradient_complete(const Parameter& parameter) {
  const auto [first, last] = buckets_of(parameter);
  for (std::size_t b = first; b <= last; ++b) {
    SMOE_INTERNAL_CHECK(missing_in_[b] > 0, "data_parallel: ", parameter.name(),
                        " was complete before");
    --missing_in_[b];
  }
  while (work_.size() < buckets_.size() && missing_in_[work_.size()] == 0) send_next();
}

void DataParallel::send_next() {
  const Tensor gradient = elements(store_.gradient(), buckets_[work_.size()]);
  work_.push_back(is_sharded_ ? ranks_.reduce_scatter(gradient) : ranks_.all_reduce(gradient));
}

void DataParallel::finish_gradients() {
  if (world_size() == 1) return;
  while (work_.size() < buckets_.size()) send_next();
  wait_for(work_);
}

Tensor DataParallel::sum_of_squares() const {
  if (world_size() == 1) return smoe::sum_of_squares(store_.gradient());
  // By piece, so that the order of adding up is the same whoever computes a piece.
  std::vector<double> squares(buckets_.size() * world_size());
  std::vector<Tensor> own;
  for (const Range& piece : shards_.own())
    own.push_back(smoe::sum_of_squares(elements(store_.gradient(), piece)));
  for (std::size_t i = 0; i < own.size(); ++i) squares[i * world_size() + rank()] = own[i].item();
  sum(squares);
  double total = 0;
  for (const double one : squares) total += one;
  return Tensor::from<double>({total}, {1}, Category::workspace);
}

void DataParallel::gather_parameters() {
  if (!is_sharded_) return;
  std::vector<CollectiveHandle> work;
  for (const Range& bucket : buckets_)
    work.push_back(ranks_.all_gather(elements(store_.master(), bucket)));
  wait_for(work);
  store_.refresh_compute();
}

void DataParallel::sum(std::span<const Tensor> tensors) const {
  if (world_size() == 1 || tensors.empty()) return;
  std::int64_t numel = 0;
  for (const Tensor& tensor : tensors) numel += tensor.numel();
  const Tensor packed = Tensor::empty({numel}, tensors.front().dtype(), Category::workspace);
  const auto for_each_place = [&](auto&& copy) {
    std::int64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      copy(tensor, packed.view(offset, tensor.shape()));
      offset += tensor.numel();
    }
  };
  for_each_place([](const Tensor& tensor, const Tensor& place) { place.copy_from(tensor); });
  ranks_.all_reduce(packed)->wait();
  for_each_place([](const Tensor& tensor, const Tensor& place) { tensor.copy_from(place); });
}

void DataParallel::sum(std::vector<double>& values) const {
  if (world_size() == 1) return;
  const auto numel = static_cast<std::int64_t>(values.size());
  const Tensor tensor = Tensor::from(values, {numel}, Category::workspace);
  ranks_.all_reduce(tensor)->wait();
  values = tensor.to_vector<double>();
}

}  // namespace smoe
