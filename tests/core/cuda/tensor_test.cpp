#include "core/tensor.h"

#include <doctest/doctest.h>

#include <numeric>

#include "core/host_chunks.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// More than the pinned staging memory, and not a multiple of its buffers.
constexpr std::int64_t kMany = (std::int64_t{70} << 18) + 3;

std::vector<std::int32_t> counting(std::int64_t n) {
  std::vector<std::int32_t> values(n);
  std::iota(values.begin(), values.end(), 1);
  return values;
}

}  // namespace

TEST_CASE("tensors are copied to the GPU and back") {
  const StreamGuard guard(gpu_stream());
  for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1000}, kMany}) {
    const std::vector<std::int32_t> values = counting(n);
    const Tensor x = Tensor::from(values, {n});
    CHECK(to_string(x.device()) == "cuda:0");
    CHECK(x.to_vector<std::int32_t>() == values);
    const Tensor copy = x.clone(Category::activations);
    x.fill_zero();
    CHECK(copy.to_vector<std::int32_t>() == values);
    CHECK(x.to_vector<std::int32_t>() == std::vector<std::int32_t>(n, 0));
  }
  const Tensor rows = Tensor::from(counting(12), {4, 3}).rows(1, 3);
  CHECK(rows.to_vector<std::int32_t>() == std::vector<std::int32_t>{4, 5, 6, 7, 8, 9});
}

TEST_CASE("a GPU tensor can be read while the CPU stream is current") {
  Tensor x;
  {
    const StreamGuard guard(gpu_stream());
    x = tensor_of({2.5}, {1}, DType::bf16);
  }
  CHECK(x.item() == 2.5);
  CHECK(to_string(x.clone(Category::activations).device()) == "cpu");
}

TEST_CASE("chunks of a GPU tensor are read and written in order") {
  const StreamGuard guard(gpu_stream());
  const std::vector<std::int32_t> values = counting(kMany);
  const Tensor x = Tensor::from(values, {kMany});
  const Tensor copy = Tensor::empty({kMany}, DType::i32);
  std::vector<std::int32_t> read(kMany);
  std::int64_t next = 0, num_pieces = 0;
  for_each_host_chunk(x, [&](std::int64_t offset, const void* data, std::int64_t bytes) {
    CHECK(offset == next);
    std::memcpy(reinterpret_cast<char*>(read.data()) + offset, data, bytes);
    next += bytes;
    ++num_pieces;
  });
  CHECK(read == values);
  CHECK(num_pieces > 1);
  fill_by_host_chunks(copy, [&](std::int64_t offset, void* data, std::int64_t bytes) {
    std::memcpy(data, reinterpret_cast<const char*>(values.data()) + offset, bytes);
  });
  CHECK(copy.to_vector<std::int32_t>() == values);
}

TEST_CASE("memory is counted by device and poisoned on request") {
  const std::int64_t on_cpu = memory_use().now_bytes;
  const StreamGuard guard(gpu_stream());
  const std::int64_t before = memory_use(Category::optimizer).now_bytes;
  const PoisonGuard poison;
  const Tensor x = Tensor::empty({1000}, DType::f32, Category::optimizer);
  CHECK(memory_use(Category::optimizer).now_bytes == before + 4000);
  for (const float value : x.to_vector<float>()) CHECK(std::isnan(value));
  const Stream cpu;
  const StreamGuard on_the_cpu(cpu);
  CHECK(memory_use().now_bytes == on_cpu);
}

TEST_CASE("out of memory reports the request, the free bytes and the use by category") {
  const StreamGuard guard(gpu_stream());
  const Tensor held = Tensor::empty({1000}, DType::f32, Category::gradients);
  std::string message;
  try {
    Tensor::empty({std::int64_t{1} << 44}, DType::u8, Category::workspace);
  } catch (const SystemError& error) {
    message = error.what();
  }
  CHECK(message.find("memory: out of memory: cannot allocate 17592186044416 bytes of workspace on "
                     "cuda:0, where ") == 0);
  CHECK(message.find("gradients 4000 bytes") != std::string::npos);
  const Tensor after = tensor_of({1, 2}, {2}, DType::f32);
  CHECK(values_of(after) == std::vector<double>{1, 2});
}

TEST_CASE("events order streams and measure time") {
  const Stream other(gpu_stream().device());
  const StreamGuard guard(gpu_stream());
  const Event begin(gpu_stream());
  const Tensor x = Tensor::from(counting(kMany), {kMany});
  const Event filled(gpu_stream());
  other.wait(filled);
  std::vector<std::int32_t> seen;
  {
    const StreamGuard on_the_other(other);
    seen = x.to_vector<std::int32_t>();
  }
  CHECK(seen == counting(kMany));
  CHECK(filled.ms_since(begin) > 0);
}
