# Sourced by the project's scripts: makes the virtual environment if it is missing, or reuses it, and activates it.
#   PYTHON=…  the interpreter to make it with (python3)      VENV=…  where it is (.venv in the project)
#   EXTRAS=…  the extras to install (xtb)
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
EXTRAS="${EXTRAS:-xtb}"
CONSTRAINTS="$ROOT/examples/constraints.txt"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

if [ ! -x "$VENV/bin/python" ]; then
    PYTHON="${PYTHON:-python3}"
    command -v "$PYTHON" >/dev/null || { echo "There is no $PYTHON here: name a Python of version 3.10 or newer with PYTHON=…" >&2; exit 1; }
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
        || { echo "$PYTHON is older than 3.10: name a newer one with PYTHON=…" >&2; exit 1; }
    say "making the virtual environment $VENV"
    "$PYTHON" -m venv "$VENV" \
        || { echo "The venv module is missing: on Debian and Ubuntu it is in the package python3-venv." >&2; exit 1; }
fi

# What was installed: the extras, and the files that decide versions. If they are as they were, there is nothing to do.
fingerprint="$ROOT $EXTRAS $(cat "$CONSTRAINTS" "$ROOT/pyproject.toml" | cksum)"
if [ "$(cat "$VENV/.installed" 2>/dev/null || true)" = "$fingerprint" ]; then
    say "using the virtual environment $VENV"
else
    say "installing aiida-mlip-al[$EXTRAS] into $VENV (torch first; minutes, once)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=24.2'
    # torch before anything that depends on it, so that its build is decided here and nowhere else.
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$CONSTRAINTS" torch
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$CONSTRAINTS" --editable "$ROOT[$EXTRAS]"
    printf '%s\n' "$fingerprint" > "$VENV/.installed"
fi
export PATH="$VENV/bin:$PATH"
unset fingerprint
