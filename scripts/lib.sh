# What scripts/demo and scripts/check share: find out what this machine lacks, and make .venv once.
#
# Sourced, not run; the caller sets ROOT and SELF. Written for bash 3.2, which is what macOS has. People are spoken to on stderr, so
# that stdout stays free for whatever the caller prints.
#
# llama-cpp-python is compiled here, for this processor, which takes minutes. So: look for everything that is needed first; show what is
# going on; keep the wheel for the next clone; and never do it twice. An installation that was cut off leaves a mark and is begun anew.
#
# There are two kinds of environment. `plain` is what the commands need: the extras cli and plots. `dev` adds what the checks need: the
# extras cluster, grpc, otel and gpu, and the dependency group dev. Versions are those of constraints.txt, which scripts/lock writes.
# shellcheck shell=bash

VENV="$ROOT/.venv"
LOG="$VENV/install.log"
MADE="$VENV/.made-by-scripts"       # Holds ROOT. A .venv without it is somebody's own: added to, never removed.
UNFINISHED="$VENV/.installing"      # There while pip works.
CONSTRAINTS="$ROOT/constraints.txt" # Empty: whatever is newest within the ranges of pyproject.toml.
FREE_KIB_MIN=$((2 * 1024 * 1024))   # .venv takes 0.6 GiB for development, the build another 0.3 GiB for a while.
BUILD_KIB_MIN=$((1024 * 1024))

# The multimodal half of llama-cpp-python is never used here and is a quarter of its build. The user's own options come later and win.
export CMAKE_ARGS="-DLLAVA_BUILD=OFF${CMAKE_ARGS:+ $CMAKE_ARGS}"

say() { printf '%s\n' "$*" >&2; }

# --- what the machine must have ----------------------------------------------------------------------------------------------

# Prints the first Python that is new enough; fails if there is none.
find_python() {
  local name
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$name"
      return 0
    fi
  done
  return 1
}

# compiles LANGUAGE COMPILER...: whether one of the compilers turns a program that includes a standard header into a file.
compiles() {
  local language=$1 header=stdio.h compiler
  shift
  [ "$language" = c++ ] && header=vector
  for compiler in "$@"; do
    if printf '#include <%s>\nint main() { return 0; }\n' "$header" | "$compiler" -x "$language" -o /dev/null - >/dev/null 2>&1; then
      return 0
    fi
  done
  return 1
}

has_header() { # INCLUDE-FOLDER HEADER
  printf '#include <%s>\n' "$2" | "${CC:-cc}" -I"$1" -x c -E - >/dev/null 2>&1
}

free_kib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'; }

# Prints one line for each thing that is missing.
missing_things() {
  local python include free
  if ! python=$(find_python); then
    printf 'Python 3.11 or newer (found: %s)\n' "$(python3 --version 2>/dev/null || echo none)"
  elif ! "$python" -c 'import venv, ensurepip, ssl, sqlite3' >/dev/null 2>&1; then
    printf "Python's venv, ensurepip, ssl and sqlite3 modules (%s lacks: %s)\n" "$python" "$(
      "$python" -c 'import importlib.util as u; print(*[m for m in ("venv", "ensurepip", "ssl", "sqlite3") if not u.find_spec(m)] or ["a part of one"])'
    )"
  fi
  # shellcheck disable=SC2086  # Several names; CC may also hold options.
  if ! compiles c ${CC:-cc gcc clang}; then
    echo 'a C compiler (cc) that works'
  elif [ -n "$python" ]; then
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    has_header "$include" Python.h || printf "Python's C headers (no Python.h in %s)\n" "$include"
  fi
  # shellcheck disable=SC2086
  compiles c++ ${CXX:-c++ g++ clang++} || echo 'a C++ compiler (c++) that works'
  command -v git >/dev/null 2>&1 || echo 'git'
  if [ "$(uname -s)" = Darwin ] && command -v cc >/dev/null 2>&1; then
    use_brew_gmp
    has_header "$ROOT" gmp.h || echo 'the GMP library (gmp.h)'
  fi
  free=$(free_kib "$ROOT")
  if [ -n "$free" ] && [ "$free" -lt "$FREE_KIB_MIN" ]; then
    printf '%d MiB of free disk space in %s (there are %d)\n' $((FREE_KIB_MIN / 1024)) "$ROOT" $((free / 1024))
  fi
  free=$(free_kib "${TMPDIR:-/tmp}")
  if [ -n "$free" ] && [ "$free" -lt "$BUILD_KIB_MIN" ]; then
    printf '%d MiB of free disk space in %s (there are %d; TMPDIR names another folder)\n' $((BUILD_KIB_MIN / 1024)) "${TMPDIR:-/tmp}" $((free / 1024))
  fi
}

