#include "train/report/metrics_line.h"

#include <simdjson.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

using OrderedJson = nlohmann::ordered_json;  // to write
// To read: references into a parsed line.
using Json = simdjson::dom::element;
using JsonArray = simdjson::dom::array;
using JsonObject = simdjson::dom::object;

/// Where a value stands in a line: "loss", "layers.z_loss.3". The text is made only where it is
/// needed, since a line has thousands of values.
struct ValuePath {
  const char* section = nullptr;
  const char* name = "";
  std::int64_t item = -1, element = -1;  // -1: none

  std::string text() const {
    std::string text = section ? concat(section, ".", name) : name;
    if (item >= 0) text += concat(".", item);
    return element >= 0 ? concat(text, ".", element) : text;
  }
};

/// Collects the fields of one line; "nonfinite" names the numbers that JSON cannot represent.
class Writer {
 public:
  explicit Writer(const char* kind) : fields_{{"kind", kind}} {}

  template <class T>
  void value(const char* name, const T& value) {
    fields_[name] = json_of({.name = name}, value);
  }
  template <class T>
  void value_of(const char* section, const char* name, const T& value) {
    fields_[section][name] = json_of({.section = section, .name = name}, value);
  }
  /// A list with one member of each item; nothing when there are no items.
  template <class Item, class Get>
  void column(const char* section, const std::vector<Item>& items, const char* name, Get get) {
    if (items.empty()) return;
    OrderedJson list = OrderedJson::array();
    for (const Item& item : items)
      list.push_back(json_of(
          {.section = section, .name = name, .item = static_cast<std::int64_t>(list.size())},
          get(item)));
    fields_[section][name] = std::move(list);
  }

  std::string text() {
    if (!nonfinite_.empty()) fields_["nonfinite"] = nonfinite_;
    return fields_.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  }

 private:
  template <class T>
  OrderedJson json_of(const ValuePath&, const T& value) {
    return value;
  }
  OrderedJson json_of(const ValuePath& path, double value) {
    if (std::isfinite(value)) return value;
    nonfinite_[path.text()] = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    return nullptr;
  }

  OrderedJson fields_;
  OrderedJson nonfinite_;
};

// Upper bound of steps, tokens, rows and bytes, so that adding and subtracting them cannot
// overflow.
constexpr std::int64_t kMaxCount = 1'000'000'000'000'000;

/// The value as T. Throws: UsageError for a value of another type.
template <class T>
T value_in(Json json, const ValuePath& path, const char* type) {
  T value;
  SMOE_CHECK(json.get(value) == simdjson::SUCCESS, path.text(), ": must be ", type);
  return value;
}

/// Reads the fields of one line; missing fields stay unchanged.
class Reader {
 public:
  explicit Reader(JsonObject fields) : fields_(fields) {
    if (const auto named = find(fields, "nonfinite"))
      nonfinite_ = value_in<JsonObject>(*named, {.name = "nonfinite"}, "an object");
  }

  template <class T>
  void value(const char* name, T& value) {
    read(fields_, {.name = name}, value);
  }
  template <class T>
  void value_of(const char* section, const char* name, T& value) {
    if (const auto fields = section_of(section))
      read(*fields, {.section = section, .name = name}, value);
  }
  template <class Item, class Get>
  void column(const char* section_name, std::vector<Item>& items, const char* name, Get get) {
    const auto section = section_of(section_name);
    const auto found = section ? find(*section, name) : std::nullopt;
    if (!found) return;
    ValuePath path{.section = section_name, .name = name};
    const auto list = value_in<JsonArray>(*found, path, "a list");
    if (items.empty()) items.resize(list.size());
    SMOE_CHECK(list.size() == items.size(), "the lists of \"", section_name,
               "\" must have equal lengths");
    path.item = 0;
    for (const Json json : list) {
      convert(json, path, get(items[static_cast<std::size_t>(path.item)]));
      ++path.item;
    }
  }

