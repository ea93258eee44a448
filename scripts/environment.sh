# Sourced by scripts/test and scripts/demo: makes an environment in the project root and installs the
# package with extras: make_environment FOLDER EXTRAS. Does nothing when that was done before.

make_environment() {
  local folder="$1" extras="$2" python stamp wanted
  python="$(find_python)" || { install_packages python3 python3-venv && python="$(find_python)"; } || return 1
  [ -x "$folder/bin/python" ] || make_venv "$python" "$folder" || return 1
  stamp="$folder/.installed${extras:+-$extras}"
  wanted="$(cat pyproject.toml setup.py | cksum) $(pwd)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing into $folder (first time: a minute or two) …" >&2
    # An editable install: the tests and the demo run the code of this folder.
    PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/bin/python" -m pip install -qq --upgrade pip >&2 || return 1
    case ",$extras," in *,model,*)  # the version that has been tried
      PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/bin/python" -m pip install -qq 'torch==2.13.0' >&2 || return 1 ;;
    esac
    PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/bin/python" -m pip install -qq --editable ".${extras:+[$extras]}" >&2 || return 1
    echo "$wanted" > "$stamp"
  fi
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.12 python3.11 python3.10; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

# Debian and Ubuntu ship venv (ensurepip) apart from Python.
make_venv() {
  if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
    install_packages python3-venv || return 1
  fi
  "$1" -m venv "$2" || { rm -rf "$2"; return 1; }
}

# The simulator draws without a screen, through Mesa's EGL.
make_drawing() {
  local driver
  for driver in /usr/lib/*/dri/*_dri.so /usr/lib/*/libgallium*.so; do
    if [ -e "$driver" ] && /sbin/ldconfig -p | grep -q libEGL_mesa.so; then return; fi
  done
  install_packages libegl1 libegl-mesa0 libgl1-mesa-dri
}

# With apt when root, else one line that says what to do.
install_packages() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing $* …" >&2
    apt-get update -qq >&2 &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
  else
    echo "Packages are missing: sudo apt install $*" >&2
    return 1
  fi
}
