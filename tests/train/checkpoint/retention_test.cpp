// Which checkpoints a store keeps besides the newest ones.
#include <doctest/doctest.h>

#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/checkpoint/fake_state.h"
#include "train/checkpoint/checkpoint_store.h"

using namespace smoe;

namespace {

struct Setting {
  explicit Setting(CheckpointStore::Options options)
      : store((options.folder = folder.path(), options), [](const std::string&) {}) {}

  void save(std::int64_t step) {
    FakeState state(static_cast<std::uint64_t>(step));
    store.save(fake_header(step), state.visitable());
  }
  std::string names() const {
    std::string text;
    for (const FolderEntry& entry : list_folder(folder.path())) text += entry.name + " ";
    return text;
  }

  TemporaryFolder folder;
  CheckpointStore store;
};

}  // namespace

TEST_CASE("one checkpoint can be enough; the previous one stays until the next is complete") {
  Setting setting({.keep = 1});
  setting.save(10);
  {
    const FaultScope scope("rename:1:EIO");
    CHECK_THROWS_AS(setting.save(20), SystemError);
  }
  CHECK(setting.names() == "step-00000010 ");
  setting.save(20);
  CHECK(setting.names() == "step-00000020 ");
}

TEST_CASE("a chosen checkpoint and the newest at a multiple of a step stay as well") {
  Setting setting({.keep = 1, .keep_newest_of_every = 10});
  for (const std::int64_t step : {10, 14, 20, 23}) {
    if (step == 14) setting.store.keep(14);
    setting.save(step);
  }
  CHECK(setting.names() == "step-00000014 step-00000020 step-00000023 ");
  CHECK(setting.store.newest_intact(10)->manifest().step == 20);
  CHECK(setting.store.newest_intact()->manifest().step == 23);
  CHECK_FALSE(setting.store.newest_intact(25).has_value());
  setting.store.keep(23);
  setting.save(26);
  CHECK(setting.names() == "step-00000020 step-00000023 step-00000026 ");
}
