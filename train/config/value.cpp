#include "train/config/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/system/text.h"

namespace smoe {
namespace {

/// An overload set of lambdas for std::visit.
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// YAML 1.1 parsers read 010 as eight, others as ten, so it is refused.
bool has_leading_zero(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && is_digit(text[1]);
}

/// Parses all of `text` into `value`, which is unchanged on error.
template <class T>
std::errc parse_number(std::string_view text, T& value) {
  T parsed{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc{}) return error;
  if (end != text.data() + text.size()) return std::errc::invalid_argument;
  value = parsed;
  return {};
}

std::string assign_integer(std::int64_t& value, std::string_view text) {
  if (has_leading_zero(text)) return "an integer without leading zeros";
  const std::errc error = parse_number(text, value);
  if (error == std::errc::result_out_of_range) return "an integer of at most 64 bits";
  return error == std::errc{} ? "" : "an integer";
}

std::string assign_real(double& value, std::string_view text) {
  if (has_leading_zero(text)) return "a number without leading zeros";
  double parsed = 0;
  const std::errc error = parse_number(text, parsed);
  if (error == std::errc::result_out_of_range) return "a number that fits a double";
  if (error != std::errc{}) return "a number";
  if (!std::isfinite(parsed)) return "a finite number";
  value = parsed;
  return "";
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace

std::string assign(const ValueRef& target, const Scalar& scalar) {
  const std::string& text = scalar.text;
  const bool is_text =
      std::holds_alternative<std::string*>(target) || std::holds_alternative<Choice>(target);
  if (scalar.is_quoted && !is_text) return type_of(target);
  return std::visit(Overloaded{
                        [&](std::int64_t* value) { return assign_integer(*value, text); },
                        [&](double* value) { return assign_real(*value, text); },
                        [&](bool* value) -> std::string {
                          if (text != "true" && text != "false") return type_of(target);
                          *value = text == "true";
                          return "";
                        },
                        [&](std::string* value) -> std::string {
                          if (!is_printable(text))
                            return "text in UTF-8 without control characters";
                          *value = text;
                          return "";
                        },
                        [&](const Choice& value) -> std::string {
                          const auto name = std::find(value.names.begin(), value.names.end(), text);
                          if (name == value.names.end()) return type_of(target);
                          value.assign(static_cast<std::size_t>(name - value.names.begin()));
                          return "";
                        },
                    },
                    target);
}

std::string to_yaml(const ValueRef& target) {
  return std::visit(
      Overloaded{
          [](const std::int64_t* value) { return std::to_string(*value); },
          [](const double* value) {
            char digits[32];  // shortest representation that parses to the same double
            const auto end = std::to_chars(digits, digits + sizeof digits, *value);
            return std::string(digits, end.ptr);
          },
          [](const bool* value) { return std::string(*value ? "true" : "false"); },
          [](const std::string* value) { return quoted(*value); },
          [](const Choice& value) { return std::string(value.names[value.get()]); },
      },
      target);
}

std::string type_of(const ValueRef& target) {
  return std::visit(Overloaded{
                        [](const std::int64_t*) { return std::string("an integer"); },
                        [](const double*) { return std::string("a number"); },
                        [](const bool*) { return std::string("true or false"); },
                        [](const std::string*) { return std::string("text"); },
                        [](const Choice& value) { return "one of " + listed(value.names); },
                    },
                    target);
}

std::string shown(const Scalar& scalar) {
  return scalar.is_quoted || scalar.text.empty() ? '"' + printable(scalar.text) + '"'
                                                 : printable(scalar.text);
}

std::string listed(const std::vector<std::string_view>& names) {
  std::string out;
  for (const std::string_view name : names) (out += out.empty() ? "" : ", ") += name;
  return out;
}

}  // namespace smoe
