#!/bin/bash
# From a fresh clone to a trained model: installs missing packages (Debian or Ubuntu, as root or
# through sudo), builds, downloads 8.8 MB of English text (the manual of Perl), trains
# configs/tiny.yaml on it for about two minutes and generates text. Incremental when run again.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/setup.sh

[ $# = 0 ] || fail "must be called without arguments; got $*"
smoe=build/release/bin/smoe
text=data/perl-doc
tokens=data/tiny.h5
run=runs/tiny

# The text is unpacked from the package itself, since slim images do not install documentation. The
# folder is renamed when it is complete.
fetch_text() {
  if [ -d "$text" ]; then
    say "Text: $text exists"
    return
  fi
  say "Text: unpacking the Debian package perl-doc into $text"
  local new=$text.new
  rm -rf "$new"
  mkdir -p "$new/package" "$new/text"
  # Download as root: the sandbox user cannot write here, and apt would warn.
  local download=(apt-get -q -o APT::Sandbox::User=root download perl-doc)
  (cd "$new" && "${download[@]}") || {
    as_root apt-get -q update
    (cd "$new" && "${download[@]}")
  }
  dpkg -x "$new"/perl-doc_*.deb "$new/package"
  find "$new/package" -path '*/pod/*.pod' -exec mv -t "$new/text" {} +
  local bytes
  bytes=$(cat "$new"/text/*.pod | wc -c)
  [ "$bytes" -ge 5000000 ] || fail "perl-doc must contain 5 MB of POD; got $bytes bytes in $new/text"
  mv "$new/text" "$text"
  rm -rf "$new"
}

prepare_tokens() {
  if [ -f "$tokens" ] && [ -z "$(find "$text" -newer "$tokens" -print -quit)" ]; then
    say "Tokens: $tokens is up to date"
    return
  fi
  say "Tokens: $text -> $tokens"
  "$smoe" prepare --input "$text" --output "$tokens" --force
}

# Prints one line per validation of the run, with a bar proportional to its bits per byte.
print_curve() {
  sed -n 's/.*"kind":"validation","step":\([0-9]*\).*"bits_per_byte":\([0-9.]*\).*/\1 \2/p' \
    "$run/metrics.jsonl" |
    awk '{
      bar = sprintf("%*s", $2 * 8, "")
      gsub(/ /, "#", bar)
      printf "  step %5d  %.3f  %s\n", $1, $2, bar
    }'
}

install_packages "${build_packages[@]}"
fetch_cudnn_frontend
build release smoe
fetch_text
prepare_tokens

say "Training: configs/tiny.yaml"
"$smoe" train configs/tiny.yaml

say "Validation, bits per byte (8 for an untrained model)"
print_curve

say "Generated text"
"$smoe" generate "$run" --prompt "The function " --max-tokens 300 --temperature 0.8 --top-p 0.9

say "Done. $run/report.html shows the run, $run/README.txt describes its files; README.md has the next steps"
