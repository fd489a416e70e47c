// What a checkpoint holds of each tensor, and which formats load: ranges, dtypes, versions.
#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <thread>

#include "core/range.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensors.h"
#include "tests/support/text.h"
#include "tests/train/checkpoint/fake_state.h"
#include "tests/train/checkpoint/tensor_digests.h"
#include "train/checkpoint/checkpoint.h"

using namespace smoe;
using namespace smoe::test;

namespace {

/// State of which writer `index` of `count` has elements [index n / count, (index + 1) n / count)
/// of a tensor w, and all have the rest.
struct RangedState {
  RangedState(int index, int count, DType moments = DType::f32)
      : range{index * kNumel / count, (index + 1) * kNumel / count},
        w(Tensor::zeros({range.numel()}, DType::f32)),
        m(Tensor::zeros({range.numel()}, moments)),
        bias(Tensor::zeros({3}, DType::f32)) {}

  void fill() {
    for (std::int64_t i = 0; i < range.numel(); ++i) {
      w.data_as<float>()[i] = static_cast<float>(range.begin + i) + 0.1f;
      if (m.dtype() == DType::f32)
        m.data_as<float>()[i] = static_cast<float>(range.begin + i) * 1.001f;
      else
        m.data_as<bf16>()[i] = bf16(static_cast<float>(range.begin + i) * 1.001f);
    }
    for (int i = 0; i < 3; ++i) bias.data_as<float>()[i] = static_cast<float>(i);
    step = 9;
  }
  VisitState visitable() {
    return [this](StateVisitor& visitor) {
      visitor.integer("step", step);
      visitor.range("w", kShape, range.begin, w);
      visitor.tensor("bias", bias);
      visitor.range("optimizer.m/w", kShape, range.begin, m);
    };
  }

  static constexpr std::int64_t kNumel = 5 * 7;
  inline static const Shape kShape{5, 7};
  Range range;
  Tensor w, m, bias;
  std::int64_t step = 0;
};

/// Writes the ranges of `count` writers, each in a thread, to a new checkpoint.
void write_ranges(const std::string& path, int count, DType moments = DType::f32) {
  if (count > 1) make_new_folder(path);
  std::atomic<int> num_written{0};
  std::vector<std::thread> writers;
  for (int index = 0; index < count; ++index)
    writers.emplace_back([&, index] {
      RangedState state(index, count, moments);
      state.fill();
      write_checkpoint(path, fake_header(9), state.visitable(),
                       {.index = index, .count = count, .await_others = [&](const auto&) {
                          ++num_written;
                          while (num_written < count) std::this_thread::yield();
                        }});
    });
  for (std::thread& writer : writers) writer.join();
}

}  // namespace

TEST_CASE("a checkpoint written by any number of processes loads in any other, range by range") {
  const TemporaryFolder folder;
  std::map<std::string, std::string> whole;
  for (const int num_writers : {1, 2, 5}) {
    const std::string path = folder / concat("by-", num_writers);
    write_ranges(path, num_writers);
    const Checkpoint checkpoint(path);
    CHECK(checkpoint.manifest().world_size == num_writers);
    CHECK(checkpoint.manifest().shards.size() == static_cast<std::size_t>(num_writers));
    if (whole.empty()) whole = tensor_digests(checkpoint);
    CHECK(tensor_digests(checkpoint) == whole);
    for (const int num_readers : {1, 2, 3, 4})
      for (int index = 0; index < num_readers; ++index) {
        RangedState loaded(index, num_readers), wanted(index, num_readers);
        wanted.fill();
        checkpoint.load(loaded.visitable());
        CHECK(loaded.w.to_vector<float>() == wanted.w.to_vector<float>());
        CHECK(loaded.m.to_vector<float>() == wanted.m.to_vector<float>());
        CHECK(loaded.bias.to_vector<float>() == wanted.bias.to_vector<float>());
        CHECK(loaded.step == 9);
      }
  }
}

TEST_CASE("damage is found by a reader of any element of the damaged range") {
  const TemporaryFolder folder;
  write_ranges(folder / "a", 2);
  const std::string path = folder / "a/shard-00000.bin";
  std::string bytes = read_file(path, 1 << 20);
  bytes[0] ^= 1;  // element 0 of w; the range of this file ends at element 17
  overwrite(path, bytes);
  const Checkpoint checkpoint(folder / "a");
  const auto load = [&](int index) {
    RangedState state(index, 4);
    return message_of([&] { checkpoint.load(state.visitable()); });
  };
  CHECK(contains(load(0), path + ": tensor w is damaged"));
  CHECK(contains(load(1), path + ": tensor w is damaged"));  // elements 8 to 17
  CHECK(load(3) == "no error");
}

