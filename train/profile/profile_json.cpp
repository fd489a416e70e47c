#include "train/profile/profile_json.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/base/check.h"
#include "core/system/json_reader.h"

namespace smoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

Json json_of(const Group& group) {
  return {{"launches", group.launches},
          {"ms", group.ms},
          {"host_ms", group.host_ms},
          {"flops", group.cost.flops},
          {"bytes", group.cost.bytes},
          {"least_ms", group.least_ms},
          {"roofline_share", group.roof_share()}};
}

template <class Bytes>
Json by_category(const Bytes& bytes) {
  Json json;
  for (int c = 0; c < kNumCategories; ++c) json[name_of(static_cast<Category>(c))] = bytes[c];
  return json;
}

Json json_of(const std::vector<OwnedBlocks>& blocks) {
  Json list = Json::array();
  for (const OwnedBlocks& block : blocks)
    list.push_back({{"owner", block.owner},
                    {"category", name_of(block.category)},
                    {"bytes", block.bytes},
                    {"blocks", block.count},
                    {"born_ms", block.born_ms},
                    {"died_ms", std::isnan(block.died_ms) ? Json() : Json(block.died_ms)}});
  return list;
}

Json memory_json(const Profile& p) {
  Json timeline = Json::array();
  for (const MemoryTimeline::Point& point : p.memory.points) {
    Json row = Json::array({point.ms});
    for (const std::int64_t bytes : point.bytes) row.push_back(bytes);
    timeline.push_back(std::move(row));
  }
  Json options = Json::array();
  for (const MemoryOption& option : p.memory_options)
    options.push_back({{"setting", option.setting},
                       {"peak_bytes", option.peak_bytes},
                       {"extra_ms", option.extra_ms}});
  return {{"peak_bytes", p.memory.peak_bytes},
          {"peak_ms", p.memory.peak_ms},
          {"at_peak", by_category(p.memory.at_peak)},
          {"planned_peak_bytes", p.plan.total_peak_bytes},
          {"planned_peak_by_category", by_category(p.plan.peak_bytes)},
          {"device_used_bytes", p.device_used_bytes},
          {"device_total_bytes", p.device_total_bytes},
          {"beside_tensors_bytes", p.beside_tensors_bytes},
          {"pool_peak_bytes", p.pool_peak_bytes},
          {"owners", json_of(p.memory.owners)},
          {"kept", json_of(p.memory.kept)},
          {"options", options},
          {"timeline", timeline}};
}

Json op_json(const OpGroup& op) {
  Json json{{"op", op.op}, {"part", op.part}, {"kernel", op.kernel}, {"phase", name_of(op.phase)}};
  json.update(json_of(op.group));
  json["launches_beside_communication"] = op.beside.launches;
  json["slowdown_beside_communication"] = op.slowdown();
  return json;
}

Json device_json(const Profile& p) {
  Json roofline{{"flops_per_s", p.roofline.flops_per_s},
                {"bytes_per_s", p.roofline.bytes_per_s},
                {"gemm", p.roofline.gemm},
                {"copy", p.roofline.copy}};
  Json power{{"unavailable", p.power.unavailable}, {"seconds", p.power.seconds},
             {"joules", p.power.joules},           {"mean_watts", p.power.mean_watts},
             {"max_watts", p.power.max_watts},     {"limit_watts", p.power.limit_watts},
             {"mean_mhz", p.power.mean_mhz},       {"min_mhz", p.power.min_mhz},
             {"max_mhz", p.power.max_mhz},         {"celsius", p.power.celsius},
             {"slowed_by", p.power.slowed_by}};
  return {{"name", p.device}, {"roofline", roofline}, {"power", power}};
}

Json step_json(const Profile& p) {
  Json phases;
  for (std::size_t i = 0; i < p.phase_ms.size(); ++i)
    phases[name_of(static_cast<Phase>(i))] = p.phase_ms[i];
  return {{"ms", p.step_ms},
          {"before_ms", p.before_ms},
          {"after_ms", p.after_ms},
          {"busy_ms", p.busy_ms},
          {"overlap_ms", p.overlap_ms},
          {"gap_ms", p.gap_ms},
          {"host_late_ms", p.host_late_ms},
          {"communication_ms", p.communication_ms},
          {"exposed_ms", p.exposed_ms},
          {"host_ms", p.host_ms},
          {"ahead_ms", p.ahead_ms},
          {"max_ahead_ms", p.max_ahead_ms},
          {"data_ms", p.data_ms},
          {"kernels_by_phase", phases},
          {"gemms", json_of(p.gemms)},
          {"attention", json_of(p.attention)},
          {"memory_bound", json_of(p.memory_bound)}};
}

template <class Items, class Get>
Json list_of(const Items& items, Get get) {
  Json list = Json::array();
  for (const auto& item : items) list.push_back(get(item));
  return list;
}

Json routing_json(const RoutingCost& r) {
  return {{"imbalance", r.imbalance},     {"tile_rows", r.tile_rows},
          {"tile_fill", r.tile_fill},     {"experts_ms", r.experts_ms},
          {"balanced_ms", r.balanced_ms}, {"padding_ms", r.padding_ms()}};
}

Json communication_json(const CommunicationGroup& g) {
  return {{"operation", g.operation},   {"phase", name_of(g.phase)},    {"bytes", g.bytes},
          {"ready_ms", g.ready_ms},     {"begin_ms", g.begin_ms},       {"ms", g.ms},
          {"exposed_ms", g.exposed_ms}, {"bytes_per_s", g.bytes_per_s}, {"late_ms", g.late_ms},
          {"last_rank", g.last_rank}};
}

