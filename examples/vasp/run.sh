#!/usr/bin/env bash
# With VASP as the label engine: a whole run, or with `aimd.yaml` seeds from ab initio MD. There is no VASP here: a stand-in takes its
# place, see README.md.
export EXTRAS="${EXTRAS:-xtb,vasp}"
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
folder="$ROOT/examples/vasp"
config="$folder/${1:-copper.yaml}"
potcars="$(mktemp -d)"
trap 'rm -rf "$potcars"' EXIT

aiida-mlip-al setup profile
say 'the stand-in as VASP, and POTCARs without potentials'
python "$ROOT/tests/fakes/potcars.py" "$potcars" Cu
aiida-mlip-al -p mlip-al setup codes localhost --no-mpi --vasp "$ROOT/tests/fakes/vasp_standin/vasp_std" \
    --potcars "$potcars" --family STAND-IN
if [ "$config" = "$folder/aimd.yaml" ]; then
    aiida-mlip-al -p mlip-al seed "$config" --label --wait
    aiida-mlip-al -p mlip-al dataset list
else
    aiida-mlip-al -p mlip-al launch --dry-run "$config"
    aiida-mlip-al quickstart --config "$config" --output vasp.html
fi
