// The protocol between rendezvous server and clients: small length-prefixed messages with bounds,
// so that untrusted input can make neither side block, allocate without limit or misparse.
//
//   frame   = body length (u32), body
//   request = operation (u8), length of key (u16), key, value
//   reply   = status (u8), value
// Integers are little-endian. A connection begins with `hello`: key = kRendezvousProtocol, value =
// the job id. The value of `add` is the increment and that of its reply the sum, both in decimal.
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
/// Limit of the first message, before the job id has been verified.
inline constexpr std::size_t kMaxRendezvousHello = 3 + 2 * kMaxRendezvousKey;

enum class RendezvousOp : std::uint8_t {
  hello = 1,
  set,   ///< stores a value
  get,   ///< replied to when the key has a value
  find,  ///< replied to immediately
  add,   ///< adds to a number, initially 0
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

/// Encodes a message. Throws: UsageError for a key or value above its limit, or an empty key.
std::string rendezvous_frame(const RendezvousRequest& request);
std::string rendezvous_frame(const RendezvousReply& reply);

/// Parse an untrusted body. Throw: UsageError, one line, for anything that rendezvous_frame does
/// not produce.
RendezvousRequest parse_rendezvous_request(std::string_view body);
RendezvousReply parse_rendezvous_reply(std::string_view body);

/// Parses a decimal number with an optional minus sign. Throws: UsageError for other text.
std::int64_t parse_rendezvous_number(std::string_view text);

/// Splits a byte stream, added in pieces of any size, into bodies.
class RendezvousFrames {
 public:
  explicit RendezvousFrames(std::size_t max_body) : max_body_(max_body) {}
  void set_max_body(std::size_t max_body) { max_body_ = max_body; }
  void add(std::string_view bytes) { buffer_ += bytes; }
  /// The next body, once it is complete. Throws: UsageError for a length of 0 or above the limit;
  /// the rest of the stream is then unreadable.
  std::optional<std::string> next();
  /// Bytes added that no body has returned yet.
  std::size_t num_pending() const { return buffer_.size(); }

 private:
  std::string buffer_;
  std::size_t max_body_;
};

}  // namespace smoe
