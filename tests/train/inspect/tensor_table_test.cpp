#include "train/inspect/tensor_table.h"

#include <doctest/doctest.h>

using namespace smoe;

TEST_CASE("tensors that differ only in numbers share the line of the first") {
  const std::vector<TensorRow> rows = {{"embed.weight", "f32", "[10, 4]", 160},
                                       {"layers.0.experts.0.w1.weight", "f32", "[3, 4]", 48},
                                       {"layers.0.experts.1.w1.weight", "f32", "[3, 4]", 48},
                                       {"layers.0.norm.weight", "f32", "[4]", 16},
                                       {"layers.11.experts.0.w1.weight", "f32", "[3, 4]", 48},
                                       {"layers.11.experts.1.w1.weight", "bf16", "[3, 4]", 24},
                                       {"layers.11.norm.weight", "f32", "[4]", 16}};
  CHECK(tensor_table(rows, false) ==
        "  tensors                                  dtype  shape      count      bytes\n"
        "  embed.weight                             f32    [10, 4]        1      160 B\n"
        "  layers.{0..11}.experts.{0..1}.w1.weight  f32    [3, 4]         3      144 B\n"
        "  layers.{0..11}.norm.weight               f32    [4]            2       32 B\n"
        "  layers.11.experts.1.w1.weight            bf16   [3, 4]         1       24 B\n"
        "  all                                                            7      360 B\n");
  CHECK(tensor_table(rows, true).find("  layers.11.experts.0.w1.weight  f32    [3, 4]         1") !=
        std::string::npos);
}

TEST_CASE("unusual names, and tables without tensors") {
  CHECK(tensor_table({}, false) ==
        "  tensors  dtype  shape    count      bytes\n"
        "  all                          0        0 B\n");
  for (const char* name : {"", ".", "..1", "7", "a.99999999999999999999", "a..b.", "1.2.3"}) {
    const std::string table = tensor_table({{name, "u8", "[]", 1}}, false);
    CHECK_MESSAGE(table.find(std::string("\n  ") + name + " ") != std::string::npos, table);
  }
}
