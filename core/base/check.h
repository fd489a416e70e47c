// Errors and checks. The cause determines the type: the caller (UsageError), the operating system
// or a library (SystemError), a bug of this program (InternalError). Messages read `op: broken
// rule; got <values>`; checks stay on in release builds.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace smoe {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Caused by the caller: an invalid argument, shape, config value or input file.
struct UsageError : Error {
  using Error::Error;
};

/// Caused by the system: CUDA, NCCL, files, memory.
struct SystemError : Error {
  using Error::Error;
};

/// Caused by a bug of this program.
struct InternalError : Error {
  using Error::Error;
};

/// All parts printed and concatenated.
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

/// Like SMOE_CHECK, for a rule that only a bug can break; names the source line.
#define SMOE_INTERNAL_CHECK(condition, ...)                                                    \
  do {                                                                                         \
    if (!(condition))                                                                          \
      throw ::smoe::InternalError(::smoe::concat(__FILE__, ":", __LINE__, ": ", __VA_ARGS__)); \
  } while (false)