TEST_CASE("moments load as f32 or bf16, whichever they were saved in") {
  const TemporaryFolder folder;
  for (const DType saved : {DType::f32, DType::bf16}) {
    write_ranges(folder / name_of(saved), 2, saved);
    const Checkpoint checkpoint(folder / name_of(saved));
    for (const DType wanted : {DType::f32, DType::bf16}) {
      RangedState loaded(1, 3, wanted), filled(1, 3, wanted == saved ? saved : DType::bf16);
      filled.fill();
      checkpoint.load(loaded.visitable());
      CHECK(values_of(loaded.m) == values_of(filled.m));
      CHECK(values_of(loaded.w) == values_of(filled.w));
    }
  }
}

TEST_CASE("a parameter may be without moments, and parameters may be those of a base") {
  const TemporaryFolder folder;
  Tensor w = Tensor::zeros({2}, DType::f32), adapter = Tensor::zeros({2}, DType::f32);
  const VisitState frozen = [&](StateVisitor& visitor) {
    visitor.tensor("w", w);
    visitor.tensor("adapter", adapter);
    visitor.tensor("optimizer.m/adapter", adapter);
  };
  write_checkpoint(folder / "frozen", fake_header(1), frozen);
  Checkpoint(folder / "frozen").load(frozen);
  CheckpointHeader header = fake_header(1);
  header.base = Digest{1, 2};
  const VisitState apart = [&](StateVisitor& visitor) { visitor.tensor("adapter", adapter); };
  write_checkpoint(folder / "apart", header, apart);
  const Checkpoint checkpoint(folder / "apart");
  CHECK(checkpoint.manifest().base_digest == Digest{1, 2});
  checkpoint.load(apart);
  CHECK(message_of([&] {
          checkpoint.load_part([&](StateVisitor& visitor) { visitor.tensor("w", w); });
        }) == folder /
                  "apart: must match the state of this run; missing: w; it leaves out what is "
                  "in the base with digest 00000000000000010000000000000002");
}

TEST_CASE("checkpoints of format version 1 load") {
  // Written by the last program of that version.
  const char* const manifest = R"({
"format": "smoe-checkpoint",
"version": 1,
"step": 7,
"world_size": 1,
"build": "smoe 0.1.0, compiler 12.2.0",
"device": "cpu",
"config_digest": "00000000000000010000000000000002",
"data_digest": "00000000000000030000000000000004",
"integers": {
"step": 7
},
"reals": {
"x": "0.1"
},
"shards": [
{"file": "shard-00000.bin", "bytes": 56, "tensors": [
{"name": "w", "dtype": "f32", "shape": [2,3], "offset": 0, "bytes": 24, "digest": "c97cc1b90026f55759873713c55c0034"},
{"name": "optimizer.m/w", "dtype": "f32", "shape": [2,3], "offset": 24, "bytes": 24, "digest": "e2e72761a108fab3bde39fc6264e2547"},
{"name": "b", "dtype": "bf16", "shape": [4], "offset": 48, "bytes": 8, "digest": "450dbdc10e6261942ea9b882580734d8"}
]}
],
"manifest_digest": "062b08186a534c8da7d4e5e9ef836103"
}
)";
  const TemporaryFolder folder;
  make_new_folder(folder / "a");
  overwrite(folder / "a/manifest.json", manifest);
  std::string bytes;
  const auto append = [&](auto value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  for (int i = 0; i < 6; ++i) append(0.5f * static_cast<float>(i) - 1);
  for (int i = 0; i < 6; ++i) append(0.25f * static_cast<float>(i));
  for (int i = 0; i < 4; ++i) append(static_cast<std::uint16_t>(0x3f80 + i));
  overwrite(folder / "a/shard-00000.bin", bytes);
  const Checkpoint checkpoint(folder / "a");
  checkpoint.verify();
  Tensor w = Tensor::zeros({4}, DType::f32), m = Tensor::zeros({2, 3}, DType::f32),
         b = Tensor::zeros({4}, DType::bf16);
  std::int64_t step = 0;
  double x = 0;
  checkpoint.load([&](StateVisitor& visitor) {
    visitor.integer("step", step);
    visitor.real("x", x);
    visitor.range("w", {2, 3}, 1, w);
    visitor.tensor("optimizer.m/w", m);
    visitor.tensor("b", b);
  });
  CHECK(step == 7);
  CHECK(x == 0.1);
  CHECK(w.to_vector<float>() == std::vector<float>{-0.5f, 0, 0.5f, 1});
  CHECK(m.to_vector<float>() == std::vector<float>{0, 0.25f, 0.5f, 0.75f, 1, 1.25f});
  CHECK(values_of(b)[3] == 1 + 3.0 / 128);
}
