// The only file that includes cudnn-frontend's headers, which take a minute to compile. The
// execution plans of a shape and device are built once and cached.
#include "kernels/cuda/cudnn_attention.h"

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/base/dynamic_library.h"
#include "kernels/attention_order.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace smoe::kernels::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using fe::graph::Tensor_attributes;
using TensorPointer = std::shared_ptr<Tensor_attributes>;

enum Id : std::int64_t { kQ = 1, kK, kV, kOutput, kStats, kDOutput, kDQ, kDK, kDV };

// Throw errors as exceptions.
void check(fe::error_t error) {
  if (error.is_bad()) throw SystemError(concat("attention: cuDNN: ", error.get_message()));
}
void check(cudnnStatus_t status) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw SystemError(concat("attention: cuDNN: ", fe::detail::get_error_string(status)));
}

struct ExecutionPlan {
  Graph graph;
  std::int64_t workspace_bytes = 0;

  void build(cudnnHandle_t handle) {
    check(graph.build(handle, {fe::HeurMode_t::A}));
    check(graph.get_workspace_size(workspace_bytes));
  }
  void run(cudnnHandle_t handle, std::unordered_map<std::int64_t, void*> tensors, void* workspace) {
    check(graph.execute(handle, tensors, workspace));
  }
};

// The heads that one run reads: all, or, as cuDNN knows no interleaved heads, those of one key
// head.
struct RunHeads {
  std::int64_t num_heads, num_kv_heads;
  std::int64_t step;  // from one query head to the next
  std::int64_t num_runs;

  explicit RunHeads(const AttentionShape& shape)
      : num_heads(shape.is_interleaved ? shape.group_size() : shape.num_heads),
        num_kv_heads(shape.is_interleaved ? 1 : shape.num_kv_heads),
        step(shape.is_interleaved ? shape.num_kv_heads : 1),
        num_runs(shape.is_interleaved ? shape.num_kv_heads : 1) {}
};

// A [B, count, S, C] view of every `step`-th head in rows [B*S, stride].
Tensor_attributes heads(const char* name, Id id, const AttentionShape& shape, std::int64_t count,
                        std::int64_t step, std::int64_t stride) {
  return Tensor_attributes()
      .set_name(name)
      .set_uid(id)
      .set_dim({shape.batch, count, shape.seq_len, shape.head_dim})
      .set_stride({shape.seq_len * stride, step * shape.head_dim, stride, 1});
}

