// Flat loops, split into blocks of a fixed size.
#include "kernels/elementwise.h"

#include <algorithm>

#include "core/base/normal.h"
#include "core/base/philox.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 1 << 15;

// target[i] = f(source[i], word i of the Philox stream), in the accumulation dtype.
template <class Args, class F>
void map_with_words(const Args& args, const F& f) {
  static_assert(kBlock % 4 == 0, "a block holds whole Philox blocks");
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const T* source = static_cast<const T*>(args.source);
    T* target = static_cast<T*>(args.target);
    const PhiloxStream stream(args.seed, args.a, args.b);
    parallel_blocks(args.numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; i += 4) {
        const PhiloxWords words = stream.block(i / 4);
        for (std::int64_t j = i; j < std::min(i + 4, end); ++j)
          target[j] = T(f(Acc(source[j]), words[j - i]));
      }
    });
  });
}

}  // namespace

void add(const Launch&, const AddArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    const T* a = static_cast<const T*>(args.a);
    const T* b = static_cast<const T*>(args.b);
    T* sum = static_cast<T*>(args.sum);
    parallel_blocks(args.numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
      using Acc = accumulation_t<T>;
      for (std::int64_t i = begin; i < end; ++i) sum[i] = T(Acc(a[i]) + Acc(b[i]));
    });
  });
}

void scale(const Launch&, const ScaleArgs& args) {
  dispatch_floating(args.source_dtype, [&](auto source_type) {
    dispatch_floating(args.target_dtype, [&](auto target_type) {
      using S = decltype(source_type);
      using T = decltype(target_type);
      const S* source = static_cast<const S*>(args.source);
      T* target = static_cast<T*>(args.target);
      const double factor = args.scale, beta = args.beta;
      parallel_blocks(args.numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
        // In the wider of the two accumulation types, so that f64 to f32 rounds once.
        using Acc = decltype(accumulation_t<S>{} + accumulation_t<T>{});
        if (beta == 0)
          for (std::int64_t i = begin; i < end; ++i) target[i] = T(Acc(factor) * Acc(source[i]));
        else
          for (std::int64_t i = begin; i < end; ++i)
            target[i] = T(Acc(factor) * Acc(source[i]) + Acc(beta) * Acc(target[i]));
      });
    });
  });
}

void weighted_sum(const Launch&, const WeightedSumArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    const auto term = [&](std::size_t i) {
      return T(T(args.weights[i]) * *static_cast<const T*>(args.scalars[i]));
    };
    T sum = term(0);
    for (std::size_t i = 1; i < args.scalars.size(); ++i) sum = T(sum + term(i));
    *static_cast<T*>(args.sum) = sum;
  });
}

void gather_scalars(const Launch&, const GatherScalarsArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    for (std::size_t i = 0; i < args.scalars.size(); ++i)
      args.values[i] = args.weights[i] * double(*static_cast<const T*>(args.scalars[i]));
  });
}

void fill(const Launch&, const FillArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    T* target = static_cast<T*>(args.target);
    const T value = T(args.value);
    parallel_blocks(args.numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) target[i] = value;
    });
  });
}

void fill_normal(const Launch&, const FillNormalArgs& args) {
  static_assert(kBlock % 2 == 0, "a block holds whole pairs of normals");
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    T* target = static_cast<T*>(args.target);
    const PhiloxStream stream(args.seed, args.a, args.b);
    parallel_blocks(
        args.numel, kBlock,
        [=, std = args.std, first = args.first](std::int64_t begin, std::int64_t end, int) {
          for (std::int64_t i = begin; i < end; i += 2) {
            const NormalPair pair = normal_pair(stream.block((first + i) / 2));
            target[i] = T(std * pair.first);
            if (i + 1 < end) target[i + 1] = T(std * pair.second);
          }
        });
  });
}

void jitter(const Launch&, const JitterArgs& args) {
  map_with_words(args, [epsilon = args.epsilon](auto x, std::uint32_t word) {
    return x * decltype(x)(1 - epsilon + 2 * epsilon * (word * 0x1p-32));
  });
}

void dropout(const Launch&, const DropoutArgs& args) {
  const auto threshold = static_cast<std::uint32_t>(args.probability * 0x1p32);
  map_with_words(args,
                 [threshold, factor = 1 / (1 - args.probability)](auto x, std::uint32_t word) {
                   return word < threshold ? decltype(x)(0) : x * decltype(x)(factor);
                 });
}

void scale_by(const Launch&, const ScaleByArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const T* source = static_cast<const T*>(args.source);
    T* target = static_cast<T*>(args.target);
    const Acc factor = Acc(args.factor) * *static_cast<const Acc*>(args.scalar);
    parallel_blocks(args.numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i)
        target[i] = T(source ? factor * Acc(source[i]) : factor);
    });
  });
}

void squared_difference(const Launch&, const SquaredDifferenceArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const T* a = static_cast<const T*>(args.a);
    const T* b = static_cast<const T*>(args.b);
    Acc* squares = static_cast<Acc*>(args.squares);
    parallel_blocks(args.numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const Acc difference = Acc(a[i]) - Acc(b[i]);
        squares[i] = difference * difference;
      }
    });
  });
}

void scaled_difference(const Launch&, const ScaledDifferenceArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const T* a = static_cast<const T*>(args.a);
    const T* b = static_cast<const T*>(args.b);
    T* difference = static_cast<T*>(args.difference);
    const Acc factor = Acc(args.factor);
    parallel_blocks(args.numel, kBlock, [=](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i)
        difference[i] = T(factor * (Acc(a[i]) - Acc(b[i])));
    });
  });
}

}  // namespace smoe::kernels::cpu
