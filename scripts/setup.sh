# shellcheck shell=bash
# Shared by quickstart.sh and test.sh, which source it from the root of the tree.

build_packages=(
  g++ cmake ninja-build pkg-config
  libopenblas-pthread-dev libhdf5-dev zlib1g-dev libxxhash-dev libfmt-dev libyaml-cpp-dev libcli11-dev
  nlohmann-json3-dev libsimdjson-dev libsentencepiece-dev libpcre2-dev libutf8proc-dev libzstd-dev
  doctest-dev
)

say() { printf '\n==> %s\n' "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# as_root COMMAND...: runs the command as root, through sudo if necessary.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "needs root or sudo to run: $*"
  fi
}

# install_packages NAME...: installs missing Debian packages. Needs neither network nor root if none is
# missing.
install_packages() {
  command -v apt-get >/dev/null ||
    fail "packages are installed with apt, which this machine lacks; README.md lists the requirements"
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

# fetch_cudnn_frontend: downloads the C++ headers of cuDNN, which NVIDIA ships in a Python package, to
# external/cudnn-frontend if CUDA, cuDNN and pip are installed. Builds without them use smoe's own
# attention kernels.
fetch_cudnn_frontend() {
  local folder=external/cudnn-frontend
  local wheel=nvidia_cudnn_frontend-1.32.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl
  local sha256=c6006556017a4d1c914c52a556c71b1267f2d6a0500f742e7b4edef539878df0
  [ ! -d "$folder" ] || return 0
  PATH=$PATH:/usr/local/cuda/bin command -v nvcc >/dev/null || return 0
  [ -n "$(find -L /usr/include /usr/local/cuda/include -name cudnn.h -print -quit 2>/dev/null)" ] ||
    return 0
  python3 -m pip --version >/dev/null 2>&1 || return 0
  say "cuDNN: fetching the headers of cudnn-frontend into $folder"
  rm -rf "$folder.new"
  mkdir -p "$folder.new"
  if ! python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 -d "$folder.new" \
    nvidia-cudnn-frontend==1.32.0; then
    echo "download failed; attention will use the slower SIMT kernels"
    return 0
  fi
  echo "$sha256  $folder.new/$wheel" | sha256sum --quiet -c -
  python3 -m zipfile -e "$folder.new/$wheel" "$folder.new"
  rm "$folder.new/$wheel"
  mv "$folder.new" "$folder"
}

# build PRESET TARGET...: configures build/PRESET and builds the targets.
build() {
  local preset=$1
  shift
  say "Build: preset $preset"
  cmake --preset "$preset" -DSMOE_WERROR="${SMOE_WERROR:-OFF}"
  cmake --build --preset "$preset" --target "$@"
}
