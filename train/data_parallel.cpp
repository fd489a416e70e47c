#include "train/data_parallel.h"

#include <algorithm>

#include "optim/clip.h"

namespace smoe {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

/// Buckets of at most `mib` MiB, each a whole number of cache lines per rank except for the last.
std::vector<Range> make_buckets(std::int64_t numel, std::int64_t mib, DType dtype, int world_size) {
  const std::int64_t unit = std::int64_t{64} * world_size;
  const std::int64_t size = std::max<std::int64_t>(mib * kMiB / size_of(dtype) / unit, 1) * unit;
  std::vector<Range> buckets;
  for (std::int64_t begin = 0; begin < numel; begin += size)
    buckets.push_back({begin, std::min(begin + size, numel)});
  return buckets;
}

Tensor elements(const Tensor& buffer, const Range& part) {
  return buffer.view(part.begin, {part.numel()});
}

void wait_for(std::vector<CollectiveHandle>& work) {
  for (const CollectiveHandle& one : work) one->wait();
  work.clear();
}

}  // namespace

DataParallel::DataParallel(ParameterStore& store, Communicator& communicator,
                           const ParallelConfig& config)
    : store_(store),
      communicator_(communicator),
      is_sharded_(config.zero && communicator.world_size() > 1),
      buckets_(make_buckets(store.gradient().numel(), config.bucket_mb, store.gradient().dtype(),
                            communicator.world_size())),
      shards_(buckets_, communicator),
      optimizer_shards_(is_sharded_ ? shards_ : Shards(store.gradient().numel())),
      num_parameters_(buckets_.size()) {
  if (communicator.world_size() == 1) return;
  for (const Parameter* parameter : store.parameters()) {
    const auto [first, last] = buckets_of(*parameter);
    for (std::size_t b = first; b <= last; ++b) ++num_parameters_[b];
  }
  store.set_gradient_hooks(
      {.begin = [this] { begin_step(); },
       .complete = [this](const Parameter& parameter) { gradient_complete(parameter); },
       .finish = [this] { finish_step(); }});
}

std::pair<std::size_t, std::size_t> DataParallel::buckets_of(const Parameter& parameter) const {
  const std::int64_t size = buckets_.front().numel(), begin = store_.offset_of(parameter);
  return {begin / size, (begin + parameter.numel() - 1) / size};
}

void DataParallel::begin_step() {
  num_incomplete_ = num_parameters_;
  reductions_.clear();
}

void DataParallel::gradient_complete(const Parameter& parameter) {
  const auto [first, last] = buckets_of(parameter);
  for (std::size_t b = first; b <= last; ++b) {
    SMOE_INTERNAL_CHECK(num_incomplete_[b] > 0, "data_parallel: ", parameter.name(),
                        " completed twice");
    --num_incomplete_[b];
  }
  while (reductions_.size() < buckets_.size() && num_incomplete_[reductions_.size()] == 0)
    reduce_next();
}

void DataParallel::reduce_next() {
  const Tensor gradient = elements(store_.gradient(), buckets_[reductions_.size()]);
  reductions_.push_back(is_sharded_ ? communicator_.reduce_scatter(gradient)
                                    : communicator_.all_reduce(gradient));
}

void DataParallel::finish_step() {
  while (reductions_.size() < buckets_.size()) reduce_next();
  wait_for(reductions_);
}

Tensor DataParallel::sum_of_squares() const {
  if (world_size() == 1) return smoe::sum_of_squares(store_.gradient());
  // One term per part of a bucket, so that the order of summation does not depend on sharding.
  std::vector<double> squares(buckets_.size() * world_size());
  std::vector<Tensor> own;
  for (const Range& part : shards_.own())
    own.push_back(smoe::sum_of_squares(elements(store_.gradient(), part)));
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
    work.push_back(communicator_.all_gather(elements(store_.master(), bucket)));
  wait_for(work);
  store_.refresh_compute();
}

void DataParallel::sum(const Tensor& values) const {
  if (world_size() > 1) communicator_.all_reduce(values)->wait();
}

void DataParallel::sum(std::vector<double>& values) const {
  if (world_size() == 1) return;
  const auto numel = static_cast<std::int64_t>(values.size());
  const Tensor tensor = Tensor::from(values, {numel}, Category::workspace);
  sum(tensor);
  values = tensor.to_vector<double>();
}

}  // namespace smoe
