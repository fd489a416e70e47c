// Errors and checks. Who is at fault decides the type: the caller (UsageError), the operating
// system or a library (SystemError), this program (InternalError). Messages read `op: rule that was
// broken; got <values>`; checks stay on in release builds.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace smoe {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The caller's fault: a wrong argument, shape, config value or input file.
struct UsageError : Error {
  using Error::Error;
};

/// The system's fault: CUDA, NCCL, files, memory.
struct SystemError : Error {
  using Error::Error;
};

/// Our own fault.
struct InternalError : Error {
  using Error::Error;
};

/// All parts printed one after the other.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace smoe

/// Throws UsageError with the message built from the remaining arguments unless `condition` holds.
#define SMOE_CHECK(condition, ...)                                           \
  do {                                                                       \
    if (!(condition)) throw ::smoe::UsageError(::smoe::concat(__VA_ARGS__)); \
  } while (false)

/// As SMOE_CHECK for a rule that only a bug of ours can break; names the source line.
#define SMOE_INTERNAL_CHECK(condition, ...)                                                    \
  do {                                                                                         \
    if (!(condition))                                                                          \
      throw ::smoe::InternalError(::smoe::concat(__FILE__, ":", __LINE__, ": ", __VA_ARGS__)); \
  } while (false)
