#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <cctype>

#include "core/random.h"

namespace smoe::fuzz {
namespace {

constexpr std::size_t kMaxBytes = 1
                                  << 16;  // limit of a mutated input, or twice the size of its seed
constexpr std::size_t kBombBytes = 1 << 16;

constexpr std::uint64_t kIntegers[] = {0,
                                       1,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0x7fff,
                                       0x8000,
                                       0xffff,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x7fffffffffffffff,
                                       0x8000000000000000,
                                       0xffffffffffffffff};
const char* const kNumbers[] = {"0",
                                "-0",
                                "-1",
                                "1",
                                "007",
                                "2147483647",
                                "2147483648",
                                "4294967296",
                                "1099511627776",
                                "9223372036854775807",
                                "9223372036854775808",
                                "-9223372036854775808",
                                "18446744073709551615",
                                "18446744073709551616",
                                "999999999",
                                "1e308",
                                "1e309",
                                "1e-400",
                                "-1e300",
                                "0.5",
                                "nan",
                                "inf",
                                "0x10",
                                "1_000"};

class Mutator {
 public:
  Mutator(const Target& target, RandomStream random, std::string bytes)
      : target_(target), random_(random), bytes_(std::move(bytes)) {
    max_bytes_ = std::max(kMaxBytes, 2 * bytes_.size());
  }

  std::string mutated() {
    for (std::size_t count = 1 + below(std::size_t{1} << below(4)); count > 0; --count) change();
    return std::move(bytes_);
  }

 private:
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_.below(n)); }
  template <class Items>
  const auto& one_of(const Items& items) {
    return items[below(std::size(items))];
  }

  // A position in the input, mostly of a non-zero byte: files are full of zeros.
  std::size_t place() {
    std::size_t at = below(bytes_.size() + 1);
    for (int i = 0; i < 3 && (at == bytes_.size() || bytes_[at] == '\0'); ++i)
      at = below(bytes_.size() + 1);
    return at;
  }
  std::size_t length() { return 1 + below(std::size_t{1} << below(9)); }
  std::string word() {
    return target_.dictionary.empty() ? std::string(1, '\0') : one_of(target_.dictionary);
  }

  void insert(std::size_t at, std::string_view text) {
    if (bytes_.size() + text.size() <= max_bytes_) bytes_.insert(at, text);
  }
  void overwrite(std::size_t at, std::string_view text) {
    const std::size_t count = std::min(text.size(), bytes_.size() - at);
    bytes_.replace(at, count, text.substr(0, count));
  }

  void change();
  void change_byte();
  void change_integer();
  void change_number();
  void repeat();
  void splice();
  void change_line();

  const Target& target_;
  RandomStream random_;
  std::string bytes_;
  std::size_t max_bytes_;
};

void Mutator::change() {
  const std::size_t at = place();
  const bool is_in_place = target_.is_binary && below(8) > 0;
  switch (below(is_in_place ? 4 : 14)) {
    case 0:
    case 1:
      return change_byte();
    case 2:
      return change_integer();
    case 3:
      return overwrite(at, word());
    case 4:
    case 5:
      return change_number();
    case 6:
    case 7:
      return insert(at, word());
    case 8:
      bytes_.erase(at, length());
      return;
    case 9:
      return insert(place(), std::string(bytes_, at, length()));
    case 10:
      return splice();
    case 11:
      return repeat();
    case 12:
      if (below(4) == 0) bytes_.resize(at);
      return;
    default:
      return change_line();
  }
}

void Mutator::change_byte() {
  const std::size_t at = place();
  if (at == bytes_.size()) return insert(at, std::string(1, static_cast<char>(random_.next_u32())));
  if (below(2) == 0) {
    bytes_[at] = static_cast<char>(bytes_[at] ^ (1 << below(8)));
  } else {
    bytes_[at] = static_cast<char>(random_.next_u32());
  }
}

// A boundary value as a little-endian integer of random width.
void Mutator::change_integer() {
  const std::uint64_t value = one_of(kIntegers);
  std::string text(std::size_t{1} << below(4), '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(value >> (8 * i));
  overwrite(place(), text);
}

// Replaces a decimal number by a boundary value.
void Mutator::change_number() {
  const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  const auto begin =
      std::find_if(bytes_.begin() + static_cast<std::ptrdiff_t>(place()), bytes_.end(), is_digit);
  const auto end = std::find_if_not(begin, bytes_.end(), is_digit);
  bytes_.replace(begin, end, one_of(kNumbers));
}

void Mutator::repeat() {
  const std::size_t at = place();
  const std::string part = below(2) == 0 ? word() : std::string(bytes_, at, length());
  std::string many;
  for (std::size_t count = std::size_t{1} << below(13); count > 0; --count) {
    if (many.size() + part.size() > kMaxBytes / 2) break;
    many += part;
  }
  insert(at, many);
}

// Splices a prefix of this input with a suffix of another seed.
void Mutator::splice() {
  const std::string& other = one_of(target_.seeds);
  if (other.empty()) return;
  bytes_.resize(place());
  bytes_ += other.substr(below(other.size()));
}

// Removes, duplicates or moves a line.
void Mutator::change_line() {
  const std::size_t at = place();
  const std::size_t newline = at == 0 ? std::string::npos : bytes_.rfind('\n', at - 1);
  const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
  const std::size_t end = std::min(bytes_.find('\n', begin), bytes_.size() - 1) + 1;
  if (end <= begin) return;
  const std::string line = bytes_.substr(begin, end - begin);
  const std::size_t choice = below(3);
  if (choice != 1) bytes_.erase(begin, line.size());
  if (choice != 0) insert(choice == 1 ? begin : place(), line);
}

}  // namespace

std::string make_input(const Target& target, std::string_view name, std::uint64_t seed,
                       std::uint64_t index) {
  if (index < target.seeds.size()) return target.seeds[index];
  index -= target.seeds.size();
  if (index < 2 * target.dictionary.size()) {
    const std::string& word = target.dictionary[index / 2];
    std::string bomb = index % 2 == 0 ? "" : target.seeds.front();
    while (bomb.size() + word.size() <= kBombBytes) bomb += word;
    return bomb;
  }
  index -= 2 * target.dictionary.size();
  RandomStream random(seed, hash_name(name), index);
  const std::string& start = target.seeds[random.below(target.seeds.size())];
  const bool is_repaired = target.repair && random.below(4) > 0;
  std::string input = Mutator(target, random, start).mutated();
  return is_repaired ? target.repair(std::move(input)) : input;
}

}  // namespace smoe::fuzz
