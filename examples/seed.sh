# Sourced by the examples of seeding: shows what the pure steps make, then runs all chains and labels every frame.
#   run_seeds FOLDER [CONFIG]    CONFIG is seeds.yaml if it is left out
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

run_seeds() {
    local folder="$1" config="$1/${2:-seeds.yaml}"
    aiida-mlip-al setup profile
    say 'preview: what the steps make that need no job'
    aiida-mlip-al -p mlip-al seed "$config" --preview "$folder/preview.xyz"
    say 'the whole chains, labelled'
    aiida-mlip-al -p mlip-al seed "$config" --label --wait
    say 'all datasets; `aiida-mlip-al dataset export PK` writes one as extended XYZ'
    aiida-mlip-al -p mlip-al dataset list
}
