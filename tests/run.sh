#!/usr/bin/env bash
# The whole test suite: linters, types, tests. Arguments go on to pytest; with any, linters and types are left out.
#   --services   also install what the tests marked `services` need (root and apt), and run them
export EXTRAS=tests
source "$(dirname "${BASH_SOURCE[0]}")/../examples/environment.sh"
cd "$ROOT"
export OMP_NUM_THREADS=1

markers=(-m 'not services')
# Two files at a time.
parallel=(-n 2 --dist loadfile)
if [ "${1:-}" = --services ]; then
    shift
    markers=()
    if ! command -v chromium >/dev/null; then
        say 'installing chromium'
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    fi
fi

if [ $# -eq 0 ]; then
    say 'ruff'
    ruff check .
    ruff format --check --quiet .
    say 'mypy'
    mypy
fi
say 'pytest'
[ $# -eq 0 ] || parallel=()
exec python -m pytest ${markers[@]+"${markers[@]}"} ${parallel[@]+"${parallel[@]}"} "$@"