std::string op_key(const std::string& kernel, const std::string& op, const std::string& part,
                   const std::string& phase) {
  return concat(kernel, op.empty() ? "" : " in " + op, part.empty() ? "" : " " + part, " (", phase,
                ")");
}

/// Figures of a profile by name.
using Figures = std::map<std::string, std::pair<double, std::string>>;

Figures figures_of(const nlohmann::json& json) {
  Figures figures;
  const auto& step = json.at("step");
  figures["step"] = {step.at("ms"), "ms"};
  figures["device without kernels"] = {step.at("gap_ms"), "ms"};
  for (const auto& [phase, ms] : step.at("kernels_by_phase").items())
    figures["kernels of " + phase] = {ms, "ms"};
  for (const auto& op : json.at("ops"))
    figures[op_key(op.at("kernel"), op.at("op"), op.at("part"), op.at("phase"))] = {op.at("ms"),
                                                                                    "ms"};
  figures["peak memory"] = {json.at("memory").at("peak_bytes"), "bytes"};
  for (const auto& [category, bytes] : json.at("memory").at("at_peak").items())
    figures["memory of " + category] = {bytes, "bytes"};
  return figures;
}

}  // namespace

std::string profile_json(const Profile& p) {
  const Json json{
      {"smoe_profile", kVersion},
      {"version", p.version},
      {"time", p.time},
      {"run", p.run},
      {"mode", p.mode},
      {"mode_note", p.mode_note},
      {"launch_ms", p.launch_ms},
      {"steps", p.num_steps},
      {"warmup", p.num_warmup},
      {"tokens_per_step", p.tokens_per_step},
      {"ranks", p.num_ranks},
      {"device", device_json(p)},
      {"step", step_json(p)},
      {"planned", {{"flops", p.planned.flops}, {"bytes", p.planned.bytes}}},
      {"measured", {{"flops", p.measured.flops}, {"bytes", p.measured.bytes}}},
      {"ops", list_of(p.ops, op_json)},
      {"cuda_kernels",
       list_of(p.kernels,
               [](const Group& k) {
                 return Json{{"name", k.name}, {"launches", k.launches}, {"ms", k.ms}};
               })},
      {"layers", list_of(p.layers,
                         [](const LayerGroup& l) {
                           return Json{{"layer", l.layer},
                                       {"forward_ms", l.forward_ms},
                                       {"backward_ms", l.backward_ms},
                                       {"recompute_ms", l.recompute_ms},
                                       {"experts_ms", l.experts_ms}};
                         })},
      {"micro_batches", list_of(p.micro_batches,
                                [](const MicroBatchTimes& m) {
                                  return Json{{"index", m.index},
                                              {"forward_ms", m.forward_ms},
                                              {"backward_ms", m.backward_ms}};
                                })},
      {"gaps", list_of(p.gaps,
                       [](const Gap& g) {
                         return Json{{"ms", g.ms},
                                     {"step", g.step},
                                     {"begin_ms", g.begin},
                                     {"before", g.before},
                                     {"after", g.after},
                                     {"host_late", g.is_host_late},
                                     {"operation_ms", g.operation_ms}};
                       })},
      {"waits", list_of(p.waits,
                        [](const WaitGroup& w) {
                          return Json{{"place", w.place}, {"waits", w.waits}, {"ms", w.ms}};
                        })},
      {"memory", memory_json(p)},
      {"routing", p.routing ? routing_json(*p.routing) : Json()},
      {"rank_times", list_of(p.ranks,
                             [](const RankTimes& r) {
                               return Json{{"rank", r.rank},
                                           {"step_ms", r.step_ms},
                                           {"busy_ms", r.busy_ms},
                                           {"communication_ms", r.communication_ms},
                                           {"exposed_ms", r.exposed_ms},
                                           {"hidden_share", r.hidden_share()},
                                           {"data_ms", r.data_ms},
                                           {"peak_bytes", r.peak_bytes}};
                             })},
      {"transport", p.transport},
      {"communication", list_of(p.communication, communication_json)},
      {"advice", list_of(p.advice, [](const Advice& a) {
         return Json{{"ms", a.ms}, {"text", a.text}};
       })}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::vector<Change> changes_since(const std::string& old_json, const std::string& path,
                                  const Profile& profile) {
  constexpr double kNoise = 0.03, kSmallest = 0.002;
  constexpr std::size_t kMaxDepth = 8;
  Figures before;
  try {
    const nlohmann::json json = parse_json(old_json, path, kMaxDepth);
    SMOE_CHECK(json.is_object() && json.value("smoe_profile", 0) == kVersion, path,
               ": must be the profile.json of `smoe profile`");
    before = figures_of(json);
  } catch (const nlohmann::json::exception&) {
    throw UsageError(concat(path, ": must be the profile.json of `smoe profile`"));
  }
  Figures after = figures_of(nlohmann::json::parse(profile_json(profile)));
  for (const auto& [what, figure] : before) after.try_emplace(what, 0.0, figure.second);
  std::vector<Change> changes;
  for (const auto& [what, figure] : after) {
    const auto found = before.find(what);
    const double old = found == before.end() ? 0 : found->second.first;
    const double difference = std::abs(figure.first - old);
    const double whole =
        figure.second == "ms" ? profile.step_ms : static_cast<double>(profile.memory.peak_bytes);
    if (difference > kNoise * std::max(old, figure.first) && difference > kSmallest * whole)
      changes.push_back({what, old, figure.first, figure.second});
  }
  std::stable_sort(changes.begin(), changes.end(), [&](const Change& a, const Change& b) {
    const auto size = [](const Change& c) { return std::abs(c.after - c.before); };
    return std::tuple(a.unit == "bytes", -size(a)) < std::tuple(b.unit == "bytes", -size(b));
  });
  return changes;
}

}  // namespace smoe
