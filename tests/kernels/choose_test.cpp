#include "kernels/cuda/experts/choose.h"

#include <doctest/doctest.h>

#include <vector>

#include "kernels/engines.h"

using namespace smoe;
using namespace smoe::kernels;
using namespace smoe::kernels::cuda;

namespace {

constexpr DeviceLimits kAmpere{8, 0, 108, 166912}, kAda{8, 9, 128, 101376},
    kBlackwell{10, 0, 148, 232448}, kTuring{7, 5, 68, 65536};
constexpr KernelPolicy kPortable{.experts = ExpertKernels::portable};

constexpr ExpertGemm kGemms[] = {ExpertGemm::grouped_gemm, ExpertGemm::weight_gradient,
                                 ExpertGemm::up, ExpertGemm::down_backward};

ExpertGemmDesc desc_of(ExpertGemm gemm) {
  ExpertGemmDesc desc{
      .gemm = gemm, .dtype = DType::bf16, .num_experts = 8, .m = 65536, .n = 7168, .k = 1024};
  if (gemm == ExpertGemm::weight_gradient) std::swap(desc.m, desc.k);
  return desc;
}

ExpertGemmForm form_of(const ExpertGemmDesc& desc, const DeviceLimits& limits = kHopper) {
  return choose(desc, limits).form;
}

}  // namespace

TEST_CASE("Hopper runs aligned bf16 by wgmma, other GPUs by mma.sync") {
  for (const ExpertGemm gemm : kGemms) {
    CHECK(form_of(desc_of(gemm)) == ExpertGemmForm::sm90);
    CHECK(choose(desc_of(gemm), kHopper, kPortable).form == ExpertGemmForm::sm80);
    for (const DeviceLimits& limits : {kAmpere, kBlackwell})
      CHECK(form_of(desc_of(gemm), limits) == ExpertGemmForm::sm80);
  }
}

TEST_CASE("Hopper rotates whole heads of bf16 in the GEMM if its tiles keep the SMs busy") {
  const RotaryGemmDesc desc{
      .dtype = DType::bf16, .m = 32768, .n = 1536, .k = 1024, .seq_len = 2048, .head_dim = 128};
  CHECK(fuses_rotary(desc, kHopper));
  for (const DeviceLimits& limits : {kAmpere, kAda, kBlackwell})
    CHECK_FALSE(fuses_rotary(desc, limits));
  const auto fuses = [&](auto change) {
    RotaryGemmDesc changed = desc;
    change(changed);
    return fuses_rotary(changed, kHopper);
  };
  CHECK(fuses([](auto& d) { d.head_dim = 64; }));
  CHECK_FALSE(fuses([](auto& d) { d.head_dim = 96; }));
  CHECK_FALSE(fuses([](auto& d) { d.dtype = DType::f32; }));
  CHECK_FALSE(fuses([](auto& d) { d.is_aligned = false; }));
  CHECK_FALSE(fuses([](auto& d) { d.k = 0; }));
  CHECK_FALSE(fuses([](auto& d) { d.seq_len = std::int64_t{1} << 23; }));
  // 6 tiles of columns on 132 SMs: one of their turns, then two with a sixth idle.
  for (const std::int64_t row_tiles : {22, 37, 44})
    CHECK(fuses([&](auto& d) { d.m = row_tiles * 128; }));
  for (const std::int64_t row_tiles : {21, 23, 36, 45})
    CHECK_FALSE(fuses([&](auto& d) { d.m = row_tiles * 128; }));
}

TEST_CASE("sizes and dtypes that tensor cores cannot take run by SIMT") {
  for (const ExpertGemm gemm : kGemms) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      ExpertGemmDesc desc = desc_of(gemm);
      desc.dtype = dtype;
      CHECK(form_of(desc) == ExpertGemmForm::simt);
    }
    ExpertGemmDesc odd = desc_of(gemm);
    odd.is_aligned = false;
    CHECK(form_of(odd) == ExpertGemmForm::simt);
    CHECK(form_of(desc_of(gemm), kTuring) == ExpertGemmForm::simt);
  }
}

