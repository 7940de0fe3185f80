#!/usr/bin/env bash
# A whole run with VASP as the label engine. There is no VASP here: a stand-in takes its place, which reads and writes VASP's files
# and computes with a toy potential (EMT). With a real VASP: your own code and POTCAR family, see README.md beside this.
export EXTRAS="${EXTRAS:-xtb,vasp}"
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
folder="$ROOT/examples/vasp"
potcars="$(mktemp -d)"
trap 'rm -rf "$potcars"' EXIT

aiida-mlip-al setup profile
say 'the stand-in as VASP, and POTCARs without potentials'
python "$ROOT/tests/fakes/potcars.py" "$potcars" Cu
aiida-mlip-al -p mlip-al setup codes localhost --vasp "$ROOT/tests/fakes/vasp_standin/vasp_std" --no-mpi --potcars "$potcars" --family STAND-IN
say 'what would be done'
aiida-mlip-al -p mlip-al launch --dry-run "$folder/copper.yaml"
say 'the run'
aiida-mlip-al quickstart --config "$folder/copper.yaml" --output vasp.html
