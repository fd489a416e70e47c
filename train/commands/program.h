// The program `smoe` as a function. A program with modules of its own (layers/layer_kinds.h)
// registers them and calls it:
//
//   int main(int argc, char** argv) {
//     smoe::register_mlp<MyExperts>("my_experts");
//     return smoe::run_program(argc, argv);
//   }
#pragma once

namespace smoe {

/// Runs the command line and returns the exit code: 0 success, 1 failure, 2 invalid usage or
/// configuration, after a message on standard error. To be called with the arguments of main before
/// anything else but registrations: commands start the program again as ranks and to read untrusted
/// files in a sandbox.
int run_program(int argc, char** argv);

}  // namespace smoe
