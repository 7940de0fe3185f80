#!/usr/bin/env bash
# Linters, types, and the tests of less than ten seconds. Arguments go on to pytest; with any, linters and types are left out.
#   --all        also the slow tests: real trainings and explorations, whole runs through a daemon
#   --services   all, and install what the tests with a service need (root and apt), and run them; what cannot be installed
#                or started is skipped, and pytest says why
#   --slurm      install SLURM (root and apt) and run the tests on it, and no others: they end with a table of faults
export EXTRAS=tests
source "$(dirname "${BASH_SOURCE[0]}")/../examples/environment.sh"
cd "$ROOT"
export OMP_NUM_THREADS=1

SLURM=(slurm-wlm munge slurmdbd mariadb-server openssh-server)
SERVICES=(postgresql rabbitmq-server)

# Install what is missing, without starting it; that it did not work is said and nothing more.
install_packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    apt-get update -qq || true
    for package in "${missing[@]}"; do
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive timeout 600 \
            apt-get install -y -qq --no-install-recommends "$package" >/dev/null </dev/null \
            || say "$package could not be installed"
    done
}

elsewhere='services or slurm or whole_run'
markers=(-m "not ($elsewhere)")
[ $# -gt 0 ] || markers=(-m "not ($elsewhere or slow)")
whole_runs=
# Two files at a time.
parallel=(-n 2 --dist loadfile)
case "${1:-}" in
    --all)
        shift
        whole_runs=yes
        ;;
    --services)
        shift
        markers=(-m 'not whole_run')
        whole_runs=yes
        install_packages chromium "${SLURM[@]}" "${SERVICES[@]}"
        ;;
    --slurm)
        shift
        install_packages "${SLURM[@]}"
        say 'pytest on SLURM'
        exec python -m pytest tests/slurm "${parallel[@]}" "$@"
        ;;
esac

if [ $# -eq 0 ]; then
    say 'ruff'
    ruff check .
    ruff format --check --quiet .
    say 'mypy'
    mypy
fi
say 'pytest'
[ $# -eq 0 ] || exec python -m pytest ${markers[@]+"${markers[@]}"} "$@"
python -m pytest ${markers[@]+"${markers[@]}"} "${parallel[@]}"
[ -n "$whole_runs" ] || exit 0

# A whole run by AiiDA's engine without a daemon: once in some runs it loses sight of a job under load, and waits for ever.
say 'a whole run in one process'
whole_run() { timeout --signal=KILL 900 python -m pytest -m whole_run tests/workflows; }
whole_run || whole_run
