// What rendezvous server and clients say to each other: length-prefixed messages, small and
// bounded, so that nothing a stranger sends can make either side wait, allocate or misread.
//
//   frame   = body length (u32), body
//   request = operation (u8), length of key (u16), key, value
//   reply   = status (u8), value
// Integers are little-endian. A connection begins with `hello`: key = kRendezvousProtocol, value =
// the job id. The value of `add` is the increment, and of its reply the sum, in decimal digits.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace smoe {

inline constexpr std::string_view kRendezvousProtocol = "smoe-rendezvous-1";
inline constexpr std::size_t kMaxRendezvousKey = 256;
inline constexpr std::size_t kMaxRendezvousValue = std::size_t{1} << 20;
inline constexpr std::size_t kMaxRendezvousBody = 3 + kMaxRendezvousKey + kMaxRendezvousValue;
/// Of the first message, before the job id is known to be right.
inline constexpr std::size_t kMaxRendezvousHello = 3 + 2 * kMaxRendezvousKey;

enum class RendezvousOp : std::uint8_t {
  hello = 1,
  set,   ///< stores a value
  get,   ///< answered when the key has a value
  find,  ///< answered at once
  add,   ///< adds to a number, which begins at 0
};

struct RendezvousRequest {
  RendezvousOp op = RendezvousOp::hello;
  std::string key;
  std::string value = {};

  friend bool operator==(const RendezvousRequest&, const RendezvousRequest&) = default;
};

enum class RendezvousStatus : std::uint8_t { ok, none, refused };

struct RendezvousReply {
  RendezvousStatus status = RendezvousStatus::ok;
  std::string value = {};  ///< the reason when refused

  friend bool operator==(const RendezvousReply&, const RendezvousReply&) = default;
};

/// The frame of a message. Throws: UsageError for a key or value above its limit, an empty key.
std::string rendezvous_frame(const RendezvousRequest& request);
std::string rendezvous_frame(const RendezvousReply& reply);

/// Read a body. Trust nothing. Throw: UsageError, one line, for anything rendezvous_frame does not
/// write.
RendezvousRequest parse_rendezvous_request(std::string_view body);
RendezvousReply parse_rendezvous_reply(std::string_view body);

/// The number in decimal digits, with a minus where it has one. Throws: UsageError for other text.
std::int64_t parse_rendezvous_number(std::string_view text);

/// Cuts a stream of bytes, however it arrives in pieces, into bodies.
class RendezvousFrames {
 public:
  explicit RendezvousFrames(std::size_t max_body) : max_body_(max_body) {}
  void set_max_body(std::size_t max_body) { max_body_ = max_body; }
  void add(std::string_view bytes) { buffer_ += bytes; }
  /// The next body when all of it is there. Throws: UsageError for a length of 0 or above the
  /// limit; the stream is then unreadable for good.
  std::optional<std::string> next();
  /// Bytes that were added and are in no body yet.
  std::size_t num_pending() const { return buffer_.size(); }

 private:
  std::string buffer_;
  std::size_t max_body_;
};

}  // namespace smoe
