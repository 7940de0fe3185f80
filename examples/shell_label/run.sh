#!/usr/bin/env bash
# The whole example, from a clean clone to a labelled dataset: by pw.x if Debian's is installed, else by a plain script.
# `run.sh seeds.yaml` and `run.sh espresso.yaml` choose.
source "$(dirname "${BASH_SOURCE[0]}")/../seed.sh"
config=seeds.yaml
if command -v pw.x >/dev/null && [ -f /usr/share/espresso/pseudo/Si.pz-vbc.UPF ]; then
    config=espresso.yaml
fi
run_seeds "$(dirname "${BASH_SOURCE[0]}")" "${1:-$config}"
