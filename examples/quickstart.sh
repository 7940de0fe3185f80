#!/usr/bin/env bash
# From a fresh clone to a committee of potentials: installs, then runs active learning of ethanol and opens its report to you.
# Arguments go on to `aiida-mlip-al quickstart`. PYTHON=… and VENV=… choose the interpreter and the environment.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
say 'running: aiida-mlip-al quickstart'
exec aiida-mlip-al quickstart --config "$ROOT/examples/ethanol/quickstart.yaml" "$@"
