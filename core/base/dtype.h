// Element types of tensors: the closed list, their sizes and names, and the dispatch from a runtime
// DType to a C++ type.
#pragma once
#include <cstdint>
#include <type_traits>

#include "core/base/bf16.h"
#include "core/base/check.h"

namespace smoe {

enum class DType : std::uint8_t { f32, f64, bf16, i32, i64, u16, u8 };

/// Bytes of one element.
constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::u16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

/// Short name used in messages and on disk: "f32", "bf16", ...
constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u16:
      return "u16";
    case DType::u8:
      return "u8";
  }
  return "?";
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16;
}

/// The accumulator type for elements of `dtype`: f64 for f64, f32 for f32 and bf16.
constexpr DType accumulation_dtype(DType dtype) {
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}

template <class T>
using accumulation_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
struct dtype_of_type;
template <>
struct dtype_of_type<float> : std::integral_constant<DType, DType::f32> {};
template <>
struct dtype_of_type<double> : std::integral_constant<DType, DType::f64> {};
template <>
struct dtype_of_type<bf16> : std::integral_constant<DType, DType::bf16> {};
template <>
struct dtype_of_type<std::int32_t> : std::integral_constant<DType, DType::i32> {};
template <>
struct dtype_of_type<std::int64_t> : std::integral_constant<DType, DType::i64> {};
template <>
struct dtype_of_type<std::uint16_t> : std::integral_constant<DType, DType::u16> {};
template <>
struct dtype_of_type<std::uint8_t> : std::integral_constant<DType, DType::u8> {};

/// DType of the C++ element type T.
template <class T>
inline constexpr DType dtype_of = dtype_of_type<T>::value;

/// Calls f(T{}) with T the C++ type of a floating-point `dtype` and returns what f returns.
/// Throws: UsageError for an integer dtype.
template <class F>
decltype(auto) dispatch_floating(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(bf16{});
    default:
      throw UsageError(concat("dispatch: dtype must be f32, f64 or bf16; got ", name_of(dtype)));
  }
}

}  // namespace smoe
