// docs/configuration.md follows from the schema. SMOE_WRITE_DOCS=1 writes it.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "core/system/file.h"
#include "train/config/schema.h"

using namespace smoe;

namespace {

// `text` as a cell of a table.
std::string cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

std::string type_text(const Field& field) {
  const std::string type = type_of(field.target);
  return field.rule.text.empty() ? type : field.rule.text;
}

std::string row(const Field& field) {
  const bool is_required = !field.rule.holds(field.target);
  return "| `" + field.key.substr(field.key.rfind('.') + 1) + "` | " +
         (is_required ? "*required*" : "`" + to_yaml(field.target) + "`") + " | " +
         cell(type_text(field)) + " | " + cell(std::string(field.meaning)) + " | " +
         (field.resume == Resume::may_change     ? "yes"
          : field.resume == Resume::with_consent ? "`--change`"
                                                 : "") +
         " |\n";
}

std::string heading(const std::string& section) {
  return "\n## " + section +
         "\n\n| key | default | must be | meaning | may change |\n|---|---|---|---|---|\n";
}

// The settings that a mixture of attention has in addition.
std::string mixture_of_attention_keys() {
  Config config;
  config.model.attention.kind = "moa";
  std::string text = heading("model.attention, with `kind: moa`");
  for (const Field& field : fields_of(config))
    if (field.key.starts_with("model.attention.") && field.key != "model.attention.kind")
      text += row(field);
  return text;
}

std::string configuration_page() {
  Config config;
  std::string page =
      "# Configuration\n\n"
      "Every key of a configuration, generated from the schema (`train/config/schema.cpp`). A key "
      "is given in its section of the\n"
      "YAML file or on the command line as `section.key=value`. *Required* keys have no default. "
      "On resume, keys marked yes may\n"
      "change, and keys marked `--change` if they are named there, as in `optim.lr=1e-3 --change "
      "optim.lr`; the others must stay.\n";
  std::string section;
  for (const Field& field : fields_of(config)) {
    const std::size_t dot = field.key.rfind('.');
    if (field.key.substr(0, dot) != section) {
      if (section == "model.attention") page += mixture_of_attention_keys();
      section = field.key.substr(0, dot);
      page += heading(section);
    }
    page += row(field);
  }
  page +=
      "\n## data.sources\n\n"
      "Instead of `data.path`: one section per token set, with a name of letters, digits, - and "
      "_.\n\n"
      "| key | must be | meaning |\n|---|---|---|\n"
      "| `NAME.path` | non-empty text | token set |\n"
      "| `NAME.weight` | above 0 | share of the samples, relative to the other weights |\n";
  return page;
}

}  // namespace

TEST_CASE("docs/configuration.md is that of the schema") {
  const std::string path = "docs/configuration.md", page = configuration_page();
  if (std::getenv("SMOE_WRITE_DOCS") != nullptr) write_file_atomically(path, page);
  INFO("to update it: SMOE_WRITE_DOCS=1 ctest --preset release -R train/config/documentation");
  CHECK((read_file(path, 1 << 20) == page));
}
