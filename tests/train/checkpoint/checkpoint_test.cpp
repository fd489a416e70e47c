#include "train/checkpoint/checkpoint.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "autograd/parameter_store.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/checkpoint/fake_state.h"

using namespace smoe;
using namespace smoe::test;

namespace {

std::string read_all(const std::string& path) {
  return read_file(path, 1 << 20);
}

// Opens and reads everything, as a resume does.
void open_and_verify(const std::string& path) {
  Checkpoint(path).verify();
}

}  // namespace

TEST_CASE("a checkpoint loads bit-identically and in place") {
  const TemporaryFolder folder;
  FakeState saved(7);
  write_checkpoint(folder / "a", fake_header(20), saved.visitable());
  const Checkpoint checkpoint(folder / "a");
  checkpoint.verify();
  CHECK(checkpoint.manifest().step == 20);
  CHECK(checkpoint.manifest().world_size == 1);
  CHECK(checkpoint.manifest().device == "cpu");
  CHECK(checkpoint.manifest().config_digest == Digest{1, 2});
  CHECK(checkpoint.manifest().data_digest == Digest{3, 4});
  FakeState loaded(8);
  const void* storage = loaded.tensors[0].data();
  CHECK(loaded.bits() != saved.bits());
  checkpoint.load(loaded.visitable());
  CHECK(loaded.bits() == saved.bits());
  CHECK(loaded.tensors[0].data() == storage);
}

TEST_CASE("parameters are stored under the names of their parts, without padding") {
  const TemporaryFolder folder;
  Parameter norm("norm", {5}, Init::constant(1));
  Parameter experts("experts", {2, 3}, Init::normal(1),
                    {{{"experts.0.w1", {3}}, {"experts.1.w1", {3}}}});
  ParameterStore store({&norm, &experts}, {});
  const Tensor moments = Tensor::zeros(store.compute().shape(), DType::f32);
  const VisitState visit = [&](StateVisitor& visitor) {
    store.visit_state(visitor);
    store.visit_buffer(visitor, "optimizer.m/", moments);
  };
  write_checkpoint(folder / "a", fake_header(1), visit);
  const Checkpoint checkpoint(folder / "a");
  const auto& tensors = checkpoint.manifest().shards.at(0).tensors;
  REQUIRE(tensors.size() == 6);
  CHECK(tensors[0].name == "experts.0.w1");
  CHECK(tensors[1].name == "experts.1.w1");
  CHECK(tensors[2].name == "norm");
  CHECK(tensors[5].name == "optimizer.m/norm");
  CHECK(checkpoint.bytes() == 2 * 11 * 4);
  const auto before = experts.master().to_vector<float>();
  for (int i = 0; i < 6; ++i) experts.master().data_as<float>()[i] = -1;
  checkpoint.load(visit);
  CHECK(experts.master().to_vector<float>() == before);
}

TEST_CASE("every truncation is detected, with the file's name") {
  const TemporaryFolder folder;
  FakeState state(7);
  write_checkpoint(folder / "a", fake_header(20), state.visitable());
  for (const std::string file : {"manifest.json", "shard-00000.bin"}) {
    const std::string path = folder / ("a/" + file);
    const std::string whole = read_all(path);
    const auto size = static_cast<std::int64_t>(whole.size());
    for (std::int64_t length = 0; length <= size + 1; length += length < 3 ? 1 : size / 50) {
      if (length == size) continue;
      std::string cut = whole;
      cut.resize(length);
      overwrite(path, cut);
      CAPTURE(length);
      CHECK(contains(message_of([&] { open_and_verify(folder / "a"); }), path));
    }
    overwrite(path, whole.substr(0, size - 1));
    CHECK(contains(message_of([&] { open_and_verify(folder / "a"); }), path));
    overwrite(path, whole + "\n");
    CHECK(contains(message_of([&] { open_and_verify(folder / "a"); }), path));
    remove_file(path);
    CHECK(message_of([&] { open_and_verify(folder / "a"); }) == path + ": is missing");
    overwrite(path, whole);
  }
  open_and_verify(folder / "a");
}

TEST_CASE("damage to any byte is detected, with the names of file and tensor") {
  const TemporaryFolder folder(fast_parent());
  FakeState state(7);
  write_checkpoint(folder / "a", fake_header(20), state.visitable());
  std::mt19937_64 random(42);
  int num_damaged = 0;
  for (const std::string file : {"manifest.json", "shard-00000.bin"}) {
    const std::string path = folder / ("a/" + file);
    const std::string whole = read_all(path);
    const auto check_found = [&](const std::string& damaged) {
      if (damaged == whole) return;
      ++num_damaged;
      overwrite(path, damaged);
      const std::string message = message_of([&] { open_and_verify(folder / "a"); });
      CHECK(contains(message, path));
      CHECK(message.find('\n') == std::string::npos);
      if (file != "manifest.json" && damaged.size() == whole.size())
        CHECK(contains(message, "tensor model.tensors."));
      FakeState loaded(8);
      CHECK(message_of([&] { Checkpoint(folder / "a").load(loaded.visitable()); }) == message);
    };
    for (std::size_t position = 0; position < whole.size(); ++position) {
      CAPTURE(position);
      std::string flipped = whole;
      flipped[position] = static_cast<char>(flipped[position] ^ 1 << random() % 8);
      check_found(flipped);
    }
    // Zeroed pages, here small ones, and truncated files.
    for (std::size_t position = 0; position < whole.size(); position += 64) {
      CAPTURE(position);
      std::string zeroed = whole;
      const std::size_t end = std::min(position + 512, whole.size());
      std::fill(zeroed.begin() + position, zeroed.begin() + end, '\0');
      check_found(zeroed);
      check_found(whole.substr(0, position));
    }
    overwrite(path, whole);
  }
  open_and_verify(folder / "a");
  MESSAGE(num_damaged, " damaged checkpoints, all detected");
}

