# shellcheck shell=bash
# What quickstart.sh and test.sh share; sourced by both with the tree's root as current folder.

build_packages=(
  g++ cmake ninja-build pkg-config
  libopenblas-pthread-dev libhdf5-dev zlib1g-dev libxxhash-dev
  libfmt-dev libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libsentencepiece-dev doctest-dev
)

say() { printf '\n==> %s\n' "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# as_root COMMAND...: runs it as it is or through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "needs root or sudo to run: $*"
  fi
}

# install_packages NAME...: installs those of Debian's packages that are missing; when none is, it
# needs neither the network nor root.
install_packages() {
  command -v apt-get >/dev/null ||
    fail "installs packages with apt, which this machine lacks; README.md names what a build needs"
  local name missing=()
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed ||
      missing+=("$name")
  done
  if [ ${#missing[@]} = 0 ]; then
    say "Packages: all $# are installed"
    return
  fi
  say "Packages: installing ${missing[*]}"
  as_root apt-get -q update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}"
}

# build PRESET TARGET...: configures build/PRESET and brings the targets up to date.
build() {
  local preset=$1
  shift
  say "Build: preset $preset"
  cmake --preset "$preset" -DSMOE_WERROR="${SMOE_WERROR:-OFF}"
  cmake --build --preset "$preset" --target "$@"
}
