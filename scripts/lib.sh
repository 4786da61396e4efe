# Functions that the scripts share. Source this file, do not run it. It sets $root to the checkout.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() { # die SENTENCE [HINT]
  echo "$(basename "$0"): $1" >&2
  [ -z "${2:-}" ] || echo "  $2" >&2
  exit 1
}

find_python() { # print the command of a Python 3.11 or later
  local python
  for python in ${KCONND_PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  die "found no Python 3.11 or later" "install one, or set KCONND_PYTHON=/path/to/python"
}

apt_install() { # apt_install PACKAGE...   install missing Debian packages; fail unless run by root
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "missing packages: ${missing[*]}" "apt-get install ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
}

pip_install() { # pip_install VENV ARGUMENT...   run pip install in a virtual environment
  local pip=("$1/bin/python" -m pip install -q --disable-pip-version-check)
  # Commands that an older pip writes import re first, which costs each kconnd-ctl four milliseconds.
  "${pip[@]}" 'pip>=25.2'
  "${pip[@]}" "${@:2}"
}

make_build_venv() { # make_build_venv DIR SOURCE VENV   install SOURCE in DIR, with the package versions of VENV
  local versions
  versions=$(mktemp)
  "$3/bin/python" -m pip freeze --exclude kconnd >"$versions"
  "$3/bin/python" -m venv --clear "$1"
  pip_install "$1" -c "$versions" "$2"
  rm "$versions"
}

make_venv() { # make_venv DIR EXTRA   make an environment with the project, if it is missing or outdated
  local venv=$1 extra=$2 stamp python
  python=$(find_python)
  stamp=$("$python" -VV; cat "$root/pyproject.toml"; declare -f pip_install; echo "$root $extra")
  if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "making the environment $venv ..." >&2
    "$python" -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
    "$python" -m venv --clear "$venv"
    pip_install "$venv" -e "$root[$extra]"
    echo "$stamp" >"$venv/stamp"
  fi
}
