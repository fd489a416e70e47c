#include "train/tokenizer/segment_cache.h"

namespace smoe {
namespace {

constexpr std::size_t kMaxCachedBytes = 64;
constexpr std::size_t kMaxCachedSegments = 1 << 17;

}  // namespace

bool SegmentCache::append(std::string_view segment, std::vector<std::int32_t>& tokens) const {
  const auto found = ranges_.find(segment);
  if (found == ranges_.end()) return false;
  const auto [begin, end] = found->second;
  tokens.insert(tokens.end(), tokens_.begin() + static_cast<std::ptrdiff_t>(begin),
                tokens_.begin() + static_cast<std::ptrdiff_t>(end));
  return true;
}

void SegmentCache::store(std::string_view segment, std::span<const std::int32_t> tokens) {
  if (segment.size() > kMaxCachedBytes) return;
  if (ranges_.size() == kMaxCachedSegments) {
    ranges_.clear();
    tokens_.clear();
  }
  const std::size_t begin = tokens_.size();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  ranges_.emplace(segment, Range{begin, tokens_.size()});
}

SegmentCaches::Lease::Lease(SegmentCaches& owner) : owner_(owner) {
  const std::lock_guard lock(owner_.mutex_);
  if (owner_.idle_.empty()) {
    cache_ = std::make_unique<SegmentCache>();
  } else {
    cache_ = std::move(owner_.idle_.back());
    owner_.idle_.pop_back();
  }
}

SegmentCaches::Lease::~Lease() {
  const std::lock_guard lock(owner_.mutex_);
  owner_.idle_.push_back(std::move(cache_));
}

}  // namespace smoe
