#!/usr/bin/env bash
# Creates .venv/ with the `hearsee` command. Usage: scripts/setup.sh [EXTRA]...
# Safe to run again at any time; what is already there is kept, and nothing is fetched twice.
#
#   HEARSEE_PYTHON   the Python to use instead of the first suitable one found
#   CMAKE_ARGS       how to compile llama.cpp, for example -DGGML_CUDA=on or -DGGML_VULKAN=on
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv
readonly SUITABLE='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'
readonly BASE_PACKAGES=(build-essential)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

find_python() {
    local candidate
    for candidate in "${HEARSEE_PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14; do
        if [ -n "$candidate" ] && "$candidate" -c "$SUITABLE" >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    if command -v uv >/dev/null 2>&1; then uv python find --no-python-downloads '>=3.11,<3.15' 2>/dev/null || true; fi
}

# The names of the system's packages that bring a suitable Python, newest distribution first.
python_packages() {
    local version
    if python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then
        echo "python3-venv"
        return
    fi
    for version in 3.13 3.12 3.11; do
        if apt-cache show "python$version-venv" >/dev/null 2>&1; then echo "python$version python$version-venv"; return; fi
    done
    echo "python3 python3-venv"
}

has_library() { { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep -q "$1"; }

# Installs with apt when root or passwordless sudo allows it. Returns 1 after printing the one line otherwise.
install_packages() {
    local as_root=()
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing on this system: $* (Debian's names); install them, then run the same command again"
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "run this, then the same command again:  sudo apt-get install -y $*"
            return 1
        fi
        as_root=(sudo -n)
    fi
    say "installing system packages: $*"
    "${as_root[@]}" apt-get update -qq || say "the package lists could not be refreshed; trying with the old ones"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# CMAKE_ARGS are remembered, so that a later plain run keeps the same build.
remember_cmake_args() {
    if [ -n "${CMAKE_ARGS+set}" ]; then printf '%s' "$CMAKE_ARGS" >$VENV/.cmake-args; fi
    CMAKE_ARGS=$(cat $VENV/.cmake-args 2>/dev/null || true)
    export CMAKE_ARGS
}

make_venv() {
    local python
    if [ -x $VENV/bin/python ] && $VENV/bin/python -c "$SUITABLE" 2>/dev/null && $VENV/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python)
    if [ -z "$python" ]; then
        # shellcheck disable=SC2046  # two names are meant to be two words
        install_packages $(python_packages) || exit 1
        python=$(find_python)
        [ -n "$python" ] || fail "no Python from 3.11 to 3.14 with venv found; install one, then HEARSEE_PYTHON=/path/to/python make setup"
    fi
    say "creating $VENV with $("$python" --version) ($python)"
    rm -rf $VENV
    "$python" -m venv $VENV
}

llama_version() { sed -n 's/^ *"llama-cpp-python==\(.*\)",.*/\1/p' pyproject.toml; }

# One folder per processor, C library and build options: the wheel is compiled for exactly this machine.
wheel_folder() {
    local key
    key=$({ uname -m; grep -m1 -E '^(flags|Features)' /proc/cpuinfo; ldd --version 2>&1 | head -n1; echo "${CMAKE_ARGS:-}"; } | sha256sum | cut -c1-16)
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/hearsee/wheels/$key"
}

# Shows that the compiler is alive: a counter on a terminal, a line every half minute elsewhere.
watch_build() {
    local pid=$1 log=$2 start=$SECONDS next=0 step
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        step=$(grep -oE '\[[0-9]+/[0-9]+\]' "$log" 2>/dev/null | tail -n1 || true)
        if [ -t 2 ]; then
            printf '\rsetup:   %s %d:%02d ' "${step:-fetching}" $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) >&2
        elif [ $((SECONDS - start)) -ge $next ]; then
            say "  ${step:-fetching} after $((SECONDS - start)) s"
            next=$((SECONDS - start + 30))
        fi
    done
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

# llama-cpp-python has no wheel on the package index; compile it once and keep the wheel.
# Its own multimodal library is left out: Hearsee builds the encoders itself.
build_llama() {
    local version=$1 folder=$2 log temporary
    if ! command -v c++ >/dev/null 2>&1 || ! command -v cc >/dev/null 2>&1; then
        install_packages "${BASE_PACKAGES[@]}" || exit 1
    fi
    temporary=$(mktemp -d)
    log=$temporary/build.log
    say "compiling llama.cpp for this processor (llama-cpp-python $version): about 5 minutes on two cores, once"
    CMAKE_ARGS="-DLLAVA_BUILD=OFF ${CMAKE_ARGS:-}" \
        $VENV/bin/python -m pip wheel -v --disable-pip-version-check --no-cache-dir --no-deps \
        --no-binary llama-cpp-python -w "$temporary" "llama-cpp-python==$version" >"$log" 2>&1 </dev/null &
    watch_build $! "$log"
    if ! wait $!; then
        tail -n 30 "$log" >&2
        fail "compiling llama-cpp-python $version failed (last lines above, all of it in $log)"
    fi
    mkdir -p "$folder"
    mv "$temporary"/llama_cpp_python-*.whl "$folder/"
    rm -rf "$temporary"
}

install_llama() {
    local version folder
    version=$(llama_version)
    [ -n "$version" ] || fail "pyproject.toml does not pin llama-cpp-python"
    folder=$(wheel_folder)
    if [ "$(cat $VENV/.llama 2>/dev/null)" = "$folder/$version" ]; then return; fi
    if ! compgen -G "$folder/llama_cpp_python-$version-*.whl" >/dev/null; then build_llama "$version" "$folder"; fi
    say "installing llama-cpp-python $version from $folder"
    pip_install --force-reinstall --no-deps "$folder"/llama_cpp_python-"$version"-*.whl
    $VENV/bin/python -c 'import ctypes, glob, os, importlib.util as u
for name in ("libggml.so", "libllama.so"):
    ctypes.CDLL(os.path.join(os.path.dirname(u.find_spec("llama_cpp").origin), "lib", name))' ||
        fail "the compiled llama.cpp does not load; delete $folder and run the same command again"
    echo "$folder/$version" >$VENV/.llama
}

pip_install() { $VENV/bin/python -m pip install -qq --disable-pip-version-check "$@"; }

install_hearsee() {
    local extras
    extras=$(IFS=,; echo "$*")
    say "installing Hearsee${extras:+ with $extras} and what it needs"
    $VENV/bin/python -c 'import setuptools, sys; sys.exit(int(setuptools.__version__.split(".")[0]) < 77)' 2>/dev/null ||
        pip_install 'setuptools==84.2.1'
    # Without build isolation, nothing is fetched when everything is already here: works offline.
    pip_install --no-build-isolation -e ".${extras:+[$extras]}"
}

main() {
    make_venv
    remember_cmake_args
    install_llama
    install_hearsee "$@"
    has_library libportaudio.so.2 || install_packages libportaudio2 || say "(only the microphone needs it; going on without)"
    say "ready: $VENV/bin/hearsee"
}

main "$@"
