// The kinds of attention and MLP that a configuration can name: those of this library, and modules
// of a program's own, which it registers in one line before it parses a configuration:
//
//   register_mlp<MyExperts>("my_experts", {{"rank", std::int64_t{8}, "width of an adapter", 1}});
#pragma once
#include <concepts>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layers/layer_module.h"

namespace smoe {

/// A setting of a kind's own, beside those of the model.
struct KindSetting {
  std::string name;
  KindValue value;      ///< the default, whose type a given value must have
  std::string meaning;  ///< a few words
  double at_least = std::numeric_limits<double>::lowest();  ///< the smallest value of a number
};

struct LayerKind {
  std::string name;
  std::vector<KindSetting> settings;
  /// Throws: UsageError for settings that do not fit each other or the model.
  std::function<std::unique_ptr<LayerModule>(const LayerSpec&)> make;
};

enum class LayerPart : std::uint8_t { attention, mlp };

/// Adds a kind. Not thread-safe: call it first in main, on every rank alike.
/// Throws: UsageError if the name is not of a-z, 0-9 and _, or is taken, or a setting's is.
void register_layer_kind(LayerPart part, LayerKind kind);

/// M is built from a `const LayerSpec&`.
template <std::derived_from<LayerModule> M>
void register_mlp(std::string name, std::vector<KindSetting> settings = {}) {
  register_layer_kind(LayerPart::mlp,
                      {std::move(name), std::move(settings),
                       [](const LayerSpec& spec) { return std::make_unique<M>(spec); }});
}
template <std::derived_from<LayerModule> M>
void register_attention(std::string name, std::vector<KindSetting> settings = {}) {
  register_layer_kind(LayerPart::attention,
                      {std::move(name), std::move(settings),
                       [](const LayerSpec& spec) { return std::make_unique<M>(spec); }});
}

/// All kinds, the library's first. References to them stay valid.
const std::deque<LayerKind>& layer_kinds(LayerPart part);
/// Null if there is none of that name.
const LayerKind* find_layer_kind(LayerPart part, const std::string& name);

/// The attention or MLP of a layer, built from `spec` and the settings that its model gives the
/// kind. Throws: UsageError for an unknown kind, listing the known ones; as LayerKind::make.
std::unique_ptr<LayerModule> make_layer_module(LayerPart part, LayerSpec spec);

}  // namespace smoe
