#include "train/huggingface/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/system/json_reader.h"
#include "core/system/lfs_pointer.h"
#include "core/system/text.h"
#include "train/huggingface/half.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxHeaderDepth = 3;
constexpr std::int64_t kLengthBytes = 8;
constexpr const char* kMetadataKey = "__metadata__";

struct StoredType {
  const char* name;
  std::int64_t bits;
};
constexpr StoredType kStoredTypes[] = {
    {"F64", 64},    {"F32", 32},    {"F16", 16},    {"BF16", 16},   {"I64", 64},
    {"I32", 32},    {"I16", 16},    {"I8", 8},      {"U64", 64},    {"U32", 32},
    {"U16", 16},    {"U8", 8},      {"BOOL", 8},    {"C64", 64},    {"F8_E4M3", 8},
    {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
};

constexpr DType kDTypes[] = {DType::f64, DType::f32, DType::bf16, DType::i64,
                             DType::i32, DType::u16, DType::u8};

// Bits per element; 0 for a dtype that is not known.
std::int64_t element_bits(const std::string& dtype) {
  for (const StoredType& type : kStoredTypes)
    if (dtype == type.name) return type.bits;
  return 0;
}

// Checks that a tensor has as many bytes as its dtype, if it is known, and its sizes say.
void check_bytes(const SafetensorsEntry& entry, const std::string& place) {
  const std::int64_t bits = element_bits(entry.dtype);
  std::int64_t elements = 1, most_bits = 0;  // zeros count as 1
  bool overflows = false, is_empty = false;
  for (const std::int64_t size : entry.sizes) {
    overflows |= __builtin_mul_overflow(elements, std::max<std::int64_t>(size, 1), &elements);
    is_empty |= size == 0;
  }
  overflows |= __builtin_mul_overflow(elements, 64, &most_bits);
  SMOE_CHECK(!overflows, place, ": must have less than 2^57 elements; got ", printable(entry.dtype),
             " ", entry.shape_text());
  const std::int64_t wanted = is_empty ? 0 : elements * bits;
  SMOE_CHECK(bits == 0 || (wanted % 8 == 0 && wanted / 8 == entry.bytes), place, ": must span the ",
             wanted / 8, " bytes of ", entry.dtype, " ", entry.shape_text(), "; got ", entry.bytes);
}

SafetensorsEntry read_entry(const std::string& name, const Json& object, const std::string& path,
                            std::int64_t data_begin, std::int64_t file_bytes) {
  ObjectReader reader(object, path + ": " + printable(name));
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = reader.string("dtype");
  for (const Json& size : reader.array("shape"))
    entry.sizes.push_back(checked_integer(size, reader.place_of("shape"), 0, kMaxInt64));
  const Json& offsets = reader.array("data_offsets");
  const std::string place = reader.place_of("data_offsets");
  SMOE_CHECK(offsets.size() == 2, place, ": must be begin and end; got ", offsets.size(),
             " numbers");
  const std::int64_t data_bytes = file_bytes - data_begin;
  const std::int64_t begin = checked_integer(offsets[0], place, 0, data_bytes);
  const std::int64_t end = checked_integer(offsets[1], place, begin, data_bytes);
  entry.bytes = end - begin;
  check_bytes(entry, place);
  entry.offset = data_begin + begin;
  reader.finish();
  return entry;
}

template <class T>
std::vector<T> read_values(const File& file, const SafetensorsEntry& entry) {
  std::vector<T> values(static_cast<std::size_t>(entry.bytes) / sizeof(T));
  file.read_at(entry.offset, values.data(), entry.bytes);
  return values;
}

template <class From, class To>
Tensor widened(const File& file, const SafetensorsEntry& entry) {
  const std::vector<From> stored = read_values<From>(file, entry);
  return Tensor::from(std::vector<To>(stored.begin(), stored.end()), *entry.shape(),
                      Category::parameters);
}

/// Calls f(T{}) with the C++ type of `dtype`.
template <class F>
decltype(auto) dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::i32:
      return f(std::int32_t{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::u16:
      return f(std::uint16_t{});
    case DType::u8:
      return f(std::uint8_t{});
    default:
      return dispatch_floating(dtype, f);
  }
}

/// The end of the last tensor by the header, if it is well-formed; 0 otherwise.
std::int64_t declared_bytes(const Json& header, std::int64_t data_begin) {
  std::int64_t end = 0;
  for (const auto& [name, value] : header.items()) {
    const auto offsets = value.is_object() ? value.find("data_offsets") : value.end();
    if (name == kMetadataKey || offsets == value.end() || !offsets->is_array() ||
        offsets->size() != 2 || !(*offsets)[1].is_number_integer())
      continue;
    end = std::max(end, (*offsets)[1].get<std::int64_t>());
  }
  return end > kMaxInt64 - data_begin ? 0 : data_begin + end;
}

}  // namespace

