// The program `smoe`.
#include "train/commands/program.h"

int main(int argc, char** argv) {
  return smoe::run_program(argc, argv);
}