TEST_CASE("what the sm90 form cannot take runs by mma.sync and says why") {
  const auto reason_for = [](ExpertGemm gemm, auto change) {
    ExpertGemmDesc desc = desc_of(gemm);
    change(desc);
    const ExpertGemmConfig config = choose(desc, kHopper);
    CHECK(config.form == ExpertGemmForm::sm80);
    return std::string(config.reason);
  };
  for (const ExpertGemm gemm : kGemms) {
    CHECK(reason_for(gemm, [](ExpertGemmDesc& d) { d.num_experts = kSm90MaxExperts + 1; }) ==
          "there are more than 512 experts");
    CHECK(reason_for(gemm, [](ExpertGemmDesc& d) { d.m = 0; }) == "there are no rows");
    ExpertGemmDesc most = desc_of(gemm);
    most.num_experts = kSm90MaxExperts;
    CHECK(form_of(most) == ExpertGemmForm::sm90);
  }
  const ExpertGemm gradient = ExpertGemm::weight_gradient;
  CHECK(reason_for(gradient, [](ExpertGemmDesc& d) { d.beta = 0.5; }) == "beta is neither 0 nor 1");
  CHECK(reason_for(gradient, [](ExpertGemmDesc& d) { d.gathered_bytes = std::int64_t{1} << 32; }) ==
        "a gathered operand has 4 GiB or more");
  CHECK(std::string(choose(desc_of(gradient), kAmpere).reason) ==
        "the GPU's compute capability is not 9.0");
  CHECK(std::string(choose(desc_of(gradient), kHopper, kPortable).reason) ==
        "the policy is portable");
}

TEST_CASE("a block fits in the device's shared memory") {
  for (const DeviceLimits& limits : {kHopper, kAmpere, kAda, kTuring})
    for (const std::int64_t cols : {8, 128, 256, 7168})
      for (const ExpertGemm gemm : kGemms) {
        ExpertGemmDesc desc = desc_of(gemm);
        desc.n = cols;
        const ExpertGemmConfig config = choose(desc, limits, kPortable);
        if (config.form == ExpertGemmForm::sm80)
          CHECK(sm80_shared_bytes(config.tile) <= limits.shared_bytes);
      }
}

TEST_CASE("the sm80 form takes wide tiles where they fit and the epilogue is short") {
  const auto tile_n = [](ExpertGemmDesc desc, const DeviceLimits& limits) {
    return choose(desc, limits, kPortable).tile.n;
  };
  const ExpertGemmDesc wide = desc_of(ExpertGemm::grouped_gemm);
  CHECK(tile_n(wide, kHopper) == 256);
  CHECK(tile_n(wide, kAmpere) == 128);
  CHECK(tile_n(desc_of(ExpertGemm::down_backward), kHopper) == 128);
  ExpertGemmDesc narrow = wide;
  narrow.n = 64;
  CHECK(tile_n(narrow, kHopper) == 128);
  CHECK(form_of(wide, kAda) == ExpertGemmForm::simt);
}

TEST_CASE("down_backward is ping-pong up to a k, with partials over a tile's columns") {
  ExpertGemmDesc desc = desc_of(ExpertGemm::down_backward);
  desc.k = kSm90PingPongMaxK;
  const ExpertGemmConfig pingpong = choose(desc, kHopper);
  CHECK(pingpong.tile.n == 128);
  CHECK(pingpong.partial_cols == 128);
  desc.k += 8;
  const ExpertGemmConfig cooperative = choose(desc, kHopper);
  CHECK(cooperative.tile.n == 256);
  CHECK(cooperative.partial_cols == 256);
  CHECK(pingpong.workspace_bytes == 2 * cooperative.workspace_bytes);
  for (const ExpertGemm gemm : kGemms)
    if (gemm != ExpertGemm::down_backward) CHECK(choose(desc_of(gemm), kHopper).tile.n == 256);
}

