#include "kernels/cost.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace smoe;

namespace {

ConstMatrix matrix(std::int64_t rows, std::int64_t cols, DType dtype = DType::bf16) {
  static const char data = 0;
  return {&data, dtype, rows, cols, cols};
}
Matrix output(std::int64_t rows, std::int64_t cols, DType dtype = DType::bf16) {
  static char data = 0;
  return {&data, dtype, rows, cols, cols};
}

// Notes what it sees.
class Notes : public Instrument {
 public:
  void begin_kernel(const Launch&, const char* name, const Cost& cost) override {
    lines.push_back(std::string("begin ") + name);
    last = cost;
  }
  void end_kernel(const Launch&) override { lines.emplace_back("end"); }
  void end_op(const char*, const char*) override {}
  void begin_place(const Place&) override {}
  void end_place() override {}
  void begin_wait() override {}
  void end_wait() override {}

  std::vector<std::string> lines;
  Cost last;
};

}  // namespace

TEST_CASE("the cost of a GEMM counts both operands, and a result that is read too twice") {
  kernels::GemmArgs args{
      .a = matrix(5, 7), .transpose_a = true, .b = matrix(5, 3), .c = output(7, 3, DType::f32)};
  CHECK(kernels::cost_of(args).flops == 2 * 7 * 3 * 5);
  CHECK(kernels::cost_of(args).bytes == 2 * (35 + 15) + 4 * 21);
  args.beta = 1;
  CHECK(kernels::cost_of(args).bytes == 2 * (35 + 15) + 8 * 21);
}

TEST_CASE("the cost of a projection with rotary embedding is that of its GEMM") {
  const Matrix y = output(6, 8);
  const kernels::RotaryGemmArgs args{
      .x = matrix(6, 5),
      .weight = matrix(8, 5),
      .rotary = {
          .source = y, .target = y, .shape = {2, 3, 2, 1, 2}, .theta = 10000, .inverse = false}};
  CHECK(kernels::cost_of(args).flops == 2 * 6 * 8 * 5);
  CHECK(kernels::cost_of(args).bytes == 2 * (30 + 40 + 48));
}

TEST_CASE("the cost of an optimizer step follows from the dtypes of what it reads and writes") {
  const kernels::AdamwRange range{
      .weight = 0, .gradient = 0, .moment = 0, .numel = 10, .weight_decay = 0};
  kernels::AdamwArgs args{};
  args.dtype = args.gradient_dtype = args.moment_dtype = DType::f32;
  args.ranges = {&range, 1};
  CHECK(kernels::cost_of(args).bytes == 10 * (4 + 2 * 4 + 4 * 4));
  args.moment_dtype = DType::bf16;
  CHECK(kernels::cost_of(args).bytes == 10 * (4 + 2 * 4 + 4 * 2));
  args.gradient_dtype = DType::bf16;
  CHECK(kernels::cost_of(args).bytes == 10 * (2 + 2 * 4 + 4 * 2));
}

TEST_CASE("the cost of splitting and joining masters counts the halves that are there") {
  std::uint16_t remainders[10] = {};
  kernels::SplitMastersArgs split{};
  split.numel = 10;
  CHECK(kernels::cost_of(split).bytes == 10 * (4 + 2));
  split.remainders = remainders;
  CHECK(kernels::cost_of(split).bytes == 10 * (4 + 2 + 2));
  kernels::JoinMastersArgs join{};
  join.numel = 10;
  CHECK(kernels::cost_of(join).bytes == 10 * (4 + 2));
  join.remainders = remainders;
  CHECK(kernels::cost_of(join).bytes == 10 * (4 + 2 + 2));
}

TEST_CASE("the cost of expert kernels follows from the routed rows") {
  const kernels::RoutingView routing{.num_tokens = 6,
                                     .top_k = 2,
                                     .num_experts = 4,
                                     .sorted_scattered_ids = nullptr,
                                     .grouped_rows = nullptr,
                                     .expert_offsets = nullptr};
  const kernels::ExpertUpArgs up{.routing = routing,
                                 .x = matrix(6, 8),
                                 .w1 = {nullptr, DType::bf16, 10, 8},
                                 .kind = kernels::Activation::swiglu,
                                 .gates = nullptr,
                                 .h = Matrix{},
                                 .a = output(12, 5)};
  CHECK(kernels::cost_of(up).flops == 2 * 12 * 10 * 8);
  CHECK(kernels::cost_of(up).bytes == 2 * (6 * 8 + 4 * 10 * 8 + 12 * 5) + 4 * 12);
  kernels::ExpertGradientArgs gradient{.routing = routing,
                                       .dy = {matrix(12, 10), kernels::RowLayout::grouped},
                                       .x = {matrix(6, 8), kernels::RowLayout::scattered},
                                       .dtype = DType::f32,
                                       .dweight = nullptr,
                                       .beta = 1};
  CHECK(kernels::cost_of(gradient).flops == 2 * 12 * 10 * 8);
  CHECK(kernels::cost_of(gradient).bytes == 2 * (12 * 10 + 6 * 8) + 2 * 4 * 4 * 10 * 8);
  gradient.dtype = DType::bf16;
  CHECK(kernels::cost_of(gradient).bytes == 2 * (12 * 10 + 6 * 8) + 2 * 2 * 4 * 10 * 8);
}

TEST_CASE("attention backward costs 2.5 times the forward") {
  const kernels::AttentionShape shape{
      .batch = 2, .seq_len = 8, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
  const Cost forward = kernels::cost_of(kernels::AttentionArgs{.q = matrix(16, 64),
                                                               .kv = matrix(16, 64),
                                                               .output = output(16, 64),
                                                               .logsumexp = nullptr,
                                                               .shape = shape});
  CHECK(forward.flops == 4.0 * 16 * 64 * 4);
  const Cost backward = kernels::cost_of(kernels::AttentionBackwardArgs{.q = matrix(16, 64),
                                                                        .kv = matrix(16, 64),
                                                                        .output = matrix(16, 64),
                                                                        .doutput = matrix(16, 64),
                                                                        .logsumexp = nullptr,
                                                                        .dq = output(16, 64),
                                                                        .dkv = output(16, 64),
                                                                        .shape = shape});
  CHECK(backward.flops == 2.5 * forward.flops);
}

TEST_CASE("an instrument sees each launch with its cost, on a dry device too") {
  Notes notes;
  float value[3] = {0, 0, 0};
  const kernels::FillArgs fill{value, DType::f32, 3, 1.0};
  {
    const InstrumentScope scope(notes);
    kernels::fill({}, fill);
    kernels::fill({.device = {DeviceType::dry_cpu, 0}}, {value, DType::f32, 3, 2.0});
  }
  kernels::fill({}, fill);
  CHECK(notes.lines == std::vector<std::string>{"begin fill", "end", "begin fill", "end"});
  CHECK(notes.last.bytes == 12);
  CHECK(value[2] == 1);
}
