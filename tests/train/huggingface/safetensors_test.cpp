#include "train/huggingface/safetensors.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/random.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensors.h"
#include "train/huggingface/safetensors_writer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

/// The bytes of a file with this header and `num_bytes` bytes of data, 0, 1, 2, ...
std::string file_of(const std::string& header, int data_bytes) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> 8 * i & 0xff);
  bytes += header;
  for (int i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

std::string entry(const std::string& dtype, const std::string& shape, int begin, int end) {
  return concat(R"({"dtype": ")", dtype, R"(", "shape": )", shape, R"(, "data_offsets": [)", begin,
                ", ", end, "]}");
}

}  // namespace

TEST_CASE("tensors survive a round trip bit-identically") {
  const TemporaryFolder folder;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const std::string path = folder / name_of(dtype);
    const Tensor a = random_normal("a", {3, 5}, dtype), b = random_normal("b", {0, 2}, dtype),
                 c = random_normal("c", {7}, dtype);
    SafetensorsWriter writer(path, {{"z.a", {3, 5}}, {"b", {0, 2}}, {"c", {7}}}, dtype,
                             {{"format", "pt"}});
    writer.write("z.a", a);
    writer.write("b", b);
    CHECK_THROWS_AS(writer.commit(), UsageError);
    CHECK_THROWS_AS(writer.write("d", c), UsageError);
    CHECK_THROWS_AS(writer.write("c", a), UsageError);
    CHECK(kind_of(path) == PathKind::none);
    writer.write("c", c);
    writer.commit();

    const SafetensorsFile file(path);
    CHECK(file.metadata().at("format") == "pt");
    REQUIRE(file.entries().size() == 3);
    CHECK(file.entries()[0].offset % 8 == 0);
    CHECK(file.find("d") == nullptr);
    CHECK(values_of(file.read(*file.find("z.a"), dtype)) == values_of(a));
    CHECK(values_of(file.read(*file.find("c"), dtype)) == values_of(c));
    CHECK(file.find("b")->shape() == Shape{0, 2});
    CHECK(file.find("c")->dtype == safetensors_dtype(dtype));
  }
}

TEST_CASE("a dtype is read as itself or as one that represents all its values") {
  const TemporaryFolder folder;
  // 1, -2, the largest and smallest half, a subnormal, infinity, a NaN, -0.
  const std::uint16_t halves[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x03ff, 0x7c00, 0x7e00, 0x8000};
  std::string bytes = file_of(
      R"({"h": )" + entry("F16", "[8]", 0, 16) + R"(, "i": )" + entry("I64", "[1]", 16, 24) + "}",
      0);
  bytes.append(reinterpret_cast<const char*>(halves), sizeof halves);
  bytes += std::string("\x05\0\0\0\0\0\0\0", 8);
  overwrite(folder / "f", bytes);
  const SafetensorsFile file(folder / "f");
  for (const DType dtype : {DType::f32, DType::f64}) {
    const std::vector<double> values = values_of(file.read(*file.find("h"), dtype));
    CHECK(values[0] == 1);
    CHECK(values[1] == -2);
    CHECK(values[2] == 65504);
    CHECK(values[3] == 0x1p-24);
    CHECK(values[4] == 1023 * 0x1p-24);
    CHECK(values[5] == INFINITY);
    CHECK(std::isnan(values[6]));
    CHECK((values[7] == 0 && std::signbit(values[7])));
  }
  CHECK(file.read(*file.find("i"), DType::i64).to_vector<std::int64_t>()[0] == 5);
  CHECK(message_of([&] { file.read(*file.find("h"), DType::bf16); }) ==
        folder.path() + "/f: h: must be convertible to bf16; got F16");
  CHECK_THROWS_AS(file.read(*file.find("i"), DType::f32), UsageError);
}

