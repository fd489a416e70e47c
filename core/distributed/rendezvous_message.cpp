#include "core/distributed/rendezvous_message.h"

#include <charconv>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::size_t kLengthBytes = 4;

std::string integer_bytes(std::uint64_t value, std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

std::size_t integer_at(std::string_view bytes, std::size_t offset, std::size_t size) {
  std::size_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[offset + i])) << (8 * i);
  return value;
}

void check_value(std::string_view value) {
  SMOE_CHECK(value.size() <= kMaxRendezvousValue, "rendezvous: a value must have at most ",
             kMaxRendezvousValue, " bytes; got ", value.size());
}

std::string framed(std::string body) {
  return integer_bytes(body.size(), kLengthBytes) + std::move(body);
}

}  // namespace

std::string rendezvous_frame(const RendezvousRequest& request) {
  SMOE_CHECK(!request.key.empty() && request.key.size() <= kMaxRendezvousKey,
             "rendezvous: a key must have 1 to ", kMaxRendezvousKey, " bytes; got ",
             request.key.size());
  check_value(request.value);
  return framed(concat(static_cast<char>(request.op), integer_bytes(request.key.size(), 2),
                       request.key, request.value));
}

std::string rendezvous_frame(const RendezvousReply& reply) {
  check_value(reply.value);
  return framed(static_cast<char>(reply.status) + reply.value);
}

RendezvousRequest parse_rendezvous_request(std::string_view body) {
  constexpr std::size_t kHead = 3;
  SMOE_CHECK(body.size() >= kHead, "rendezvous: a request must have at least ", kHead,
             " bytes; got ", body.size());
  const std::size_t op = integer_at(body, 0, 1), key_size = integer_at(body, 1, 2);
  SMOE_CHECK(op >= static_cast<std::size_t>(RendezvousOp::hello) &&
                 op <= static_cast<std::size_t>(RendezvousOp::add),
             "rendezvous: unknown operation ", op);
  SMOE_CHECK(key_size >= 1 && key_size <= kMaxRendezvousKey && key_size <= body.size() - kHead,
             "rendezvous: a key must have 1 to ", kMaxRendezvousKey,
             " bytes, inside its message; got ", key_size);
  const std::string_view value = body.substr(kHead + key_size);
  check_value(value);
  return {static_cast<RendezvousOp>(op), std::string(body.substr(kHead, key_size)),
          std::string(value)};
}

RendezvousReply parse_rendezvous_reply(std::string_view body) {
  SMOE_CHECK(!body.empty(), "rendezvous: a reply must have at least 1 byte; got none");
  const std::size_t status = integer_at(body, 0, 1);
  SMOE_CHECK(status <= static_cast<std::size_t>(RendezvousStatus::refused),
             "rendezvous: unknown status ", status);
  check_value(body.substr(1));
  return {static_cast<RendezvousStatus>(status), std::string(body.substr(1))};
}

std::int64_t parse_rendezvous_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  SMOE_CHECK(error == std::errc() && end == text.data() + text.size(),
             "rendezvous: must be a 64-bit number; got ", text.size(), " bytes of other text");
  return value;
}

std::optional<std::string> RendezvousFrames::next() {
  if (buffer_.size() < kLengthBytes) return std::nullopt;
  const std::size_t length = integer_at(buffer_, 0, kLengthBytes);
  SMOE_CHECK(length >= 1 && length <= max_body_, "rendezvous: a message must have 1 to ", max_body_,
             " bytes; got ", length);
  if (buffer_.size() - kLengthBytes < length) return std::nullopt;
  std::string body = buffer_.substr(kLengthBytes, length);
  buffer_.erase(0, kLengthBytes + length);
  return body;
}

}  // namespace smoe
