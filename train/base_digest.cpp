#include "train/base_digest.h"

#include <utility>

#include "core/host_chunks.h"

namespace smoe {
namespace {

class BaseHasher final : public StateVisitor {
 public:
  void tensor(std::string_view name, Tensor& value) override {
    const std::string head = concat(name, " ", name_of(value.dtype()), " ", value.shape(), "\n");
    hasher_.update(head.data(), static_cast<std::int64_t>(head.size()));
    for_each_host_chunk(value, [&](std::int64_t, const void* data, std::int64_t bytes) {
      hasher_.update(data, bytes);
    });
    is_empty_ = false;
  }
  void integer(std::string_view name, std::int64_t&) override { refuse(name); }
  void real(std::string_view name, double&) override { refuse(name); }

  std::optional<Digest> digest() const {
    return is_empty_ ? std::nullopt : std::optional(hasher_.digest());
  }

 private:
  static void refuse(std::string_view name) {
    throw InternalError(concat("base: must consist of tensors; got ", name));
  }

  Hasher hasher_;
  bool is_empty_ = true;
};

std::string text_of(const std::optional<Digest>& digest) {
  return digest ? digest->hex() : "none";
}

}  // namespace

std::optional<Digest> base_digest(const VisitState& visit) {
  BaseHasher hasher;
  visit(hasher);
  return hasher.digest();
}

void check_base(const Checkpoint& checkpoint, const std::optional<Digest>& base,
                const std::string& source) {
  const std::optional<Digest>& expected = checkpoint.manifest().base_digest;
  SMOE_CHECK(expected == base, checkpoint.path(), ": its base must have the digest ",
             text_of(expected), "; got ", text_of(base), " from ", source,
             "; restore the base that it was trained on");
}

}  // namespace smoe
