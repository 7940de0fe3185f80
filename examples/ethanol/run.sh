#!/usr/bin/env bash
# Ethanol with the `fast` protocol, from a clean clone to the report. `run.sh quickstart.yaml` runs the shorter one.
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
here="$ROOT/examples/ethanol"
exec aiida-mlip-al quickstart --config "$here/${1:-fast.yaml}" --output "$here/report.html"