check_prerequisites() {
  local missing
  missing=$(missing_things)
  [ -z "$missing" ] && return 0
  say "$SELF needs what this machine does not have:"
  printf '%s\n' "$missing" | sed 's/^/  - /' >&2
  say "Install it and run $SELF again:"
  if [ "$(uname -s)" = Darwin ]; then
    say '  xcode-select --install && brew install python@3.12 git gmp'
  elif command -v apt-get >/dev/null 2>&1; then
    say '  sudo apt-get install python3 python3-venv python3-dev build-essential git    (Debian 12, Ubuntu 24.04 or newer)'
  elif command -v dnf >/dev/null 2>&1; then
    say '  sudo dnf install python3 python3-devel gcc gcc-c++ git'
  else
    say '  Debian, Ubuntu:  sudo apt-get install python3 python3-venv python3-dev build-essential git'
    say '  Fedora:          sudo dnf install python3 python3-devel gcc gcc-c++ git'
    say '  macOS:           xcode-select --install && brew install python@3.12 git gmp'
  fi
  return 1
}

# Homebrew's folders are not on the compiler's path everywhere.
use_brew_gmp() {
  local prefix
  prefix=$(brew --prefix gmp 2>/dev/null) || return 0
  export CPATH="$prefix/include${CPATH:+:$CPATH}" LIBRARY_PATH="$prefix/lib${LIBRARY_PATH:+:$LIBRARY_PATH}"
}

# --- long work, shown --------------------------------------------------------------------------------------------------------

