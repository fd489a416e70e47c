// Caches the tokens of short segments of text: most words of a text are repeated, and encoding one
// takes ten times as long as a lookup.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace smoe {

/// Finds keys of type std::string by std::string_view.
struct TransparentHash : std::hash<std::string_view> {
  using is_transparent = void;
};

/// One thread's cache. Cleared when full.
class SegmentCache {
 public:
  /// Appends the tokens of `segment` if they are cached.
  bool append(std::string_view segment, std::vector<std::int32_t>& tokens) const;
  /// Keeps the tokens of `segment`, unless it is long.
  void store(std::string_view segment, std::span<const std::int32_t> tokens);

 private:
  struct Range {
    std::size_t begin, end;
  };

  std::unordered_map<std::string, Range, TransparentHash, std::equal_to<>> ranges_;
  std::vector<std::int32_t> tokens_;  // of all segments
};

/// The caches of one tokenizer: one per thread that encoded at once.
class SegmentCaches {
 public:
  /// Exclusive use of one cache during this object's lifetime.
  class Lease {
   public:
    explicit Lease(SegmentCaches& owner);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    SegmentCache* operator->() const { return cache_.get(); }

   private:
    SegmentCaches& owner_;
    std::unique_ptr<SegmentCache> cache_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<SegmentCache>> idle_;
};

}  // namespace smoe
