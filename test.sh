#!/bin/bash
# Installs missing packages (Debian or Ubuntu, as root or through sudo), builds, and runs the tests.
#
#   ./test.sh          the release suite, lint, and the suite again under ASan + UBSan
#   ./test.sh --quick  the release suite without its slow tests, and lint
#   ./test.sh --all    the default, then the suite under ThreadSanitizer
#
# A failed stage does not prevent the next one; the summary at the end names it.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/setup.sh

mode=${1:---default}
case "$#$mode" in
  0--default | 1--quick | 1--all) ;;
  1-h | 1--help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0 ;;
  *) fail "the only arguments are --quick and --all; got $*" ;;
esac

summary=()
is_failed=0
launcher=()

# stage TITLE COMMAND...: runs the command and records its result.
stage() {
  local title=$1 start=$SECONDS verdict=passed
  shift
  # In a subshell, because `set -e` has no effect inside an `if` or `||`.
  set +e
  (
    set -e
    "$@"
  )
  [ $? = 0 ] || { verdict=FAILED && is_failed=1; }
  set -e
  summary+=("$(printf '%-28s %s (%d s)' "$title" "$verdict" $((SECONDS - start)))")
}

run_tests() {
  local preset=$1
  shift
  say "Tests: preset $preset, ctest $*"
  "${launcher[@]}" ctest --preset "$preset" -j "$(nproc)" --no-tests=error "$@"
}

release_suite() {
  build release all all_verify_interface_header_sets
  run_tests release "$@"
}

lint() { run_tests release -L lint; }

sanitized_suite() {
  build "$1" all
  run_tests "$1" -L cpu -LE slow
}

thread_sanitized_suite() {
  # GCC 12's ThreadSanitizer does not start with high-entropy ASLR, so it is disabled.
  if setarch -R true 2>/dev/null; then launcher=(setarch -R); fi
  sanitized_suite tsan
}

install_packages "${build_packages[@]}" clang-format jq
fetch_cudnn_frontend

if [ "$mode" = --quick ]; then
  stage "Release suite, no slow tests" release_suite -LE 'lint|bench|slow'
else
  stage "Release suite" release_suite -LE 'lint|bench'
fi
stage "Lint" lint
if [ "$mode" != --quick ]; then
  stage "ASan + UBSan suite" sanitized_suite asan
fi
if [ "$mode" = --all ]; then
  stage "ThreadSanitizer suite" thread_sanitized_suite
fi

say "Summary"
printf '%s\n' "${summary[@]}"
exit $is_failed