// Packed: cuDNN 9.19 reads no other strides in the backward.
Tensor_attributes logsumexp(const AttentionShape& shape) {
  const RunHeads run(shape);
  return Tensor_attributes()
      .set_name("logsumexp")
      .set_uid(kStats)
      .set_dim({shape.batch, run.num_heads, shape.seq_len, 1})
      .set_stride({run.num_heads * shape.seq_len, shape.seq_len, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

void set_output(const TensorPointer& output, const Tensor_attributes& like) {
  output->set_output(true)
      .set_uid(like.get_uid())
      .set_dim(like.get_dim())
      .set_stride(like.get_stride())
      .set_data_type(like.get_data_type());
}

float score_scale(const AttentionShape& shape) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
}

void set_types(Graph& graph) {
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
}

// The plans for forward and backward of one shape.
struct AttentionPlans {
  CudnnAttentionSizes sizes;
  ExecutionPlan forward, backward;

  AttentionPlans(cudnnHandle_t handle, const CudnnAttentionSizes& sizes) : sizes(sizes) {
    build_forward(handle);
    build_backward(handle);
  }

 private:
  struct Operands {
    TensorPointer q, k, v;
  };
  Operands operands(Graph& graph) const {
    return {graph.tensor(queries("q", kQ, sizes.q_stride)), graph.tensor(keys("k", kK)),
            graph.tensor(keys("v", kV))};
  }
  Tensor_attributes queries(const char* name, Id id, std::int64_t stride) const {
    const RunHeads run(sizes.shape);
    return heads(name, id, sizes.shape, run.num_heads, run.step, stride);
  }
  Tensor_attributes keys(const char* name, Id id) const {
    return heads(name, id, sizes.shape, RunHeads(sizes.shape).num_kv_heads, 1, sizes.kv_stride);
  }
  Tensor_attributes output(const char* name, Id id) const {
    return queries(name, id, sizes.output_stride);
  }

  void build_forward(cudnnHandle_t handle) {
    Graph& graph = forward.graph;
    set_types(graph);
    const auto [q, k, v] = operands(graph);
    auto [o, stats] = graph.sdpa(q, k, v,
                                 fe::graph::SDPA_attributes()
                                     .set_name("attention")
                                     .set_generate_stats(true)
                                     .set_causal_mask(true)
                                     .set_attn_scale(score_scale(sizes.shape)));
    set_output(o, output("output", kOutput).set_data_type(fe::DataType_t::BFLOAT16));
    set_output(stats, logsumexp(sizes.shape));
    forward.build(handle);
  }

  void build_backward(cudnnHandle_t handle) {
    Graph& graph = backward.graph;
    set_types(graph);
    const AttentionShape& s = sizes.shape;
    const auto [q, k, v] = operands(graph);
    const TensorPointer o = graph.tensor(output("output", kOutput));
    const TensorPointer doutput = graph.tensor(output("doutput", kDOutput));
    const TensorPointer stats = graph.tensor(logsumexp(s));
    auto [dq, dk, dv] =
        graph.sdpa_backward(q, k, v, o, doutput, stats,
                            fe::graph::SDPA_backward_attributes()
                                .set_name("attention_backward")
                                .set_causal_mask(true)
                                .set_attn_scale(score_scale(s))
                                .set_deterministic_algorithm(sizes.is_deterministic));
    const auto bf16 = fe::DataType_t::BFLOAT16;
    set_output(dq, queries("dq", kDQ, sizes.q_stride).set_data_type(bf16));
    set_output(dk, keys("dk", kDK).set_data_type(bf16));
    set_output(dv, keys("dv", kDV).set_data_type(bf16));
    backward.build(handle);
  }
};

// One device's handle and cached plans.
class Cudnn {
 public:
  // Null if cuDNN is not available.
  static Cudnn* of_device(int device) {
    static std::mutex& mutex = *new std::mutex;
    static auto& all = *new std::unordered_map<int, std::unique_ptr<Cudnn>>;
    const std::lock_guard lock(mutex);
    const auto [entry, is_new] = all.try_emplace(device);
    if (is_new) {
      if (!fe::cudnn_dlhandle) fe::cudnn_dlhandle = DynamicLibrary::open("libcudnn.so.9");
      if (fe::cudnn_dlhandle) entry->second.reset(new Cudnn);
    }
    return entry->second.get();
  }

  // Builds the plans on the first call for `sizes`. Null if cuDNN does not support them.
  AttentionPlans* find(const CudnnAttentionSizes& sizes) {
    const std::lock_guard lock(mutex_);
    for (const Entry& entry : entries_)
      if (entry.sizes == sizes) return entry.plans.get();
    Entry entry{sizes, nullptr};
    try {
      entry.plans = std::make_unique<AttentionPlans>(handle_, sizes);
    } catch (const std::exception&) {
      // cuDNN does not support this shape: the entry remains null.
    }
    entries_.push_back(std::move(entry));
    return entries_.back().plans.get();
  }

  void run(ExecutionPlan& plan, std::unordered_map<std::int64_t, void*> tensors, void* workspace,
           void* stream) {
    const std::lock_guard lock(mutex_);
    check(fe::detail::set_stream(handle_, static_cast<cudaStream_t>(stream)));
    plan.run(handle_, std::move(tensors), workspace);
  }

 private:
  struct Entry {
    CudnnAttentionSizes sizes;
    std::unique_ptr<AttentionPlans> plans;
  };

  Cudnn() { check(fe::detail::create_handle(&handle_)); }

  std::mutex mutex_;
  cudnnHandle_t handle_ = nullptr;
  std::vector<Entry> entries_;
};

AttentionPlans* plans_for(const Launch& launch, const CudnnAttentionSizes& sizes) {
  Cudnn* const cudnn = Cudnn::of_device(launch.device.index);
  return cudnn ? cudnn->find(sizes) : nullptr;
}

// The columns of one run in a matrix of heads. The first query head of run i is head i.
void* head_at(const ConstMatrix& m, const AttentionShape& shape, std::int64_t head) {
  return const_cast<void*>(m.columns(head * shape.head_dim, shape.head_dim).data);
}
void* value_head_at(const ConstMatrix& kv, const AttentionShape& shape, std::int64_t head) {
  return head_at(kv, shape, shape.num_kv_heads + head);
}
void* logsumexp_at(const void* logsumexp, const AttentionShape& shape, std::int64_t head) {
  return const_cast<float*>(static_cast<const float*>(logsumexp) +
                            first_query_number(shape, 0, head));
}

}  // namespace

std::string cudnn_version(const Launch& launch) {
  if (!Cudnn::of_device(launch.device.index)) return "";
  const std::size_t version = fe::detail::get_backend_version();  // 91900 is 9.19.0
  return concat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

bool cudnn_supports(const Launch& launch, const CudnnAttentionSizes& sizes) {
  return sizes.shape.num_tokens() > 0 && sizes.shape.head_dim % 8 == 0 &&
         plans_for(launch, sizes) != nullptr;
}

void cudnn_attention(const Launch& launch, const CudnnAttentionSizes& sizes,
                     const AttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  for (std::int64_t head = 0; head < RunHeads(shape).num_runs; ++head)
    Cudnn::of_device(launch.device.index)
        ->run(plans_for(launch, sizes)->forward,
              {{kQ, head_at(args.q, shape, head)},
               {kK, head_at(args.kv, shape, head)},
               {kV, value_head_at(args.kv, shape, head)},
               {kOutput, head_at(args.output, shape, head)},
               {kStats, logsumexp_at(args.logsumexp, shape, head)}},
              args.workspace, launch.stream);
}

std::int64_t cudnn_attention_workspace_bytes(const Launch& launch,
                                             const CudnnAttentionSizes& sizes) {
  return plans_for(launch, sizes)->forward.workspace_bytes;
}

void cudnn_attention_backward(const Launch& launch, const CudnnAttentionSizes& sizes,
                              const AttentionBackwardArgs& args) {
  const AttentionShape& shape = args.shape;
  for (std::int64_t head = 0; head < RunHeads(shape).num_runs; ++head)
    Cudnn::of_device(launch.device.index)
        ->run(plans_for(launch, sizes)->backward,
              {{kQ, head_at(args.q, shape, head)},
               {kK, head_at(args.kv, shape, head)},
               {kV, value_head_at(args.kv, shape, head)},
               {kOutput, head_at(args.output, shape, head)},
               {kDOutput, head_at(args.doutput, shape, head)},
               {kStats, logsumexp_at(args.logsumexp, shape, head)},
               {kDQ, head_at(args.dq, shape, head)},
               {kDK, head_at(args.dkv, shape, head)},
               {kDV, value_head_at(args.dkv, shape, head)}},
              args.workspace, launch.stream);
}

std::int64_t cudnn_attention_backward_workspace_bytes(const Launch& launch,
                                                      const CudnnAttentionSizes& sizes) {
  return plans_for(launch, sizes)->backward.workspace_bytes;
}

}  // namespace smoe::kernels::cuda
