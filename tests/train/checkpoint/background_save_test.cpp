#include "train/checkpoint/background_save.h"

#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "core/memory.h"
#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/checkpoint/fake_state.h"

using namespace smoe;

namespace {

struct Saver {
  std::string path(const std::string& name) const { return folder / name; }
  CheckpointStore::Log logger() {
    return [this](const std::string& line) { log += line + "\n"; };
  }

  TemporaryFolder folder{fast_parent()};
  std::string log;
  BackgroundSave background{{folder.path(), 2, 0}, logger()};
};

std::string bytes_of(const std::string& path) {
  return read_file(path, 1 << 20);
}

}  // namespace

TEST_CASE("a background save has the bits of a synchronous save at its start") {
  Saver saver;
  FakeState state(10);
  saver.background.start(fake_header(10), state.visitable());
  for (Tensor& tensor : state.tensors)
    for (std::int64_t i = 0; i < tensor.bytes(); ++i)
      static_cast<std::uint8_t*>(tensor.data())[i] ^= 0xFF;
  state.step = 11;
  saver.background.wait();
  CHECK(saver.log == "saved " + saver.path("step-00000010") + "\n");

  const TemporaryFolder other(fast_parent());
  FakeState same(10);
  CheckpointStore({other.path(), 2, 0}, [](const std::string&) {
  }).save(fake_header(10), same.visitable());
  for (const char* file : {"step-00000010/manifest.json", "step-00000010/shard-00000.bin"})
    CHECK(bytes_of(saver.path(file)) == bytes_of(other / file));
}

TEST_CASE("a save waits for the previous one, and the caller's thread logs all in order") {
  Saver saver;
  const auto caller = std::this_thread::get_id();
  std::string order;
  {
    BackgroundSave background({saver.folder.path(), 2, 0}, [&](const std::string& line) {
      CHECK(std::this_thread::get_id() == caller);
      order += line.substr(line.size() - 2) + " ";
    });
    for (const std::int64_t step : {10, 20, 30}) {
      FakeState state(static_cast<std::uint64_t>(step));
      background.start(fake_header(step), state.visitable());
      background.poll();
    }
  }
  CHECK(order == "10 20 30 ");
  CHECK(list_folder(saver.folder.path()).size() == 2);
}

TEST_CASE("poll or wait throws the error of a background save once, with path and reason") {
  Saver saver;
  FakeState state(10);
  saver.background.start(fake_header(10), state.visitable());
  saver.background.wait();
  for (const bool polls : {false, true}) {
    const FaultScope scope("write:2:ENOSPC");
    saver.background.start(fake_header(20), state.visitable());
    const std::string message = message_of([&] {
      while (polls) saver.background.poll();
      saver.background.wait();
    });
    CHECK(message.find("write " + saver.path(".tmp-step-00000020/shard-00000.bin at byte ")) == 0);
    CHECK(message.find("No space left on device") != std::string::npos);
    saver.background.wait();
    CHECK(list_folder(saver.folder.path()).size() == 1);
  }
  saver.background.start(fake_header(20), state.visitable());
  saver.background.wait();
  CHECK(saver.log.ends_with("saved " + saver.path("step-00000020") + "\n"));
}

TEST_CASE("the destructor logs an error that was not waited for") {
  const TemporaryFolder folder(fast_parent());
  std::string log;
  const FaultScope scope("fsync:1:EIO");
  {
    FakeState state(10);
    BackgroundSave background({folder.path(), 2, 0},
                              [&](const std::string& line) { log += line + "\n"; });
    background.start(fake_header(10), state.visitable());
  }
  CHECK(log.find("Input/output error") != std::string::npos);
  CHECK(log.find("saved") == std::string::npos);
}

TEST_CASE("the copy counts as workspace memory during the save only") {
  Saver saver;
  Tensor large = Tensor::zeros({1 << 20}, DType::f32);
  const std::int64_t before = memory_use(Category::workspace).now_bytes;
  reset_peak_memory();
  saver.background.start(fake_header(10),
                         [&](StateVisitor& visitor) { visitor.tensor("large", large); });
  saver.background.wait();
  CHECK(memory_use(Category::workspace).peak_bytes >= before + large.bytes());
  CHECK(memory_use(Category::workspace).now_bytes == before);
}

TEST_CASE("the destructor does not end the program when the log cannot be written") {
  const TemporaryFolder folder(fast_parent());
  for (const char* faults : {"", "fsync:1:EIO"}) {
    const FaultScope scope(faults);
    FakeState state(10);
    BackgroundSave background({folder.path(), 2, 0}, [](const std::string&) {
      throw SystemError("append to log.txt: No space left on device");
    });
    background.start(fake_header(10), state.visitable());
  }
}

TEST_CASE("two writers save in the background: the first waits for the files of the other") {
  const TemporaryFolder folder(fast_parent());
  std::string log;
  FakeState state(10);
  Tensor halves[] = {Tensor::zeros({3}, DType::f32), Tensor::zeros({4}, DType::f32)};
  halves[1].data_as<float>()[3] = 7;
  const auto visit = [&](int index) {
    return [&, index](StateVisitor& visitor) {
      state.visit(visitor);
      visitor.range("halves", {7}, index * 3, halves[index]);
    };
  };
  const auto logger = [&](const std::string& line) { log += line + "\n"; };
  const CheckpointStore::Options options{folder.path(), 2, 0};
  BackgroundSave first(options, logger), second(options, logger);
  CheckpointStore(options, logger).begin(10);
  first.start(fake_header(10), visit(0), 0, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  first.poll();
  CHECK(first.is_saving());
  second.start(fake_header(10), visit(1), 1, 2);
  second.wait();
  first.wait();
  CHECK(log == "saved " + (folder / "step-00000010") + "\n");
  const Checkpoint checkpoint(folder / "step-00000010");
  checkpoint.verify();
  CHECK(checkpoint.manifest().shards.size() == 2);
  FakeState loaded(8);
  Tensor whole = Tensor::zeros({7}, DType::f32);
  checkpoint.load([&](StateVisitor& visitor) {
    loaded.visit(visitor);
    visitor.tensor("halves", whole);
  });
  CHECK(loaded.bits() == state.bits());
  CHECK(whole.to_vector<float>() == std::vector<float>{0, 0, 0, 0, 0, 0, 7});
}

TEST_CASE("a first writer whose other does not come stops waiting when it ends, saving nothing") {
  const TemporaryFolder folder(fast_parent());
  std::string log;
  {
    const CheckpointStore::Options options{folder.path(), 2, 0};
    BackgroundSave first(options, [&](const std::string& line) { log += line; });
    FakeState state(10);
    CheckpointStore(options, nullptr).begin(10);
    first.start(fake_header(10), state.visitable(), 0, 2);
  }
  CHECK(log == "checkpoint: another rank has not written its part; nothing was saved");
  for (const FolderEntry& entry : list_folder(folder.path()))
    CHECK(entry.name.starts_with(".tmp-"));
}
