#include "core/memory_log.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "core/tensor.h"

using namespace smoe;

namespace {

const MemoryBlock* find_live(const MemoryLog& log, std::int64_t bytes) {
  const auto found = std::find_if(log.live.begin(), log.live.end(),
                                  [&](const MemoryBlock& b) { return b.bytes == bytes; });
  return found == log.live.end() ? nullptr : &*found;
}

}  // namespace

TEST_CASE("the memory log names the place and the op of each block") {
  const PlaceScope place({.phase = Phase::forward, .layer = 3, .micro_batch = 1});
  const Tensor first = Tensor::empty({12347}, DType::u8);
  name_new_blocks("first_op", "part");
  const Tensor second = Tensor::empty({12349}, DType::u8, Category::workspace);
  name_new_blocks("second_op", nullptr);
  const MemoryLog log = memory_log(Device{});
  const MemoryBlock* const block = find_live(log, 12347);
  REQUIRE(block);
  CHECK(std::string(block->born.op) == "first_op");
  CHECK(std::string(block->born.part) == "part");
  CHECK(block->born.layer == 3);
  CHECK(block->born.micro_batch == 1);
  CHECK(block->born.phase == Phase::forward);
  REQUIRE(find_live(log, 12349));
  CHECK(std::string(find_live(log, 12349)->born.op) == "second_op");
  CHECK(find_live(log, 12349)->category == Category::workspace);
  CHECK(std::string(log.events.back().block.born.op) == "second_op");
}

TEST_CASE("an op does not name blocks of another place") {
  const Tensor outside = Tensor::empty({12351}, DType::u8);
  {
    const PlaceScope place({.phase = Phase::backward, .op = "known"});
    const Tensor known = Tensor::empty({12353}, DType::u8);
    name_new_blocks("other", nullptr);
    CHECK(std::string(find_live(memory_log(Device{}), 12353)->born.op) == "known");
  }
  name_new_blocks("late", nullptr);
  CHECK(find_live(memory_log(Device{}), 12351)->born.op == nullptr);
}

TEST_CASE("the events lead from the blocks at their beginning to those that live") {
  set_memory_log_capacity(8);
  Tensor kept;
  for (int i = 0; i < 20; ++i) {
    const Tensor freed = Tensor::empty({1000 + i}, DType::u8);
    if (i % 3 == 0) kept = Tensor::empty({2000 + i}, DType::u8);
  }
  const MemoryLog log = memory_log(Device{});
  set_memory_log_capacity(kMemoryLogCapacity);
  REQUIRE(log.events.size() == 8);
  for (std::size_t i = 1; i < log.events.size(); ++i)
    CHECK(log.events[i - 1].time_ns <= log.events[i].time_ns);
  CHECK(log.events.back().is_free);
  CHECK(log.events.back().block.bytes == 1019);
  CHECK(find_live(log, 2018));
  CHECK(!find_live(log, 2015));
  CHECK(memory_log(Device{DeviceType::dry_cpu, 0}).live.empty());
}
