// Human-readable counts, bytes and times.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace smoe {

/// "1,234,567".
std::string grouped(std::int64_t number);

/// "1 document", "1,200 documents".
std::string counted(std::int64_t number, const std::string& noun);

/// Three digits and a decimal unit: "873", "12.3 k", "3.48 M", "1.52 B".
std::string short_count(double number);

/// Operations with three digits and a decimal unit: "873 FLOP", "12.3 kFLOP", "8.97 TFLOP".
std::string short_flops(double number);

/// A line of a printed table: two spaces, the label padded to 16 columns, the text, a line feed.
std::string labelled(std::string_view label, std::string_view text);

/// A duration in at most six characters: "0.4s", "42s", "1m42s", "3h07m", "12d03h", "463d"; "?"
/// when it is negative or not finite.
std::string format_duration(double seconds);

/// The time now in UTC: "2026-03-21T14:05:09Z".
std::string utc_time();

/// Bytes with a binary unit: "512 B", "1.24 GiB".
std::string format_bytes(std::int64_t bytes);

}  // namespace smoe
