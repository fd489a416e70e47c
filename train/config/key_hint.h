// Help with keys that do not exist.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "train/config/schema.h"

namespace smoe {

/// Whether some key stands in the section `path`.
bool is_section(const std::vector<Field>& fields, std::string_view path);

/// "; did you mean optim.lr?" with the key or section that is written most like `unknown`, a key of
/// the same name in another section included; how to see all keys if none is alike.
std::string hint_for(const std::vector<Field>& fields, std::string_view unknown);

}  // namespace smoe
