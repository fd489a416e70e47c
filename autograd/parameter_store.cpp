#include "autograd/parameter_store.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <thread>

#include "core/device.h"
#include "core/host_chunks.h"
#include "core/random.h"
#include "core/state.h"
#include "kernels/elementwise.h"
#include "kernels/threads.h"

namespace smoe {
namespace {

// In elements: parameters are aligned to 256 bytes in f32 and 128 bytes in bf16, which is whole
// cache lines and more than vector loads and TMA require.
constexpr std::int64_t kAlignment = 64;

std::int64_t aligned(std::int64_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

// Calls task(begin, end) on all cores for equal parts of [0, n), whose sizes are even except for
// the last.
template <class F>
void on_all_cores(std::int64_t n, F&& task) {
  constexpr std::int64_t kMinPart = 1 << 14;  // below it a thread costs more than it saves
  const std::int64_t cores = kernels::cpu::num_threads();
  const std::int64_t part = std::max(kMinPart, (n / cores + 2) / 2 * 2);
  std::vector<std::thread> threads;
  std::int64_t begin = part;
  try {
    for (; begin < n; begin += part)
      threads.emplace_back([&task, begin, end = std::min(begin + part, n)] { task(begin, end); });
  } catch (const std::system_error&) {  // no more threads can be started
    task(begin, n);
  }
  task(0, std::min(part, n));
  for (std::thread& thread : threads) thread.join();
}

// Fills a tensor with std times the stream's normals, drawn on the host: the same weights on any
// device.
void draw_normals(const Tensor& weights, double std, const RandomStream& stream) {
  dispatch_floating(weights.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr std::int64_t kSize = sizeof(T);
    fill_by_host_chunks(weights, [&](std::int64_t offset, void* data, std::int64_t bytes) {
      T* const values = static_cast<T*>(data);
      on_all_cores(bytes / kSize, [&](std::int64_t begin, std::int64_t end) {
        RandomStream own = stream;
        own.skip_to_normal(offset / kSize + begin);
        for (std::int64_t i = begin; i < end; ++i) values[i] = T(std * own.normal());
      });
    });
  });
}

}  // namespace

ParameterStore::ParameterStore(std::vector<Parameter*> parameters, const Options& options)
    : parameters_(std::move(parameters)), options_(options) {
  const bool dtypes_fit = (options.master == DType::f32 || options.master == DType::f64) &&
                          (options.compute == options.master ||
                           (options.compute == DType::bf16 && options.master == DType::f32));
  SMOE_CHECK(dtypes_fit, "parameter_store: master must be f32 or f64, compute the same or bf16 ",
             "with f32; got ", name_of(options.master), " and ", name_of(options.compute));
  std::set<std::string> names;
  for (const Parameter* parameter : parameters_) {
    SMOE_CHECK(!parameter->store_, "parameter ", parameter->name(),
               ": already in a ParameterStore");
    for (const ParameterPart& part : parameter->parts())
      SMOE_CHECK(names.insert(part.name).second, "parameter_store: two parameters are named ",
                 part.name);
  }
  std::reverse(parameters_.begin(), parameters_.end());
  allocate();
  if (options.trains) initialize(options.seed);
}

void ParameterStore::allocate() {
  std::int64_t total = 0;
  for (const Parameter* parameter : parameters_) {
    offsets_.push_back(total);
    const bool joins = !ranges_.empty() && ranges_.back().decays == parameter->decays() &&
                       ranges_.back().offset + ranges_.back().numel == total;
    if (joins)
      ranges_.back().numel += parameter->numel();
    else
      ranges_.push_back({total, parameter->numel(), parameter->decays()});
    total = aligned(total + parameter->numel());
  }
  master_ = Tensor::zeros({total}, options_.master, Category::parameters);
  compute_ = options_.compute == options_.master
                 ? master_
                 : Tensor::zeros({total}, options_.compute, Category::parameters);
  if (options_.trains) gradient_ = Tensor::zeros({total}, options_.master, Category::gradients);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = *parameters_[i];
    parameter.store_ = this;
    parameter.master_ = master_.view(offsets_[i], parameter.shape());
    parameter.value_ = parameter.full_precision() ? parameter.master_
                                                  : compute_.view(offsets_[i], parameter.shape());
    if (options_.trains) parameter.gradient_ = gradient_.view(offsets_[i], parameter.shape());
  }
}

void ParameterStore::initialize(std::uint64_t seed) {
  for (const Parameter* parameter : parameters_) {
    const Init& init = parameter->init();
    if (init.kind == Init::Kind::normal)
      draw_normals(parameter->master_, init.value,
                   RandomStream(seed, hash_name(parameter->name())));
    else
      kernels::fill(launch(),
                    {parameter->master_.data(), options_.master, parameter->numel(), init.value});
  }
  refresh_compute();
}

std::int64_t ParameterStore::offset_of(const Parameter& parameter) const {
  const auto at = std::find(parameters_.begin(), parameters_.end(), &parameter);
  SMOE_CHECK(at != parameters_.end(), "parameter_store: ", parameter.name(),
             " is not in this store");
  return offsets_[at - parameters_.begin()];
}

std::int64_t ParameterStore::num_elements() const {
  std::int64_t sum = 0;
  for (const Parameter* parameter : parameters_) sum += parameter->numel();
  return sum;
}

void ParameterStore::begin_step() {
  for (Parameter* parameter : parameters_) parameter->has_gradient_ = false;
  if (hooks_.begin) hooks_.begin();
}

void ParameterStore::finish_step() {
  is_last_backward_ = false;
  for (Parameter* parameter : parameters_) zero_if_unwritten(*parameter);
  if (hooks_.finish) hooks_.finish();
}

void ParameterStore::zero_if_unwritten(Parameter& parameter) {
  if (parameter.claim_gradient() == 0)
    kernels::fill(launch(), {parameter.gradient_.data(), options_.master, parameter.numel(), 0.0});
}

void ParameterStore::refresh_compute() {
  if (compute_.shares_storage(master_)) return;
  kernels::scale(launch(), {master_.data(), options_.master, compute_.data(), options_.compute,
                            master_.numel()});
}

void ParameterStore::visit_state(StateVisitor& visitor) {
  visit_buffer(visitor, "", master_);
}

void ParameterStore::visit_buffer(StateVisitor& visitor, std::string_view prefix,
                                  const Tensor& buffer) const {
  SMOE_CHECK(buffer.shape() == master_.shape(), "parameter_store: a buffer must be ",
             master_.shape(), "; got ", buffer.shape());
  for_each_part([&](const ParameterPart& part, std::int64_t offset) {
    Tensor view = buffer.view(offset, part.shape);
    visitor.tensor(concat(prefix, part.name), view);
  });
}

void ParameterStore::for_each_part(
    const std::function<void(const ParameterPart&, std::int64_t)>& f) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    std::int64_t offset = offsets_[i];
    for (const ParameterPart& part : parameters_[i]->parts()) {
      f(part, offset);
      offset += part.shape.numel();
    }
  }
}

void ParameterStore::use_ended(Parameter& parameter) {
  if (--parameter.pending_uses_ > 0 || !is_last_backward_ || !hooks_.complete) return;
  zero_if_unwritten(parameter);
  hooks_.complete(parameter);
}

}  // namespace smoe
