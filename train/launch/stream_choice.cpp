#include "train/launch/stream_choice.h"

#include <charconv>

#include "core/base/check.h"

namespace smoe {
namespace {

bool read_number(std::string_view text, int max, int& number) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end && number >= 0 && number <= max;
}

StreamPair pair_of(int bits) {
  return {(bits & 1) != 0, (bits & 2) != 0};
}

}  // namespace

StreamChoice::StreamChoice(const std::string& flag, const std::string& text) {
  int bits = 0;
  if (read_number(text, 3, bits)) {
    all_ = pair_of(bits);
    return;
  }
  bool is_valid = true;
  for (std::string_view rest = text; is_valid;) {
    const std::size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    const std::size_t colon = part.find(':');
    int rank = 0;
    is_valid =
        colon != std::string_view::npos && read_number(part.substr(0, colon), 1 << 20, rank) &&
        read_number(part.substr(colon + 1), 3, bits) && some_.emplace(rank, pair_of(bits)).second;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  SMOE_CHECK(is_valid, flag,
             ": must be 0 (none), 1 (output), 2 (error) or 3 (both), or that for some ranks, like "
             "0:3,2:1; got '",
             text, "'");
}

StreamPair StreamChoice::of(int local_rank) const {
  const auto found = some_.find(local_rank);
  return found == some_.end() ? all_ : found->second;
}

}  // namespace smoe
