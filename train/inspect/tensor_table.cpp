#include "train/inspect/tensor_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "core/system/format.h"
#include "core/system/text.h"

namespace smoe {
namespace {

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// A name split at its numbers: "layers.3.w1" is {"layers.", ".w1"} with {"3"}. Only complete parts
// between dots are numbers, not the 1 of w1, and only those of at most 9 digits.
struct NumberedName {
  std::vector<std::string> texts{""};
  std::vector<std::int64_t> numbers;

  explicit NumberedName(const std::string& name) {
    for (std::size_t begin = 0; begin <= name.size();) {
      const std::size_t end = std::min(name.find('.', begin), name.size());
      const std::string part = name.substr(begin, end - begin);
      const bool is_number =
          !part.empty() && part.size() <= 9 && std::all_of(part.begin(), part.end(), is_digit);
      if (begin > 0) texts.back() += '.';
      if (is_number) {
        numbers.push_back(std::stoll(part));
        texts.emplace_back();
      } else {
        texts.back() += part;
      }
      begin = end + 1;
    }
  }

  std::string pattern() const {
    std::string text;
    for (const std::string& piece : texts) text += piece + '#';
    return text;
  }
};

// The tensors in one line of the table.
struct Group {
  NumberedName first;
  TensorRow row;
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;  // minimum and maximum of each number
  std::int64_t count = 0;
  std::int64_t bytes = 0;

  void add(const NumberedName& name, std::int64_t more_bytes) {
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      ranges[i].first = std::min(ranges[i].first, name.numbers[i]);
      ranges[i].second = std::max(ranges[i].second, name.numbers[i]);
    }
    ++count;
    bytes += more_bytes;
  }

  std::string name() const {
    std::string text = first.texts[0];
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const auto [low, high] = ranges[i];
      text += low == high ? std::to_string(low) : fmt::format("{{{}..{}}}", low, high);
      text += first.texts[i + 1];
    }
    return printable(text, std::string_view::npos);
  }
};

std::vector<Group> grouped_rows(const std::vector<TensorRow>& rows, bool is_each) {
  std::vector<Group> groups;
  std::map<std::string, std::size_t> places;
  for (const TensorRow& row : rows) {
    const NumberedName name(row.name);
    const std::string key = is_each ? row.name : name.pattern() + row.dtype + row.shape;
    const auto [place, is_new] = places.emplace(key, groups.size());
    if (is_new) {
      groups.push_back({name, row, {}});
      for (const std::int64_t number : name.numbers)
        groups.back().ranges.emplace_back(number, number);
    }
    groups[place->second].add(name, row.bytes);
  }
  return groups;
}

}  // namespace

std::string tensor_table(const std::vector<TensorRow>& rows, bool is_each) {
  const std::vector<Group> groups = grouped_rows(rows, is_each);
  std::size_t name_width = 7, shape_width = 5;
  std::int64_t bytes = 0;
  for (const Group& group : groups) {
    name_width = std::max(name_width, group.name().size());
    shape_width = std::max(shape_width, group.row.shape.size());
    bytes += group.bytes;
  }
  const auto line = [&](std::string_view name, std::string_view dtype, std::string_view shape,
                        std::string_view count, std::string_view size) {
    return fmt::format("  {:<{}}  {:<5}  {:<{}}  {:>7}  {:>9}\n", name, name_width, dtype, shape,
                       shape_width, count, size);
  };
  std::string text = line("tensors", "dtype", "shape", "count", "bytes");
  for (const Group& group : groups)
    text += line(group.name(), group.row.dtype, group.row.shape, grouped(group.count),
                 format_bytes(group.bytes));
  return text +
         line("all", "", "", grouped(static_cast<std::int64_t>(rows.size())), format_bytes(bytes));
}

}  // namespace smoe
