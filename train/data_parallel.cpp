#include "train/data_parallel.h"

#include <algorithm>

#include "core/device.h"
#include "optim/clip.h"

namespace smoe {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

// On GPUs a collective kernel waits for a running kernel to leave it SMs; few large buckets wait
// less often.
constexpr std::int64_t kGpuBucketMib = 256, kCpuBucketMib = 32;

std::int64_t bucket_mib(const ParallelConfig& config, Device device) {
  if (config.bucket_mb > 0) return config.bucket_mb;
  return device.type == DeviceType::cuda ? kGpuBucketMib : kCpuBucketMib;
}

/// Buckets of at most `mib` MiB, each a whole number of cache lines per rank except for the last.
std::vector<Range> make_buckets(std::int64_t numel, std::int64_t mib, DType dtype, int world_size) {
  const std::int64_t unit = std::int64_t{64} * world_size;
  const std::int64_t size = std::max<std::int64_t>(mib * kMiB / size_of(dtype) / unit, 1) * unit;
  std::vector<Range> buckets;
  for (std::int64_t begin = 0; begin < numel; begin += size)
    buckets.push_back({begin, std::min(begin + size, numel)});
  return buckets;
}

bool shards_optimizer(const ParallelConfig& config, Communicator& communicator) {
  return config.zero && communicator.world_size() > 1;
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
      is_sharded_(shards_optimizer(config, communicator)),
      buckets_(make_buckets(store.gradient().numel(), bucket_mib(config, store.gradient().device()),
                            store.gradient().dtype(), communicator.world_size())),
      shards_(buckets_, communicator.rank(), communicator.world_size()),
      num_parameters_(buckets_.size()) {
  if (communicator.world_size() == 1) return;
  for (const Parameter* parameter : store.trained()) {
    const auto [first, last] = buckets_of(*parameter);
    for (std::size_t b = first; b <= last; ++b) ++num_parameters_[b];
  }
  store.set_gradient_hooks(
      {.begin = [this] { begin_step(); },
       .complete = [this](const Parameter& parameter) { gradient_complete(parameter); },
       .finish = [this] { finish_step(); }});
  store.set_await_value([this](const Parameter& parameter) { await_value(parameter); });
}

std::vector<Range> DataParallel::own_elements(std::int64_t numel, DType gradient,
                                              Communicator& communicator,
                                              const ParallelConfig& config) {
  if (!shards_optimizer(config, communicator)) return {{0, numel}};
  const int world_size = communicator.world_size();
  const Shards shards(
      make_buckets(numel, bucket_mib(config, current_stream().device()), gradient, world_size),
      communicator.rank(), world_size);
  return {shards.own().begin(), shards.own().end()};
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
  await_values();  // those that no op has read
}

Tensor DataParallel::gradient_sum_of_squares() const {
  if (world_size() == 1) return sum_of_squares(store_.gradient());
  // One term per part of a bucket, so that the order of summation does not depend on sharding.
  const auto num_terms = static_cast<std::int64_t>(buckets_.size()) * world_size();
  const Tensor terms = Tensor::zeros({num_terms}, DType::f64, Category::workspace);
  sum_of_squares(store_.gradient(), shards_.own(), terms.view(rank(), {num_terms - rank()}),
                 world_size());
  sum(terms);
  return sequential_sum(terms);
}

void DataParallel::start_weight_gather() {
  if (!is_sharded_) return;
  await_values();
  const Tensor& compute = store_.compute();
  // Small, and read by the first ops; their place among the compute weights is not read.
  std::vector<RootedTensor> full_precision;
  if (store_.is_split())
    for (const Parameter* parameter : store_.trained()) {
      if (!parameter->full_precision()) continue;
      const std::int64_t begin = store_.offset_of(*parameter);
      for (const auto& [range, rank] : shards_.owners_of({begin, begin + parameter->numel()}))
        full_precision.push_back({store_.value_elements(*parameter, range), rank});
    }
  gathers_.resize(buckets_.size() + 1);
  if (!full_precision.empty()) gathers_.back() = communicator_.broadcast_each(full_precision);
  for (std::size_t b = buckets_.size(); b-- > 0;)
    gathers_[b] = communicator_.all_gather(elements(compute, buckets_[b]));
  num_gathers_ = static_cast<std::int64_t>(buckets_.size()) + !full_precision.empty();
  store_.set_values_pending(true);
}

void DataParallel::await_value(const Parameter& parameter) {
  if (!parameter.trains()) return;  // never on its way
  if (parameter.full_precision() && gathers_.back()) return await(gathers_.back());
  if (parameter.full_precision() && store_.is_split()) return;
  const auto [first, last] = buckets_of(parameter);
  for (std::size_t b = first; b <= last; ++b)
    if (gathers_[b]) await(gathers_[b]);
}

void DataParallel::await(CollectiveHandle& gather) {
  gather->wait();
  gather.reset();
  if (--num_gathers_ == 0) store_.set_values_pending(false);
}

void DataParallel::await_values() {
  for (CollectiveHandle& gather : gathers_)
    if (gather) await(gather);
}

void DataParallel::sum(const Tensor& values) const {
  if (world_size() > 1) communicator_.all_reduce(values)->wait();
}

void DataParallel::sum(std::vector<double>& values) const {
  if (world_size() == 1) return;
  const Stream host_stream;
  const StreamGuard host(host_stream);
  const auto numel = static_cast<std::int64_t>(values.size());
  const Tensor tensor = Tensor::from(values, {numel}, Category::workspace);
  sum(tensor);
  values = tensor.to_vector<double>();
}

}  // namespace smoe
