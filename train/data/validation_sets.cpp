#include "train/data/validation_sets.h"

#include "train/data/training_data.h"

namespace smoe {

std::vector<ValidationSet> open_validation_sets(const DataConfig& config, const TokenSpace& space) {
  std::vector<ValidationSet> opened;
  if (!config.validation.empty()) {
    opened.push_back({"", open_token_set("data.validation", config.validation, space)});
  } else if (config.sources.empty()) {
    opened.push_back({"", open_token_set("data.path", config.path, space)});
  } else {
    for (const DataSource& source : config.sources)
      opened.push_back({source.name, open_token_set(path_key_of(source), source.path, space)});
  }
  // The first token is not predicted, so a split needs two.
  std::erase_if(opened, [](const ValidationSet& validation) {
    return validation.set.num_tokens(Split::validation) < 2;
  });
  return opened;
}

}  // namespace smoe
