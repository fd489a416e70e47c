// Digests of data: XXH3-128 (https://xxhash.com), which detects corruption but not forgery.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct XXH3_state_s;

namespace smoe {

/// 128 bits, the same on every machine.
struct Digest {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  /// 32 lower-case hexadecimal digits, high bits first, as xxhsum -H2 prints them.
  std::string hex() const;
  /// Parses the output of hex(). Throws: UsageError for anything else.
  static Digest from_hex(std::string_view hex);

  friend bool operator==(const Digest&, const Digest&) = default;
};

/// Digest of `bytes` bytes at `data`.
Digest digest_of(const void* data, std::int64_t bytes);
Digest digest_of(std::string_view bytes);

/// Incremental digest; equal to digest_of over the concatenated bytes.
class Hasher {
 public:
  Hasher();
  void update(const void* data, std::int64_t bytes);
  void update(std::string_view bytes);
  /// The digest of all bytes so far; update() may be called again afterwards.
  Digest digest() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

}  // namespace smoe
