#include "train/config/changes.h"

#include <algorithm>

#include "core/system/text.h"
#include "optim/lr_schedule.h"
#include "train/config/key_hint.h"
#include "train/config/schema.h"

namespace smoe {
namespace {

bool is_within(std::string_view key, std::string_view section) {
  return key.size() > section.size() && key.starts_with(section) && key[section.size()] == '.';
}

// Whether the steps done had the learning rates that a run of `now` would have given them.
bool is_only_longer(const Config& trained, const Config& now, std::int64_t step) {
  if (now.train.steps <= trained.train.steps) return false;
  const ScheduleConfig& schedule = trained.schedule;
  if (schedule.kind != ScheduleKind::constant && schedule.kind != ScheduleKind::wsd) return false;
  return step <= schedule.warmup_steps || lr_scale(schedule, step, trained.train.steps) == 1;
}

double lr_after(const Config& config, std::int64_t step) {
  return config.optim.lr * lr_scale(config.schedule, step + 1, config.train.steps);
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

bool has_change(const std::vector<KeyChange>& changes, std::string_view prefix) {
  return std::any_of(changes.begin(), changes.end(), [&](const KeyChange& change) {
    return change.key == prefix || is_within(change.key, prefix);
  });
}

}  // namespace

bool has_consent(const std::vector<std::string>& consent, const std::string& key) {
  return std::any_of(consent.begin(), consent.end(), [&](const std::string& given) {
    return given == key || is_within(key, given);
  });
}

std::vector<KeyChange> changes_between(const Config& trained, const Config& now) {
  Config before = trained, after = now;
  const std::vector<Field> old_fields = fields_of(before), new_fields = fields_of(after);
  // A source may exist in only one of them.
  const auto value_in = [](const std::vector<Field>& fields, const std::string& key) {
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.key == key; });
    return field == fields.end() ? "nothing" : to_yaml(field->target);
  };
  std::vector<KeyChange> changes;
  const auto compare = [&](const Field& field) {
    KeyChange change{field.key, value_in(old_fields, field.key), value_in(new_fields, field.key)};
    if (field.resume != Resume::may_change && change.before != change.after)
      changes.push_back(std::move(change));
  };
  for (const Field& field : new_fields) compare(field);
  for (const Field& field : old_fields)
    if (value_in(new_fields, field.key) == "nothing") compare(field);
  return changes;
}

std::vector<KeyChange> accepted_changes(const Config& trained, const Config& now, std::int64_t step,
                                        const std::vector<std::string>& consent,
                                        const std::string& place) {
  const std::vector<KeyChange> changes = changes_between(trained, now);
  Config copy = now, old_copy = trained;
  std::vector<Field> fields = fields_of(copy);
  for (const Field& field : fields_of(old_copy)) fields.push_back(field);
  std::vector<std::string> fixed, missing;
  std::string differences;
  for (const auto& [key, before, after] : changes) {
    const auto field = std::find_if(fields.begin(), fields.end(),
                                    [&, name = key](const Field& f) { return f.key == name; });
    // The selection bias is state that a model has or has not.
    const bool is_fixed =
        field->resume == Resume::must_match || (key == "model.router.selection_bias_rate" &&
                                                (now.model.router.selection_bias_rate == 0 ||
                                                 trained.model.router.selection_bias_rate == 0));
    const bool is_free = key == "train.steps" && is_only_longer(trained, now, step);
    if (is_fixed) fixed.push_back(key);
    if (!is_fixed && !is_free && !has_consent(consent, key)) missing.push_back(key);
    differences +=
        concat(differences.empty() ? "" : "; ", key, "=", after, ", it was trained with ", before);
  }
  SMOE_CHECK(fixed.empty(), place, ": cannot resume with ", differences, "; ", joined(fixed),
             " cannot change in a run: restore it, or choose another run.name");
  SMOE_CHECK(missing.empty(), place, ": cannot resume with ", differences,
             "; to change it from here on, add --change ", joined(missing),
             "; otherwise restore it, or choose another run.name");
  SMOE_CHECK(now.train.steps >= step || changes.empty(), place,
             ": train.steps must be at least the ", step, " steps that are done; got ",
             now.train.steps);
  return changes;
}

std::vector<std::string> consequences_of(const std::vector<KeyChange>& changes,
                                         const Config& trained, const Config& now,
                                         std::int64_t step) {
  std::vector<std::string> lines;
  if (changes.empty() || now.train.steps <= step) return lines;
  const bool was_done = step >= trained.train.steps;
  const double next = lr_after(now, step), before = lr_after(trained, was_done ? step - 1 : step);
  if (next != before)
    lines.push_back(concat("  the learning rate of the next step is ", next,
                           was_done ? "; that of the last one was " : " instead of ", before));
  if (has_change(changes, "train.micro_batch"))
    lines.push_back(now.model.router.balance_loss > 0
                        ? "  the balance loss is computed per micro-batch: over other numbers of "
                          "tokens it is another loss"
                        : "  gradients differ by the rounding of another order of summation");
  if (has_change(changes, "train.global_batch") || has_change(changes, "data.sources"))
    lines.push_back("  each training set continues where it was; no sample is skipped or repeated");
  return lines;
}

bool is_same_run(const std::string& trained, const Config& now) {
  if (trained.empty()) return false;
  try {
    accepted_changes(parse_config(trained, "checkpoint"), now, 0,
                     {"train", "optim", "schedule", "model.router", "data"}, "");
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

std::vector<std::string> parse_consent(const std::string& text, const Config& config) {
  Config copy = config;
  const std::vector<Field> fields = fields_of(copy);
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    const bool is_known = is_within(name, kSourcesSection) ||
                          std::any_of(fields.begin(), fields.end(), [&](const Field& field) {
                            return field.key == name || is_within(field.key, name);
                          });
    SMOE_CHECK(is_known, "change: ", printable(name), ": unknown key", hint_for(fields, name));
    names.push_back(name);
    begin = end + 1;
  }
  return names;
}

}  // namespace smoe
