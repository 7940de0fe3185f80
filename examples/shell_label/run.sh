#!/usr/bin/env bash
# The whole example, from a clean clone to a labelled dataset. `run.sh espresso.yaml` labels with pw.x instead, if it is installed.
source "$(dirname "${BASH_SOURCE[0]}")/../seed.sh"
run_seeds "$(dirname "${BASH_SOURCE[0]}")" "${1:-seeds.yaml}"
