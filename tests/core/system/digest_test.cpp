#include "core/system/digest.h"

#include <doctest/doctest.h>

#include <string>

#include "core/base/check.h"

using namespace smoe;

TEST_CASE("digests are XXH3-128 as the xxHash project publishes it") {
  CHECK(digest_of("").hex() == "99aa06d3014798d86001c324468d497f");
}

TEST_CASE("pieces give the digest of the whole, and a flipped bit another one") {
  std::string bytes(100'003, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i % 251);
  const Digest whole = digest_of(bytes);
  Hasher hasher;
  for (std::size_t begin = 0, step = 0; begin < bytes.size(); begin += step)
    hasher.update(std::string_view(bytes).substr(begin, ++step));
  CHECK(hasher.digest() == whole);
  bytes[50'000] ^= 4;
  CHECK(digest_of(bytes) != whole);
}

TEST_CASE("hex and back; what hex never writes is refused") {
  const Digest digest{0x0123456789abcdefull, 0xfedcba9876543210ull};
  CHECK(digest.hex() == "0123456789abcdeffedcba9876543210");
  CHECK(Digest::from_hex(digest.hex()) == digest);
  CHECK_THROWS_AS(Digest::from_hex("0123"), UsageError);
  CHECK_THROWS_AS(Digest::from_hex("0123456789ABCDEFfedcba9876543210"), UsageError);
  CHECK_THROWS_AS(Digest::from_hex(std::string(32, 'g')), UsageError);
}
