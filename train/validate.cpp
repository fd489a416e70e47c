#include "train/validate.h"

namespace smoe {

ValidationReport validate(const Config& config, Trainer& trainer,
                          const std::vector<ValidationSet>& sets, const OnEvaluated& on_evaluated) {
  const TrainConfig& train = config.train;
  const EvaluateOptions options{.seq_len = train.seq_len,
                                .micro_batch = train.micro_batch,
                                .max_batches = train.eval_batches,
                                .parallel = &trainer.parallel()};
  ValidationReport report{.step = trainer.steps_done(), .steps = train.steps};
  Evaluation total;
  for (const auto& [name, set] : sets) {
    const Evaluation source = evaluate(trainer.model(), set, options, on_evaluated);
    total += source;
    if (!name.empty())
      report.sources.push_back({name, source.tokens, source.loss(), source.bits_per_byte()});
  }
  report.tokens = total.tokens;
  report.loss = total.loss();
  report.bits_per_byte = total.bits_per_byte();
  report.seconds = total.seconds;
  return report;
}

}  // namespace smoe
