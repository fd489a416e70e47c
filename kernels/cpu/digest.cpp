#include "kernels/digest.h"

#include <algorithm>
#include <cstring>

#include "kernels/digest_mix.h"

namespace smoe::kernels::cpu {

void digest(const Launch&, const DigestArgs& args) {
  const auto* bytes = static_cast<const unsigned char*>(args.x);
  std::uint64_t sum = *args.result;
  for (std::int64_t begin = 0; begin < args.bytes; begin += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes + begin,
                static_cast<std::size_t>(std::min<std::int64_t>(4, args.bytes - begin)));
    sum += digest_mix(static_cast<std::uint64_t>(begin / 4), word);
  }
  *args.result = sum;
}

}  // namespace smoe::kernels::cpu
