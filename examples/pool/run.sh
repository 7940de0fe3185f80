#!/usr/bin/env bash
# A choice from labelled frames against a random one, from a clean clone to the report that compares them: run.sh [FOLDER].
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
folder="${1:-$(mktemp -d)}"
mkdir -p "$folder"
mlip() { aiida-mlip-al -p mlip-al "$@"; }

aiida-mlip-al setup profile
say "MD with GFN2-xTB, in the place of the frames that you have"
[ -f "$folder/md.xyz" ] || OMP_NUM_THREADS=1 python "$ROOT/examples/pool/md.py" "$folder/md.xyz"
pool="$(mlip dataset import "$folder/md.xyz" --theory GFN2-xTB | tee /dev/stderr | grep -o '[0-9]*$')"
drawn="$(mlip dataset draw "$pool" --frames 10 --test 60 | tee /dev/stderr | grep -A9 '^datasets:')"

launch() { # label, its choice; sets `process`
    cat > "$folder/$1.yaml" <<EOF
label: $1
protocol: quickstart
structures: [$ROOT/examples/ethanol/ethanol.xyz]
labels: {pool: {}}
$drawn
select: $2
stop: {max_iterations: 5, max_labels: null, accurate_fraction: null, target_force_error: null}
EOF
    say "$1: $folder/$1.yaml"
    mlip launch "$folder/$1.yaml" --wait | tee "$folder/$1.log"
    process="$(grep -o -m1 'process [0-9]*' "$folder/$1.log" | grep -o '[0-9]*')"
}

all='levels: {adaptive_lower: {number: 0, fraction: 1}}'
launch random "{$all, diversity: random, max_labels: 10, audit_fraction: 0, duplicate_tolerance: null}"
random="$process"
launch chosen '{tolerance: 0.15, max_labels: 10}'
mlip report "$process" --against "$random" -o "$folder/report.html"
