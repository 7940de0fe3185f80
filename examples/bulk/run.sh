#!/usr/bin/env bash
# The whole example, from a clean clone to a labelled dataset.
source "$(dirname "${BASH_SOURCE[0]}")/../seed.sh"
run_seeds "$(dirname "${BASH_SOURCE[0]}")"