 private:
  static std::optional<Json> find(JsonObject fields, const char* name) {
    Json found;
    if (fields.at_key(name).get(found) != simdjson::SUCCESS) return std::nullopt;
    return found;
  }
  std::optional<JsonObject> section_of(const char* name) const {
    const auto found = find(fields_, name);
    if (!found) return std::nullopt;
    return value_in<JsonObject>(*found, {.name = name}, "an object");
  }
  template <class T>
  void read(JsonObject fields, const ValuePath& path, T& value) {
    if (const auto found = find(fields, path.name)) convert(*found, path, value);
  }
  void convert(Json json, const ValuePath& path, bool& value) {
    value = value_in<bool>(json, path, "true or false");
  }
  void convert(Json json, const ValuePath& path, std::string& value) {
    value = value_in<std::string_view>(json, path, "a string");
  }
  void convert(Json json, const ValuePath& path, std::int64_t& value) {
    const bool is_integer = json.get(value) == simdjson::SUCCESS;
    SMOE_CHECK(is_integer && value >= 0 && value <= kMaxCount, path.text(),
               ": must be an integer from 0 to ", kMaxCount, "; got ",
               printable(simdjson::minify(json)));
  }
  void convert(Json json, const ValuePath& path, std::vector<std::int64_t>& values) {
    const auto list = value_in<JsonArray>(json, path, "a list of integers");
    values.clear();
    values.reserve(list.size());
    ValuePath element = path;
    for (const Json one : list) {
      element.element = static_cast<std::int64_t>(values.size());
      convert(one, element, values.emplace_back());
    }
  }
  void convert(Json json, const ValuePath& path, double& value) {
    if (!json.is_null()) {
      value = value_in<double>(json, path, "a number");
      return;
    }
    std::string_view which = "nan";
    if (nonfinite_) {
      const auto named = find(*nonfinite_, path.text().c_str());
      if (named) which = value_in<std::string_view>(*named, {.name = "nonfinite"}, "a name");
    }
    const double infinity = std::numeric_limits<double>::infinity();
    value = which == "inf" ? infinity : which == "-inf" ? -infinity : std::nan("");
  }

  JsonObject fields_;
  std::optional<JsonObject> nonfinite_;
};

// The fields of each kind of report, for both writing (`Report` is const) and reading.

template <class Archive, class Report>
void start_fields(Archive& a, Report& r) {
  a.value("step", r.step);
  a.value("steps", r.steps);
  a.value("time", r.time);
  a.value("device", r.device);
  a.value("threads", r.threads);
  a.value("ranks", r.ranks);
  a.value("version", r.version);
  a.value("device_bytes", r.device_bytes);
}

template <class Archive, class Layers>
void layer_fields(Archive& a, Layers& layers) {
  if (layers.empty() || !layers[0].router.empty())
    a.column(
        "layers", layers, "router", [](auto& l) -> auto& { return l.router; });
  a.column(
      "layers", layers, "imbalance", [](auto& l) -> auto& { return l.load.imbalance; });
  a.column(
      "layers", layers, "entropy", [](auto& l) -> auto& { return l.load.entropy; });
  a.column(
      "layers", layers, "dead_experts", [](auto& l) -> auto& { return l.load.dead; });
  a.column(
      "layers", layers, "balance_loss", [](auto& l) -> auto& { return l.balance_loss; });
  a.column(
      "layers", layers, "z_loss", [](auto& l) -> auto& { return l.z_loss; });
  a.column(
      "layers", layers, "expert_rows", [](auto& l) -> auto& { return l.expert_rows; });
}

