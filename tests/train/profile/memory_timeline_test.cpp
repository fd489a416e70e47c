#include "train/profile/memory_timeline.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cmath>

#include "core/system/file.h"
#include "core/tensor.h"
#include "tests/support/counts.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "train/profile/memory_page.h"

using namespace smoe;
using namespace smoe::test;

namespace {

std::int64_t clock_ns() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

std::int64_t total(const std::array<std::int64_t, kNumCategories>& bytes) {
  std::int64_t sum = 0;
  for (const std::int64_t b : bytes) sum += b;
  return sum;
}

const OwnedBlocks* owner(const std::vector<OwnedBlocks>& owners, const std::string& name) {
  for (const OwnedBlocks& o : owners)
    if (o.owner == name) return &o;
  return nullptr;
}

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

}  // namespace

TEST_CASE("the timeline finds the peak, its owners and what is kept") {
  set_memory_log_capacity(kMemoryLogCapacity);
  const std::int64_t before = memory_use().now_bytes;
  const Tensor weights = Tensor::empty({3 * kMiB}, DType::u8, Category::parameters);
  const std::int64_t begin = clock_ns();
  Tensor forgotten;
  {
    const PlaceScope place({.phase = Phase::forward, .layer = 1});
    forgotten = Tensor::empty({2 * kMiB}, DType::u8);
    name_new_blocks("leak", "part");
    const Tensor a = Tensor::empty({5 * kMiB}, DType::u8);
    const Tensor b = Tensor::empty({5 * kMiB}, DType::u8);
    name_new_blocks("wide", nullptr);
  }
  const Tensor late = Tensor::empty({kMiB}, DType::u8, Category::optimizer);
  const std::int64_t end = clock_ns();
  const Tensor after = Tensor::empty({100 * kMiB}, DType::u8);  // outside the window

  const MemoryTimeline timeline = memory_timeline(memory_log(Device{}), begin, end);
  CHECK(timeline.peak_bytes == before + 15 * kMiB);
  CHECK(total(timeline.at_peak) == timeline.peak_bytes);
  REQUIRE(owner(timeline.owners, "wide · forward · layer 1"));
  const OwnedBlocks wide = *owner(timeline.owners, "wide · forward · layer 1");
  CHECK(wide.bytes == 10 * kMiB);
  CHECK(wide.count == 2);
  CHECK(wide.died_ms >= wide.born_ms);
  REQUIRE(owner(timeline.owners, "leak · part · forward · layer 1"));
  CHECK(std::isnan(owner(timeline.owners, "leak · part · forward · layer 1")->died_ms));
  REQUIRE(owner(timeline.kept, "leak · part · forward · layer 1"));
  CHECK(owner(timeline.kept, "leak · part · forward · layer 1")->bytes == 2 * kMiB);
  CHECK(!owner(timeline.kept, "wide · forward · layer 1"));
  for (std::size_t i = 1; i < timeline.points.size(); ++i)
    CHECK(timeline.points[i - 1].ms <= timeline.points[i].ms);
  CHECK(total(timeline.points.back().bytes) == before + 6 * kMiB);
}

TEST_CASE("many events are thinned without losing the peak") {
  set_memory_log_capacity(kMemoryLogCapacity);
  const std::int64_t begin = clock_ns();
  for (int i = 0; i < 6000; ++i) {
    const Tensor x = Tensor::empty({i == 4321 ? 7 * kMiB : 4096}, DType::u8);
  }
  const MemoryTimeline timeline = memory_timeline(memory_log(Device{}), begin, clock_ns());
  CHECK(timeline.points.size() < 1100);
  std::int64_t highest = 0;
  for (const auto& point : timeline.points) highest = std::max(highest, total(point.bytes));
  CHECK(highest == timeline.peak_bytes);
  CHECK(timeline.peak_bytes >= 7 * kMiB);
}

// A sanitizer ends the program instead.
TEST_CASE("running out of memory leaves a page with the timeline of the last step" *
          doctest::skip(kIsSanitized)) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/oom.html";
  {
    const PlaceScope place({.phase = Phase::optimizer});
    const Tensor x = Tensor::empty({kMiB}, DType::u8);
  }
  try {
    const PlaceScope place({.phase = Phase::forward, .layer = 5});
    const Tensor last = Tensor::empty({6 * kMiB}, DType::u8);
    name_new_blocks("hungry_op", nullptr);
    const Tensor huge = Tensor::empty({std::int64_t{1} << 59}, DType::u8);
    FAIL("2^59 bytes cannot be had");
  } catch (const OutOfMemory& error) {
    CHECK(error.bytes == std::int64_t{1} << 59);
    write_out_of_memory_page(error, Device{}, path);
  }
  const std::string page = read_file(path, 1 << 24);
  CHECK(contains(page, "hungry_op · forward · layer 5"));
  CHECK(contains(page, "cannot allocate 576460752303423488 bytes"));
  CHECK(page.size() < 2'000'000);
}
