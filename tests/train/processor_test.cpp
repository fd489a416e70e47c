#include "train/processor.h"

#include <doctest/doctest.h>

#include "core/system/cores.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/checkpoint/fake_state.h"
#include "train/checkpoint/checkpoint_store.h"

using namespace smoe;

TEST_CASE("a CPU is named by its model and the kernels that OpenBLAS chose for it") {
  const std::string processor = processor_of({DeviceType::cpu});
  CHECK(processor.find(cpu_model()) == 0);
  CHECK(processor.find("OpenBLAS ") != std::string::npos);
}

TEST_CASE("a resume on another CPU is reported with both, on the same one it is not") {
  const TemporaryFolder folder;
  std::string log;
  CheckpointStore store({.folder = folder / "checkpoints"},
                        [&](const std::string& line) { log += line + "\n"; });
  FakeState state(1);
  CheckpointHeader header = fake_header(1);
  header.processor = "CPU A";
  store.save(header, state.visitable());
  store.resume("auto", header, state.visitable());
  CHECK(log.find("warning") == std::string::npos);
  header.processor = "CPU B";
  store.resume("auto", header, state.visitable());
  CHECK(log.find("warning: resumed on another CPU, so results may differ in their last bits: saved "
                 "on CPU A; this is CPU B\n") != std::string::npos);
}