TEST_CASE("a file that violates the format is refused with the reason") {
  const TemporaryFolder folder;
  const std::string path = folder / "f";
  const auto refusal = [&](const std::string& bytes) {
    overwrite(path, bytes);
    return message_of([&] { SafetensorsFile{path}; });
  };
  const auto check = [&](const std::string& header, int data_bytes, const std::string& message) {
    CHECK(refusal(file_of(header, data_bytes)) == path + ": " + message);
  };
  const std::string a = R"({"a": )";
  CHECK(refusal(file_of("{}", 0)) == "no error");
  CHECK(refusal("").find("is incomplete: must have at least 8 bytes; got 0") != std::string::npos);
  CHECK(refusal("\xff\xff\xff\xff\xff\xff\xff\xff{}")
            .find("not a safetensors file: its header must have at most 33554432 bytes; got "
                  "1844674407") != std::string::npos);
  CHECK(refusal(file_of("{}", 0).substr(0, 9))
            .find("is incomplete: its header has 2 bytes, and 1 follow; download it again") !=
        std::string::npos);
  check("[]", 0, "its header must be an object; got an array");
  check("{", 0, "invalid JSON at byte 2, after its end: it is incomplete");
  check(std::string(1000, '['), 0, "must nest at most 3 levels deep; got more");
  check(a + "1}", 0, "a: must be an object; got 1");
  check(a + entry("F32", "[2]", 0, 8) + R"(, "a": )" + entry("F32", "[2]", 8, 16) + "}", 16,
        "keys must occur once in an object; got a twice");
  check(a + entry("F32", "[2]", 0, 4) + "}", 4,
        "a: data_offsets: must span the 8 bytes of F32 [2]; got 4");
  check(a + entry("F32", "[2]", 0, 8) + "}", 4,
        "is incomplete: its header describes 77 bytes, and it has 73; download it again");
  CHECK(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
            .find("is a Git LFS pointer, not the file itself") != std::string::npos);
  check(a + entry("F32", "[2]", 0, 8) + "}", 12,
        "must end with its last tensor, at byte 77; it has 81");
  check(a + entry("F32", "[-1]", 0, 0) + "}", 0,
        "a: shape: must be an integer from 0 to 9223372036854775807; got -1");
  check(a + entry("F32", "[4611686018427387904, 4]", 0, 0) + "}", 0,
        "a: data_offsets: must have less than 2^57 elements; got F32 [4611686018427387904, 4]");
  check(a + entry("F32", "[0, 4611686018427387904]", 0, 0) + "}", 0,
        "a: data_offsets: must have less than 2^57 elements; got F32 [0, 4611686018427387904]");
  check(a + entry("U8", "[4]", 0, 4) + R"(, "b": )" + entry("U8", "[4]", 2, 6) + "}", 6,
        "b: data_offsets: must not overlap other tensors; it begins at 2, they end at 4");
  check(a + entry("U8", "[4]", 0, 4) + R"(, "b": )" + entry("U8", "[4]", 5, 9) + "}", 9,
        "b: data_offsets: must leave no gap after other tensors; it begins at 5, they end at 4");
  check(R"({"__metadata__": {"a": 1}})", 0, "__metadata__: a: must be text; got 1");
  check(a + R"({"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "x": 1}})", 1,
        "a: must have 3 fields; got 4");
}

TEST_CASE("tensors of any rank and dtype are listed") {
  const TemporaryFolder folder;
  overwrite(folder / "f", file_of(R"({"a": )" + entry("F32", "[1, 2, 1, 2, 1, 1]", 0, 16) +
                                      R"(, "b": )" + entry("F4", "[2, 3]", 16, 19) + R"(, "c": )" +
                                      entry("Q5_LATER", "[7]", 19, 24) + R"(, "d": )" +
                                      entry("C64", "[1]", 24, 32) + "}",
                                  32));
  const SafetensorsFile file(folder / "f");
  CHECK(file.find("a")->shape_text() == "[1, 2, 1, 2, 1, 1]");
  CHECK(!file.find("a")->shape());
  CHECK(file.find("b")->bytes == 3);
  CHECK(file.find("c")->dtype == "Q5_LATER");
  CHECK(message_of([&] {
          file.read(*file.find("a"), DType::f32);
        }).ends_with("a: must have at most 4 dimensions to be read; got [1, 2, 1, 2, 1, 1]"));
  CHECK(message_of([&] {
          file.read(*file.find("c"), DType::f32);
        }).ends_with("c: must be convertible to f32; got Q5_LATER"));
}

TEST_CASE("a modified header is refused or describes tensors inside the file") {
  const TemporaryFolder folder;
  const std::string path = folder / "f";
  const std::string whole =
      file_of(R"({"__metadata__": {"format": "pt"}, "a": )" + entry("F32", "[2, 3]", 0, 24) +
                  R"(, "b": )" + entry("BF16", "[4]", 24, 32) + "}",
              32);
  const std::size_t header_end = whole.size() - 32;
  RandomStream random(5, hash_name("damage"));
  int num_refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = whole;
    for (std::uint64_t changes = 1 + random.below(3); changes > 0; --changes) {
      const bool is_character = random.below(2) == 0;
      bytes[random.below(header_end)] =
          static_cast<char>(is_character ? "0123456789[]{},:\"-e"[random.below(19)]
                                         : static_cast<char>(random.below(256)));
    }
    if (random.below(10) == 0) bytes.resize(random.below(bytes.size()));
    overwrite(path, bytes);
    try {
      const SafetensorsFile file(path);
      for (const SafetensorsEntry& entry : file.entries()) {
        REQUIRE(entry.offset >= 8);
        REQUIRE(entry.bytes >= 0);
        REQUIRE(entry.offset + entry.bytes <= static_cast<std::int64_t>(bytes.size()));
        if (entry.dtype == "F32") file.read(entry, DType::f32);
      }
    } catch (const UsageError& error) {
      const std::string message = error.what();
      REQUIRE(message.starts_with(path));
      REQUIRE(message.find('\n') == std::string::npos);
      ++num_refused;
    }
  }
  CHECK(num_refused > 2000);
}