std::optional<Shape> SafetensorsEntry::shape() const {
  if (sizes.size() > Shape::kMaxRank) return {};
  return Shape(sizes.data(), static_cast<int>(sizes.size()));
}

std::string SafetensorsEntry::shape_text() const {
  std::string text;
  for (const std::int64_t size : sizes) text += concat(text.empty() ? "" : ", ", size);
  return concat('[', text, ']');
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(File::open(path)) {
  const std::int64_t size = file_.size();
  check_is_downloaded(file_);
  SMOE_CHECK(size >= kLengthBytes, path, ": is incomplete: must have at least ", kLengthBytes,
             " bytes; got ", size, "; download it again");
  unsigned char digits[kLengthBytes];
  file_.read_at(0, digits, kLengthBytes);
  std::uint64_t length = 0;
  for (int i = kLengthBytes; i-- > 0;) length = length << 8 | digits[i];
  SMOE_CHECK(length <= static_cast<std::uint64_t>(kMaxSafetensorsHeaderBytes), path,
             ": not a safetensors file: its header must have at most ", kMaxSafetensorsHeaderBytes,
             " bytes; got ", length);
  SMOE_CHECK(length <= static_cast<std::uint64_t>(size - kLengthBytes), path,
             ": is incomplete: its header has ", length, " bytes, and ", size - kLengthBytes,
             " follow; download it again");
  std::string text(length, '\0');
  file_.read_at(kLengthBytes, text.data(), static_cast<std::int64_t>(length));
  parse_header(text, kLengthBytes + static_cast<std::int64_t>(length));
}

void SafetensorsFile::parse_header(const std::string& text, std::int64_t data_begin) {
  const Json header = parse_json(text, path(), kMaxHeaderDepth);
  SMOE_CHECK(header.is_object(), path(), ": its header must be an object; got ", shown(header));
  const std::int64_t declared = declared_bytes(header, data_begin);
  SMOE_CHECK(declared <= file_.size(), path(), ": is incomplete: its header describes ", declared,
             " bytes, and it has ", file_.size(), "; download it again");
  for (const auto& [name, value] : header.items()) {
    if (name != kMetadataKey) {
      entries_.push_back(read_entry(name, value, path(), data_begin, file_.size()));
      continue;
    }
    const std::string place = path() + ": " + kMetadataKey;
    SMOE_CHECK(value.is_object(), place, ": must be an object; got ", shown(value));
    for (const auto& [key, item] : value.items()) {
      SMOE_CHECK(item.is_string(), place, ": ", printable(key), ": must be text; got ",
                 shown(item));
      metadata_[key] = item.get<std::string>();
    }
  }
  std::sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  std::int64_t end = data_begin;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const SafetensorsEntry& entry = entries_[i];
    SMOE_CHECK(entry.offset == end, path(), ": ", printable(entry.name), ": data_offsets: must ",
               entry.offset < end ? "not overlap other tensors; it begins at "
                                  : "leave no gap after other tensors; it begins at ",
               entry.offset - data_begin, ", they end at ", end - data_begin);
    end += entry.bytes;
    index_[entry.name] = i;
  }
  SMOE_CHECK(end == file_.size(), path(), ": must end with its last tensor, at byte ", end,
             "; it has ", file_.size());
}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

Tensor SafetensorsFile::read(const SafetensorsEntry& entry, DType dtype) const {
  SMOE_CHECK(entry.shape(), path(), ": ", entry.name, ": must have at most ", Shape::kMaxRank,
             " dimensions to be read; got ", entry.shape_text());
  if (entry.dtype == safetensors_dtype(dtype)) {
    return dispatch(dtype, [&](auto type) {
      return Tensor::from(read_values<decltype(type)>(file_, entry), *entry.shape(),
                          Category::parameters);
    });
  }
  const bool is_f32 = dtype == DType::f32, is_f64 = dtype == DType::f64;
  if (entry.dtype == "F16" && is_f32) return widened<half, float>(file_, entry);
  if (entry.dtype == "F16" && is_f64) return widened<half, double>(file_, entry);
  if (entry.dtype == "BF16" && is_f32) return widened<bf16, float>(file_, entry);
  if (entry.dtype == "BF16" && is_f64) return widened<bf16, double>(file_, entry);
  if (entry.dtype == "F32" && is_f64) return widened<float, double>(file_, entry);
  throw UsageError(concat(path(), ": ", entry.name, ": must be convertible to ", name_of(dtype),
                          "; got ", entry.dtype));
}

std::string safetensors_dtype(DType dtype) {
  std::string name = name_of(dtype);
  for (char& c : name)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return name;
}

}  // namespace smoe
