# Sourced by the examples of seeding: shows what the pure steps make, then runs all chains and labels every frame.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

run_seeds() {
    local folder="$1"
    aiida-mlip-al setup profile
    say 'preview: what the steps make that need no job'
    aiida-mlip-al -p mlip-al seed "$folder/seeds.yaml" --preview "$folder/preview.xyz"
    say 'the whole chains, labelled'
    aiida-mlip-al -p mlip-al seed "$folder/seeds.yaml" --label --wait
    say 'all datasets; `aiida-mlip-al dataset export PK` writes one as extended XYZ'
    aiida-mlip-al -p mlip-al dataset list
}
