// A minimal valid configuration, to be modified by tests.
#pragma once
#include <string>
#include <vector>

#include "tests/train/config/message_of.h"
#include "train/config/config.h"

namespace smoe {

/// The shortest valid file: one key per line, so that tests can refer to line numbers.
inline const std::string kValid =
    "run: {name: test}\n"        // 1
    "model:\n"                   // 2
    "  num_layers: 2\n"          // 3
    "  d_model: 16\n"            // 4
    "  num_heads: 4\n"           // 5
    "  num_kv_heads: 2\n"        // 6
    "  head_dim: 4\n"            // 7
    "  d_expert: 8\n"            // 8
    "  num_experts: 4\n"         // 9
    "  top_k: 2\n"               // 10
    "data: {path: tokens.h5}\n"  // 11
    "train:\n"                   // 12
    "  steps: 10\n"              // 13
    "  seq_len: 8\n"             // 14
    "  micro_batch: 3\n"         // 15
    "  global_batch: 6\n";       // 16

using Overrides = std::vector<std::string>;

/// The error of parse_config for `yaml` with `overrides`.
inline std::string error_with(const Overrides& overrides, const std::string& yaml = kValid) {
  return message_of([&] { parse_config(yaml, "a.yaml", overrides); });
}

}  // namespace smoe
