#include "autograd/parameter_state.h"

#include "autograd/parameter_store.h"
#include "core/base/check.h"

namespace smoe {

void visit_parts(StateVisitor& visitor, const ParameterStore& store, const Tensor& arena,
                 std::string_view prefix) {
  SMOE_CHECK(arena.shape() == store.master().shape(), "visit_parts: arena must be ",
             store.master().shape(), " as the store's; got ", arena.shape());
  for (const Parameter* parameter : store.parameters()) {
    std::int64_t offset = store.offset_of(*parameter);
    for (const ParameterPart& part : parameter->parts()) {
      Tensor view = arena.view(offset, part.shape);
      visitor.tensor(concat(prefix, part.name), view);
      offset += part.shape.numel();
    }
  }
}

}  // namespace smoe
