#!/usr/bin/env bash
# The whole test suite: linters, types, tests. Arguments go on to pytest; with any, linters and types are left out.
#   --services   also install what the tests marked `services` need (root and apt), and run them
#   --slurm      install SLURM (root and apt) and run the tests on it, and no others
export EXTRAS=tests
source "$(dirname "${BASH_SOURCE[0]}")/../examples/environment.sh"
cd "$ROOT"
export OMP_NUM_THREADS=1

markers=(-m 'not services and not slurm')
# Two files at a time.
parallel=(-n 2 --dist loadfile)
if [ "${1:-}" = --services ]; then
    shift
    markers=(-m 'not slurm')
    if ! command -v chromium >/dev/null; then
        say 'installing chromium'
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    fi
fi

if [ "${1:-}" = --slurm ]; then
    shift
    if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
        say 'installing SLURM'
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
    fi
    say 'pytest on SLURM'
    exec python -m pytest tests/slurm "$@"
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
