#include "train/config/changes.h"

#include <doctest/doctest.h>

#include "tests/train/config/message_of.h"
#include "tests/train/config/valid_config.h"

using namespace smoe;

namespace {

Config changed(const std::vector<std::string>& overrides) {
  return parse_config(kValid, "a.yaml", overrides);
}

// The keys accepted, or the message of the refusal.
std::string outcome(const Config& trained, const Config& now, std::int64_t step,
                    const std::vector<std::string>& consent = {}) {
  std::string keys;
  const std::string message = message_of([&] {
    for (const KeyChange& change : accepted_changes(trained, now, step, consent, "r"))
      keys += change.key + " ";
  });
  return message == "no error" ? keys : message;
}

}  // namespace

TEST_CASE("train.steps may grow while the schedule so far does not depend on it") {
  for (const auto& [schedule, step, is_free] :
       {std::tuple{"constant", 10, true}, std::tuple{"wsd", 7, true}, std::tuple{"wsd", 8, true},
        std::tuple{"wsd", 9, false}, std::tuple{"wsd", 10, false}, std::tuple{"cosine", 5, false},
        std::tuple{"linear", 5, false}}) {
    CAPTURE(schedule);
    CAPTURE(step);
    const std::string kind = concat("schedule.kind=", schedule);
    const Config before = changed({kind, "train.steps=10", "schedule.warmup_steps=0"});
    const Config after = changed({kind, "train.steps=20", "schedule.warmup_steps=0"});
    CHECK((outcome(before, after, step) == "train.steps ") == is_free);
    CHECK(outcome(before, after, step, {"train.steps"}) == "train.steps ");
    CHECK(outcome(after, before, step) != "train.steps ");  // fewer
  }
}

TEST_CASE("a refusal names all keys that differ, and the consent that they need") {
  const Config before = changed({});
  const Config after = changed({"optim.lr=0.5", "train.micro_batch=1"});
  CHECK(outcome(before, after, 3) ==
        "r: cannot resume with train.micro_batch=1, it was trained with " +
            std::to_string(before.train.micro_batch) +
            "; optim.lr=0.5, it was trained with 3e-04; to change it from here on, add --change "
            "train.micro_batch,optim.lr; otherwise restore it, or choose another run.name");
  CHECK(outcome(before, after, 3, {"optim.lr"}).find("--change train.micro_batch;") !=
        std::string::npos);
  CHECK(outcome(before, after, 3, {"optim", "train"}) == "train.micro_batch optim.lr ");
  CHECK(outcome(before, changed({"model.d_expert=32", "optim.lr=1"}), 3, {"model", "optim"})
            .find("model.d_expert cannot change in a run") != std::string::npos);
  CHECK(outcome(before, changed({"run.threads=1"}), 3) == "");
}

TEST_CASE("consent names keys or sections") {
  const Config config = changed({});
  CHECK(parse_consent("optim.lr,train", config) == std::vector<std::string>{"optim.lr", "train"});
  CHECK(parse_consent("data.sources.new.weight", config).size() == 1);
  CHECK(message_of([&] { parse_consent("optim.lrr", config); }) ==
        "change: optim.lrr: unknown key; did you mean optim.lr?");
}

TEST_CASE("the consequences of a change are named") {
  const Config before = changed({"schedule.kind=constant", "train.steps=10"});
  const auto lines = [&](const std::vector<std::string>& overrides) {
    std::vector<std::string> all = {"schedule.kind=constant", "train.steps=10"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    const Config after = changed(all);
    std::string text;
    for (const std::string& line :
         consequences_of(changes_between(before, after), before, after, 8))
      text += line + "\n";
    return text;
  };
  CHECK(lines({}) == "");
  CHECK(lines({"optim.lr=0.5"}).find("next step is 0.5 instead of 0.0003") != std::string::npos);
  CHECK(lines({"train.micro_batch=1", "model.router.balance_loss=0.01"}).find("per micro-batch") !=
        std::string::npos);
}
