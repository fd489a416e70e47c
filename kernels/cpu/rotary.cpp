// A task rotates a few positions of all sequences, so that each sine is computed at most once: in
// double, then rounded.
#include "kernels/rotary.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kPositions = 16;  // per task

// Rows [begin, end) of the table [S, C]: C/2 cosines, then C/2 sines, for each row's position.
template <class Acc>
void fill_table(const RotaryArgs& args, std::int64_t begin, std::int64_t end, Acc* table) {
  const std::int64_t width = args.shape.head_dim, half = width / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(args.theta, -2.0 * double(i) / double(width));
    for (std::int64_t row = begin; row < end; ++row) {
      const double angle = double(args.first_position + row) * frequency;
      table[row * width + i] = Acc(std::cos(angle));
      table[row * width + half + i] = Acc(std::sin(angle));
    }
  }
}

template <class T, class Acc>
void rotate_head(const T* source, T* target, const Acc* cosines, const Acc* sines, Acc direction,
                 std::int64_t half) {
  // source and target are equal or do not overlap, so each element is read before it is written.
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const Acc low = Acc(source[i]), high = Acc(source[i + half]), sine = direction * sines[i];
    target[i] = T(low * cosines[i] - high * sine);
    target[i + half] = T(high * cosines[i] + low * sine);
  }
}

}  // namespace

void rotary(const Launch&, const RotaryArgs& args) {
  dispatch_floating(args.source.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const AttentionShape& shape = args.shape;
    const std::int64_t width = shape.head_dim, half = width / 2;
    const std::int64_t num_rotated = shape.num_heads + shape.num_kv_heads;
    const Acc direction = args.inverse ? Acc(-1) : Acc(1);
    Acc* table = static_cast<Acc*>(args.workspace);
    const auto rotate_row = [&](std::int64_t row, const Acc* angles) {
      const T* source = args.source.row<T>(row);
      T* target = args.target.row<T>(row);
      for (std::int64_t head = 0; head < num_rotated; ++head)
        rotate_head(source + head * width, target + head * width, angles, angles + half, direction,
                    half);
      if (source != target)
        std::copy(source + num_rotated * width, source + shape.packed_width(),
                  target + num_rotated * width);
    };
    parallel_blocks(shape.seq_len, kPositions, [&](std::int64_t begin, std::int64_t end, int) {
      if (!args.has_table) fill_table(args, begin, end, table);
      for (std::int64_t sequence = 0; sequence < shape.batch; ++sequence)
        for (std::int64_t position = begin; position < end; ++position)
          rotate_row(sequence * shape.seq_len + position, table + position * width);
    });
  });
}

std::int64_t rotary_workspace_bytes(const Launch&, const RotaryArgs& args) {
  return args.shape.seq_len * args.shape.head_dim * size_of(accumulation_dtype(args.source.dtype));
}

}  // namespace smoe::kernels::cpu