TEST_CASE("state and checkpoint must have the same names, dtypes and shapes") {
  const TemporaryFolder folder;
  Tensor a = Tensor::zeros({2, 3}, DType::f32);
  std::int64_t n = 5;
  double x = 0.5;
  write_checkpoint(folder / "a", fake_header(1), [&](StateVisitor& visitor) {
    visitor.tensor("a", a);
    visitor.integer("n", n);
    visitor.real("x", x);
  });
  const Checkpoint checkpoint(folder / "a");
  const std::string start = folder / "a: must match the state of this run; ";
  n = 6;
  const auto load = [&](const VisitState& visit) {
    return message_of([&] { checkpoint.load(visit); });
  };
  CHECK(load([&](StateVisitor& visitor) {
          visitor.integer("n", n);
          visitor.real("x", x);
        }) == start + "unexpected: a");
  CHECK(load([&](StateVisitor& visitor) {
          visitor.tensor("a", a);
          visitor.integer("n", n);
          visitor.integer("b", n);
          visitor.integer("x", n);
          for (int i = 0; i < 4; ++i) visitor.tensor(concat("t", i), a);
        }) == start + "missing: b, x, t0, ... (6 in total)");
  Tensor other_shape = Tensor::zeros({3, 2}, DType::f32);
  CHECK(load([&](StateVisitor& visitor) {
          visitor.tensor("a", other_shape);
          visitor.integer("n", n);
          visitor.real("x", x);
        }) == start + "mismatched: a (expected f32 [3, 2], got f32 [2, 3])");
  Tensor other_dtype = Tensor::zeros({2, 3}, DType::i32);
  CHECK(load([&](StateVisitor& visitor) { visitor.tensor("a", other_dtype); }) ==
        start + "unexpected: n, x; mismatched: a (expected i32 [2, 3], got f32 [2, 3])");
  CHECK(n == 6);
}

TEST_CASE("state names are checked when they are saved") {
  const TemporaryFolder folder;
  std::int64_t n = 0;
  const auto save = [&](const std::string& name, const std::string& twin) {
    remove_folder(folder / "a");
    return message_of([&] {
      write_checkpoint(folder / "a", fake_header(1), [&](StateVisitor& visitor) {
        visitor.integer(name, n);
        visitor.integer(twin, n);
      });
    });
  };
  CHECK(save("a", "b") == "no error");
  CHECK(contains(save("a", "a"), "a twice"));
  CHECK(contains(save("a b", "a"), "got 'a b'"));
  CHECK(contains(save("", "a"), "got ''"));
  CHECK(contains(save(std::string(257, 'x'), "a"), "must be 1 to 256"));
}

TEST_CASE("links, folders and missing files are refused without opening them") {
  const TemporaryFolder folder;
  FakeState state(7);
  for (const std::string file : {"manifest.json", "shard-00000.bin"}) {
    remove_folder(folder / "a");
    write_checkpoint(folder / "a", fake_header(20), state.visitable());
    const std::string path = folder / ("a/" + file);
    rename_path(path, folder / "elsewhere");
    REQUIRE(::symlink((folder / "elsewhere").c_str(), path.c_str()) == 0);
    CHECK(message_of([&] { open_and_verify(folder / "a"); }) ==
          path + ": must be a regular file, not a link");
    remove_file(path);
    make_new_folder(path);
    CHECK(contains(message_of([&] { open_and_verify(folder / "a"); }), "must be a regular file"));
  }
  CHECK(contains(message_of([&] { open_and_verify(folder / "none"); }), "must be a checkpoint"));
  overwrite(folder / "file", "x");
  CHECK(contains(message_of([&] { open_and_verify(folder / "file"); }), "must be a checkpoint"));
}

TEST_CASE("a manifest of more than 64 MiB is refused without reading it") {
  const TemporaryFolder folder;
  make_new_folder(folder / "a");
  File file = File::create(folder / "a/manifest.json");
  file.resize(kMaxManifestBytes + 1);
  file.close();
  CHECK(contains(message_of([&] { open_and_verify(folder / "a"); }), "at most 67108864 bytes"));
}
