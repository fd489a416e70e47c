#include "core/state.h"

#include "core/base/check.h"

namespace smoe {

void StateVisitor::range(std::string_view name, const Shape& shape, std::int64_t begin,
                         Tensor& elements) {
  SMOE_CHECK(begin == 0 && elements.numel() == shape.numel(), "state: ", name,
             ": must be whole for this visitor; got ", elements.numel(), " of ", shape.numel(),
             " elements");
  Tensor whole = elements.reshape(shape);
  tensor(name, whole);
}

}  // namespace smoe
