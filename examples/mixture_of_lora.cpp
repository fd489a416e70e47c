// The program `smoe` with one more kind of MLP, a mixture of low-rank adapters. All commands know
// the kind: train, launch, plan, profile, eval and generate. mixture_of_lora.yaml trains it on a
// run of `smoe train` as the base.
#include "mixture_of_lora.h"

#include "train/commands/program.h"

int main(int argc, char** argv) {
  smoe::register_mlp<smoe::examples::MixtureOfLora>(
      "mixture_of_lora", {{"num_adapters", std::int64_t{4}, "adapters per layer", 1},
                          {"top_k", std::int64_t{1}, "adapters per token", 1},
                          {"rank", std::int64_t{8}, "inner width of an adapter", 1},
                          {"alpha", 16.0, "an adapter is scaled by alpha / rank", 0}});
  return smoe::run_program(argc, argv);
}
