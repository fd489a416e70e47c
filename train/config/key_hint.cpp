#include "train/config/key_hint.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace smoe {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // distances from the prefix of `a` of length i
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

namespace {

struct Path {
  std::string_view section, name;
};

Path split(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string_view::npos) return {"", path};
  return {path.substr(0, dot), path.substr(dot + 1)};
}

}  // namespace

bool is_section(const std::vector<Field>& fields, std::string_view path) {
  return std::any_of(fields.begin(), fields.end(), [&](const Field& field) {
    return field.key.size() > path.size() && field.key.starts_with(path) &&
           field.key[path.size()] == '.';
  });
}

std::string hint_for(const std::vector<Field>& fields, std::string_view unknown) {
  std::set<std::string_view> known;
  for (const Field& field : fields)
    for (std::string_view path = field.key; !path.empty(); path = split(path).section)
      known.insert(path);

  const Path wrong = split(unknown);
  constexpr std::size_t kLongestName = 64;  // far longer than any key
  const std::string no_hint = "; `smoe train CONFIG --print-config` lists all keys";
  if (wrong.name.size() > kLongestName) return no_hint;
  const std::size_t most_edits = std::max<std::size_t>(1, wrong.name.size() / 3);
  std::pair<std::size_t, std::size_t> least_edits{most_edits + 1, 0};
  std::string_view nearest;
  for (const std::string_view path : known) {
    const Path right = split(path);
    const std::pair edits{edit_distance(wrong.name, right.name),
                          edit_distance(wrong.section.substr(0, kLongestName), right.section)};
    if (edits.first > most_edits || edits >= least_edits) continue;
    least_edits = edits;
    nearest = path;
  }
  return nearest.empty() ? no_hint : concat("; did you mean ", nearest, "?");
}

}  // namespace smoe
