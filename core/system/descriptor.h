// Descriptor: the owner of a file descriptor.
#pragma once
#include <utility>

namespace smoe {

/// Closed by the destructor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  bool is_open() const { return number_ >= 0; }
  int number() const { return number_; }
  /// Closes it if it is open. Returns 0, or -1 with errno set; it is closed either way, so a failed
  /// close is never repeated. Only writers need the result: their data may be lost.
  int close();

 private:
  int number_ = -1;
};

}  // namespace smoe
