#include "core/system/descriptor.h"

#include <unistd.h>

#include "core/system/io_calls.h"

namespace smoe {

int Descriptor::close() {
  if (!is_open()) return 0;
  const int result = ::close(std::exchange(number_, -1));
  return io::inject_failure("close") ? -1 : result;
}

}  // namespace smoe