TEST_CASE("the bound on tiles holds for every routing") {
  ExpertGemmDesc desc = desc_of(ExpertGemm::grouped_gemm);
  desc.m = desc.n = 300;
  // 300 rows on 8 experts: at worst 2 full row tiles and 7 partial ones, 2 column tiles each.
  CHECK(choose(desc, kHopper, kPortable).max_tiles >= 9 * 2);
  ExpertGemmDesc gradient = desc_of(ExpertGemm::weight_gradient);
  gradient.m = gradient.n = 300;
  CHECK(choose(gradient, kHopper, kPortable).max_tiles == 8 * 3 * 2);
}

TEST_CASE("workspace follows from the form") {
  ExpertGemmDesc desc = desc_of(ExpertGemm::down_backward);
  desc.m = 1000;
  desc.n = 520;
  CHECK(choose(desc, kHopper).workspace_bytes == 1000 * 5 * 4);             // 128 columns each
  CHECK(choose(desc, kHopper, kPortable).workspace_bytes == 1000 * 9 * 4);  // 64 columns each
  CHECK(choose(desc, kHopper).num_partials(520) == 5);
  desc.k = 4096;
  CHECK(choose(desc, kHopper).workspace_bytes == 1000 * 3 * 4);  // 256 columns each
  desc.dtype = DType::f32;
  CHECK(choose(desc, kHopper).workspace_bytes == 1000 * 9 * 4);
  ExpertGemmDesc gradient = desc_of(ExpertGemm::weight_gradient);
  CHECK(choose(gradient, kHopper).workspace_bytes == 0);
  gradient.copied_bytes = 640;  // only the sm90 form needs the copy
  CHECK(choose(gradient, kHopper).workspace_bytes == 640);
  CHECK(choose(gradient, kAmpere).workspace_bytes == 0);
  for (const ExpertGemm gemm : {ExpertGemm::grouped_gemm, ExpertGemm::up})
    CHECK(choose(desc_of(gemm), kHopper).workspace_bytes == 0);
}

TEST_CASE("a config prints its form, tile, stages, workspace and reason") {
  CHECK(to_string(choose(desc_of(ExpertGemm::up), kHopper)) ==
        "wgmma 128x256x64, 3 stages, 0 bytes of workspace");
  CHECK(to_string(choose(desc_of(ExpertGemm::weight_gradient), kHopper)) ==
        "wgmma 128x256x64, 4 stages, 0 bytes of workspace");
  CHECK(to_string(choose(desc_of(ExpertGemm::grouped_gemm), kAmpere)) ==
        "mma.sync 128x128x64, 2 stages, 0 bytes of workspace, because the GPU's compute capability "
        "is not 9.0");
  ExpertGemmDesc f32 = desc_of(ExpertGemm::grouped_gemm);
  f32.dtype = DType::f32;
  CHECK(to_string(choose(f32, kHopper)) ==
        "SIMT (FFMA) 128x128x8, 1 stage, 0 bytes of workspace, because the dtype is not bf16");
}

TEST_CASE("a layer's engine follows from its sizes") {
  const ExpertLayer layer{8, 1024, 3584, Activation::swiglu, DType::bf16};
  CHECK(choose_expert_gemm(layer, kHopper).form == ExpertGemmForm::sm90);
  for (const ExpertLayer& odd : {ExpertLayer{8, 1023, 3584, Activation::swiglu, DType::bf16},
                                 {8, 1024, 3580, Activation::relu2, DType::bf16}})
    CHECK(std::string(choose_expert_gemm(odd, kHopper).reason) == "a width is not a multiple of 8");
  CHECK(expert_engine({}, layer) == "OpenBLAS");
}
