#!/bin/sh
# Runs a compile command; of a CUDA file it keeps what ptxas says about each kernel (registers,
# spills, notes) in OBJECT.ptxas, where tests/lint/spills.sh reads it, and prints the rest.
# usage: cmake/keep_ptxas_output.sh OBJECT COMMAND...
object=$1
shift
case $object in
  *.cu.o) ;;
  *) exec "$@" ;;
esac
messages=$object.ptxas
"$@" 2> "$messages"
status=$?
grep -vE '^ptxas info|bytes stack frame,' "$messages" >&2
exit $status
