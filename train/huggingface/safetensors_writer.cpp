#include "train/huggingface/safetensors_writer.h"

#include <nlohmann/json.hpp>
#include <set>

#include "train/huggingface/safetensors.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kAlignment = 8;  // of the tensors' bytes in the file

std::string header_text(const std::vector<ParameterPart>& tensors, DType dtype,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t offset = 0;
  for (const auto& [name, shape] : tensors) {
    std::vector<std::int64_t> sizes;
    for (int i = 0; i < shape.rank(); ++i) sizes.push_back(shape[i]);
    const std::int64_t end = offset + shape.numel() * size_of(dtype);
    header[name] = {
        {"dtype", safetensors_dtype(dtype)}, {"shape", sizes}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

void check_names(const std::string& path, const std::vector<ParameterPart>& tensors) {
  std::set<std::string> names;
  for (const ParameterPart& tensor : tensors)
    SMOE_CHECK(names.insert(tensor.name).second, path, ": names must occur once; got ", tensor.name,
               " twice");
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path,
                                     const std::vector<ParameterPart>& tensors, DType dtype,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path), dtype_(dtype), tensors_(tensors) {
  check_names(path, tensors);
  const std::string text = header_text(tensors, dtype, metadata);
  unsigned char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(text.size() >> 8 * i);
  file_.file().write_at(0, length, sizeof length);
  file_.file().write_at(sizeof length, text.data(), static_cast<std::int64_t>(text.size()));
  offset_ = static_cast<std::int64_t>(sizeof length + text.size());
}

void SafetensorsWriter::write(const std::string& name, const Tensor& tensor) {
  const bool is_next = num_written_ < tensors_.size() && tensors_[num_written_].name == name &&
                       tensors_[num_written_].shape == tensor.shape();
  SMOE_CHECK(is_next, file_.file().path(), ": ", name, " ", tensor.shape(),
             " must be the next tensor of the declared order");
  dispatch_floating(tensor.dtype(), [&](auto from) {
    dispatch_floating(dtype_, [&](auto to) {
      const auto values = tensor.to_vector<decltype(from)>();
      std::vector<decltype(to)> stored;
      stored.reserve(values.size());
      for (const auto value : values) stored.push_back(static_cast<decltype(to)>(value));
      const auto bytes = static_cast<std::int64_t>(stored.size() * sizeof(to));
      file_.file().write_at(offset_, stored.data(), bytes);
      offset_ += bytes;
    });
  });
  ++num_written_;
}

void SafetensorsWriter::commit() {
  SMOE_CHECK(num_written_ == tensors_.size(), file_.file().path(), ": ", num_written_, " of ",
             tensors_.size(), " declared tensors were written");
  file_.commit();
}

}  // namespace smoe
