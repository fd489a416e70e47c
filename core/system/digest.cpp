#include "core/system/digest.h"

#include <xxhash.h>

#include "core/base/check.h"

namespace smoe {

std::string Digest::hex() const {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text(32, '0');
  for (int i = 0; i < 32; ++i) {
    const std::uint64_t word = i < 16 ? high : low;
    text[i] = kDigits[word >> (60 - 4 * (i % 16)) & 15];
  }
  return text;
}

Digest Digest::from_hex(std::string_view hex) {
  SMOE_CHECK(hex.size() == 32, "digest: must be 32 hexadecimal digits; got '", hex, "'");
  Digest digest;
  for (int i = 0; i < 32; ++i) {
    const char c = hex[i];
    const bool is_digit = c >= '0' && c <= '9';
    SMOE_CHECK(is_digit || (c >= 'a' && c <= 'f'), "digest: must be 32 hexadecimal digits; got '",
               hex, "'");
    std::uint64_t& word = i < 16 ? digest.high : digest.low;
    word = word << 4 | static_cast<std::uint64_t>(is_digit ? c - '0' : c - 'a' + 10);
  }
  return digest;
}

Digest digest_of(const void* data, std::int64_t bytes) {
  const XXH128_hash_t hash = XXH3_128bits(data, bytes);
  return {hash.high64, hash.low64};
}

Digest digest_of(std::string_view bytes) {
  return digest_of(bytes.data(), static_cast<std::int64_t>(bytes.size()));
}

void Hasher::Free::operator()(XXH3_state_s* state) const {
  XXH3_freeState(state);
}

Hasher::Hasher() : state_(XXH3_createState()) {
  if (!state_ || XXH3_128bits_reset(state_.get()) == XXH_ERROR)
    throw SystemError("digest: out of memory");
}

void Hasher::update(const void* data, std::int64_t bytes) {
  SMOE_INTERNAL_CHECK(XXH3_128bits_update(state_.get(), data, bytes) == XXH_OK, "digest: update");
}

void Hasher::update(std::string_view bytes) {
  update(bytes.data(), static_cast<std::int64_t>(bytes.size()));
}

Digest Hasher::digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
  return {hash.high64, hash.low64};
}

}  // namespace smoe
