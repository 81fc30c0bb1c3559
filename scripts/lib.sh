# shellcheck shell=bash
# What the scripts share. Source it; it moves to the project's folder.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
project=$PWD
# What belongs to this checkout and is not in git: libraries, tools, settings.
private=$project/.cnncodes

# rustup puts cargo here; a shell that is older than rustup's installation has it not on its path.
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-${HOME:-}/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-${HOME:-}/.cargo}/bin:$PATH"
fi

# How scripts/setup found that this machine builds the program.
use_build_settings() {
    # shellcheck source=/dev/null
    . "$private/build.env"
}

# project_cargo COMMAND ARGUMENT...: cargo with the committed versions and the features that this machine needs.
project_cargo() {
    local command=$1
    shift
    cargo "$command" --locked ${CNNCODES_CARGO_FEATURES:+--features "$CNNCODES_CARGO_FEATURES"} "$@"
}

step() {
    printf '\n==> %s\n' "$*"
}