template <class Archive, class Report>
void step_fields(Archive& a, Report& r) {
  a.value("step", r.step);
  a.value("steps", r.steps);
  a.value("tokens", r.tokens);
  a.value("loss", r.loss);
  a.value("balance_loss", r.balance_loss);
  a.value("z_loss", r.z_loss);
  a.value("lr", r.lr);
  a.value("grad_norm", r.grad_norm);
  a.value("tokens_per_s", r.tokens_per_s);
  a.value("mfu", r.mfu);
  a.value("step_s", r.step_s);
  a.value("elapsed_s", r.elapsed_s);
  a.value("data_share", r.data_share);
  a.value("communication_share", r.communication_share);
  a.value("save_share", r.save_share);
  a.value("peak_bytes", r.peak_bytes);
  a.value("imbalance", r.imbalance);
  a.value("dead_experts", r.dead_experts);
  a.value("skipped", r.is_skipped);
  for (int c = 0; c < kNumCategories; ++c)
    a.value_of("memory", name_of(static_cast<Category>(c)), r.memory_bytes[c]);
  layer_fields(a, r.layers);
}

template <class Archive, class Sources>
void source_fields(Archive& a, Sources& sources) {
  a.column(
      "sources", sources, "name", [](auto& s) -> auto& { return s.name; });
  a.column(
      "sources", sources, "tokens", [](auto& s) -> auto& { return s.tokens; });
  a.column(
      "sources", sources, "loss", [](auto& s) -> auto& { return s.loss; });
  a.column(
      "sources", sources, "bits_per_byte", [](auto& s) -> auto& { return s.bits_per_byte; });
}

template <class Archive, class Report>
void validation_fields(Archive& a, Report& r) {
  a.value("step", r.step);
  a.value("steps", r.steps);
  a.value("tokens", r.tokens);
  a.value("loss", r.loss);
  a.value("bits_per_byte", r.bits_per_byte);
  a.value("seconds", r.seconds);
  source_fields(a, r.sources);
}

template <class Archive, class Report>
void change_fields(Archive& a, Report& r) {
  a.value("step", r.step);
  a.value("steps", r.steps);
  a.column(
      "changes", r.changes, "key", [](auto& c) -> auto& { return c.key; });
  a.column(
      "changes", r.changes, "before", [](auto& c) -> auto& { return c.before; });
  a.column(
      "changes", r.changes, "after", [](auto& c) -> auto& { return c.after; });
}

template <class Report, class Fields>
Report read_as(JsonObject json, Fields fields) {
  Report report;
  Reader reader(json);
  fields(reader, report);
  return report;
}

Report report_of(JsonObject json) {
  std::string_view kind;
  SMOE_CHECK(json.at_key("kind").get(kind) == simdjson::SUCCESS,
             "must be a line of metrics written by this program");
  if (kind == "start")
    return read_as<StartReport>(json, [](auto& a, auto& r) { start_fields(a, r); });
  if (kind == "step") return read_as<StepReport>(json, [](auto& a, auto& r) { step_fields(a, r); });
  if (kind == "change")
    return read_as<ChangeReport>(json, [](auto& a, auto& r) { change_fields(a, r); });
  SMOE_CHECK(kind == "validation", "\"kind\" must be start, step, validation or change");
  return read_as<ValidationReport>(json, [](auto& a, auto& r) { validation_fields(a, r); });
}

std::string line_of(const StartReport& report) {
  Writer writer("start");
  start_fields(writer, report);
  return writer.text();
}

std::string line_of(const StepReport& report) {
  Writer writer("step");
  step_fields(writer, report);
  return writer.text();
}

std::string line_of(const ValidationReport& report) {
  Writer writer("validation");
  validation_fields(writer, report);
  return writer.text();
}

std::string line_of(const ChangeReport& report) {
  Writer writer("change");
  change_fields(writer, report);
  return writer.text();
}

}  // namespace

std::string metrics_line(const Report& report) {
  return std::visit([](const auto& r) { return line_of(r); }, report);
}

Report parse_metrics_line(std::string_view line) {
  simdjson::dom::parser parser;
  JsonObject fields;
  SMOE_CHECK(parser.parse(line.data(), line.size()).get(fields) == simdjson::SUCCESS,
             "must be a line of metrics written by this program");
  return report_of(fields);
}

}  // namespace smoe