# The newest line of the log that says how far the command is: ninja's `[26/193] ... -c folder/file.cpp`, shortened, or what pip does. Not what a
# compiler says of a file, thousands of lines at times, nor what the command before said. The first argument bounds its length.
last_log_line() {
  tail -n 3000 "$LOG" 2>/dev/null | awk '
    /^=== / { told = ""; next }
    { sub(/^ +/, "") }
    /^\[[0-9]+\/[0-9]+\]/ { sub(/\].* -c .*\//, "] "); told = $0; next }
    /^-- |^\*\*\* Configuring/ { told = "configuring"; next }
    /^[A-Za-z]/ && !/: (warning|note|error|In|At|required)|^(In|At|from|inlined|required) |[{};]$/ { told = $0 }
    END { print told }' | tr -cd '[:print:]' | cut -c "1-$1"
}

# shown TITLE COMMAND...: run with its output in the log. On a terminal one moving line; elsewhere a line every 20 s.
shown() {
  local title=$1 pid begun=$SECONDS told=$SECONDS turn=0 width newest line='' status=0
  shift
  printf '\n=== %s\n' "$*" >>"$LOG"
  set -m # A process group of its own, so that Ctrl-C can end compilers too.
  "$@" >>"$LOG" 2>&1 </dev/null &
  pid=$!
  set +m
  trap 'kill -TERM -- "-$pid" 2>/dev/null; say ""; say "$SELF: interrupted"; exit 130' INT TERM HUP
  width=$(tput cols 2>/dev/null || echo 80)
  [ -t 2 ] || say "$title ..."
  while kill -0 "$pid" 2>/dev/null; do
    newest=$(last_log_line $((width > ${#title} + 14 ? width - ${#title} - 14 : 1)))
    line=${newest:-$line}
    if [ -t 2 ]; then
      turn=$(((turn + 1) % 4))
      printf '\r\033[K%s %s %d s  %s' "$(printf '%s' '-+*#' | cut -c $((turn + 1)))" "$title" $((SECONDS - begun)) "$line" >&2
    elif [ $((SECONDS - told)) -ge 20 ]; then
      told=$SECONDS
      say "  $title: $((SECONDS - begun)) s, $line"
    fi
    sleep 0.5
  done
  wait "$pid" || status=$?
  trap - INT TERM HUP
  [ -t 2 ] && printf '\r\033[K' >&2
  if [ "$status" -ne 0 ]; then
    say "$title: failed after $((SECONDS - begun)) s. The end of $LOG:"
    tail -n 25 "$LOG" | sed 's/^/    /' >&2
    return "$status"
  fi
  say "$title: done in $((SECONDS - begun)) s"
}

# --- the environment ---------------------------------------------------------------------------------------------------------

# What an installation depends on. Of the sources only those that are compiled: the package is installed as a link to the others.
fingerprint() { # KIND
  "$VENV/bin/python" - "$ROOT" "$CONSTRAINTS" "$1" <<'PY'
import hashlib, pathlib, sys
root, constraints, kind = sys.argv[1:]
compiled = sorted(pathlib.Path(root, "swarmllm").rglob("*.c"))
files = [pathlib.Path(root, "pyproject.toml"), *compiled, *([pathlib.Path(constraints)] if constraints else [])]
print(hashlib.sha256(b"\0".join([*(file.read_bytes() for file in files), sys.version.encode(), root.encode(), kind.encode()])).hexdigest())
PY
}

is_installed() { # KIND: an environment for development does for everything.
  local kind
  [ -x "$VENV/bin/python" ] && [ -x "$VENV/bin/swarmllm" ] && [ ! -e "$UNFINISHED" ] || return 1
  for kind in "$1" dev; do
    [ -f "$VENV/.installed-$kind" ] && [ "$(cat "$VENV/.installed-$kind")" = "$(fingerprint "$kind")" ] && return 0
  done
  return 1
}

# Where a wheel for this Python and this very processor is kept: it is compiled for the instructions that the processor has. Without a
# home folder that can be written it is kept beside the environment.
wheel_folder() {
  local key folder
  key=$("$VENV/bin/python" - <<'PY'
import hashlib, os, pathlib, platform, sys
cpuinfo = pathlib.Path("/proc/cpuinfo")
lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else [platform.processor(), platform.version()]
chip = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))} or set(lines))
seed = "\n".join([*chip, *(f"{name}={os.environ.get(name, '')}" for name in ("CC", "CXX", "CMAKE_ARGS", "FORCE_CMAKE"))])
print(f"{sys.implementation.cache_tag}-{platform.machine()}-{hashlib.sha256(seed.encode()).hexdigest()[:12]}")
PY
  )
  folder="${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/swarmllm/wheels/$key"
  if ! { mkdir -p "$folder" && [ -w "$folder" ]; } 2>/dev/null; then
    folder="$VENV/wheels/$key"
    mkdir -p "$folder"
  fi
  printf '%s\n' "$folder"
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

# Options first, so that the versions of constraints.txt hold.
pip_install() { pip install ${CONSTRAINTS:+--constraint "$CONSTRAINTS"} --prefer-binary --progress-bar off "$@"; }

# The requirement for one package as pyproject.toml states it.
requirement() {
  "$VENV/bin/python" - "$ROOT/pyproject.toml" "$1" <<'PY'
import re, sys, tomllib
path, name = sys.argv[1:]
wanted = [item for item in tomllib.load(open(path, "rb"))["project"]["dependencies"] if re.match(rf"{name}(?![\w-])", item)]
print(wanted[0])
PY
}

# The requirements of a dependency group (PEP 735), one a line. The pip that a new environment has may be too old to know --group.
group() {
  "$VENV/bin/python" - "$ROOT/pyproject.toml" "$1" <<'PY'
import sys, tomllib
path, name = sys.argv[1:]
print(*tomllib.load(open(path, "rb"))["dependency-groups"][name], sep="\n")
PY
}

# Compile llama-cpp-python into the wheel folder, whole or not at all.
build_llama() { # WHEELS
  local wheels=$1 partial="$1/.partial.$$" need
  need=$(requirement llama-cpp-python)
  pip_install --no-index --no-deps "$need" >/dev/null 2>&1 && return 0 # Installed already.
  pip_install --no-index --no-deps --find-links "$wheels" "$need" >>"$LOG" 2>&1 && return 0 # Compiled already, by an earlier clone.
  say 'llama-cpp-python is compiled for this processor: once per machine, 3 to 5 minutes on two cores.'
  rm -rf "$partial" && mkdir "$partial" || return 1
  if ! shown 'compiling llama-cpp-python' pip -v wheel ${CONSTRAINTS:+--constraint "$CONSTRAINTS"} --no-deps --prefer-binary --progress-bar off \
    --wheel-dir "$partial" "$need"; then
    rm -rf "$partial"
    return 1
  fi
  mv "$partial"/*.whl "$wheels"/ && rm -rf "$partial"
}

# libp2p needs fastecdsa, which is compiled against GMP. Where GMP's headers are not installed, gmpy2's wheel brings header and library.
build_fastecdsa() {
  local packages library need
  [ "$(uname -s)" = Linux ] && ! has_header "$ROOT" gmp.h || return 0
  "$VENV/bin/python" -c 'import fastecdsa.curvemath' >/dev/null 2>&1 && return 0
  shown 'fetching the GMP library' pip_install --only-binary :all: 'gmpy2>=2.2.1,<3' || {
    say 'The GMP library is missing, and gmpy2 has no wheel for this machine that would bring it. Install its headers and run'
    say "$SELF again: sudo apt-get install libgmp-dev   (Fedora: sudo dnf install gmp-devel)"
    return 1
  }
  shown 'fetching libp2p' pip_install --no-deps "$(requirement libp2p)" || return 1
  need=$("$VENV/bin/python" -c 'import importlib.metadata as m; print(*[r.partition(";")[0] for r in m.requires("libp2p") if r.startswith("fastecdsa")])')
  packages=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  for library in "$packages"/gmpy2.libs/libgmp-*; do
    mkdir -p "$VENV/gmp" && ln -sf "$library" "$VENV/gmp/libgmp.so"
  done
  # Not from or into pip's cache: this build finds its library beside itself, in this environment only.
  # shellcheck disable=SC2016  # $ORIGIN is for the loader.
  CFLAGS="-I$packages/gmpy2 ${CFLAGS:-}" LDFLAGS="-L$VENV/gmp -Wl,-rpath,\$ORIGIN/../gmpy2.libs ${LDFLAGS:-}" \
    shown 'compiling fastecdsa' pip_install --no-cache-dir --no-deps "$need"
}

install_everything() { # KIND
  local wheels extras=cli,plots again=
  [ -e "$UNFINISHED" ] && again=--force-reinstall
  : >"$UNFINISHED"
  : >"$VENV/requirements.txt"
  if [ "$1" = dev ]; then
    extras=$extras,cluster,grpc,otel,gpu
    group dev >"$VENV/requirements.txt" || return 1
  fi
  wheels=$(wheel_folder) || return 1
  build_llama "$wheels" && build_fastecdsa || return 1
  # shellcheck disable=SC2086  # `again` is one word or none.
  shown 'installing swarmllm and what it needs' pip_install $again --find-links "$wheels" --requirement "$VENV/requirements.txt" \
    --editable "${ROOT}[$extras]" || return 1
  fingerprint "$1" >"$VENV/.installed-$1"
  rm -f "$UNFINISHED"
}

make_environment() { # KIND
  local python
  use_brew_gmp
  python=$(find_python)
  if [ -e "$MADE" ] && { [ -e "$UNFINISHED" ] || [ "$(cat "$MADE")" != "$ROOT" ] || ! "$VENV/bin/python" -c '' 2>/dev/null; }; then
    say 'The environment in .venv is unfinished or was made elsewhere; it is made anew.'
    rm -rf "$VENV"
  fi
  if [ ! -e "$VENV" ]; then
    mkdir "$VENV" && printf '%s\n' "$ROOT" >"$MADE" && : >"$UNFINISHED" || return 1
    shown "making .venv with $("$python" --version) ($python)" "$python" -m venv "$VENV" || return 1
    rm -f "$UNFINISHED" # Nothing is half installed in it yet.
  fi
  install_everything "$1" || {
    say "The whole log: $LOG"
    return 1
  }
}

# One installation at a time in one clone. A link is made, with the holder's process id in it, or is not; the dead hold nothing.
with_lock() {
  local lock holder told='' status=0
  lock="${TMPDIR:-/tmp}/swarmllm-$(id -u)-$(printf '%s' "$ROOT" | cksum | tr -d ' ').lock"
  until ln -s "pid:$$" "$lock" 2>/dev/null; do
    holder=$(readlink "$lock" 2>/dev/null)
    if [ ! -w "$(dirname "$lock")" ]; then
      say "$SELF: cannot write to $(dirname "$lock"); set TMPDIR to a folder of yours"
      return 1
    elif [ -n "$holder" ] && ! kill -0 "${holder#pid:}" 2>/dev/null; then
      rm -f "$lock"
      continue
    fi
    [ -n "$told" ] || say "Another script is installing into this clone (process ${holder#pid:}); waiting for it."
    told=1
    sleep 1
  done
  # shellcheck disable=SC2064  # The name is known now.
  trap "rm -f '$lock'" EXIT
  "$@" || status=$?
  rm -f "$lock"
  trap - EXIT
  return "$status"
}

install_if_needed() { is_installed "$1" || make_environment "$1"; }

ensure_environment() { # KIND (plain or dev)
  is_installed "$1" && return 0
  check_prerequisites && with_lock install_if_needed "$1"
}

# The packages of the client in JavaScript, where there is npm; without them its tests are skipped. No install scripts.
ensure_interop() {
  local folder="$ROOT/tests/interop"
  command -v npm >/dev/null 2>&1 || return 0
  [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ] && return 0
  npm --prefix "$folder" ci --ignore-scripts --no-audit --no-fund >/dev/null
}
