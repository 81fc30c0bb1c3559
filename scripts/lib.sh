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

# built bin|bench NAME: builds one program of the project for speed, and prints its path.
built() {
    project_cargo build --release "--$1" "$2" --message-format=json-render-diagnostics |
        sed -n "s|.*\"executable\":\"\([^\"]*/$2\(-[0-9a-f]*\)\{0,1\}\)\".*|\1|p" | tail -n 1
}

step() {
    printf '\n==> %s\n' "$*"
}

# framework_python torchvision|keras: the Python that has the framework, installed from PyPI on the first call.
framework_python() {
    local place=$private/export-$1 requirements=scripts/export/requirements-$1.txt
    if ! cmp -s "$requirements" "$place/installed.txt"; then
        local python='' candidate
        for candidate in python3.11 python3.12 python3.13 python3; do
            if "$candidate" -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
                python=$candidate
                break
            fi
        done
        if [ -z "$python" ]; then
            echo "$0: Python 3.11, 3.12 or 3.13 with pip is needed" >&2
            return 1
        fi
        step "installing $1 into .cnncodes/export-$1 (once)" >&2
        rm -rf "$place"
        # Debian keeps venv's own pip in a package of its own, so the environment is filled from outside.
        "$python" -m venv --without-pip "$place"
        PIP_REQUIRE_VIRTUALENV=0 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
            "$python" -m pip install --quiet --only-binary=:all: -r "$requirements" \
            --target "$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >&2 || return
        cp "$requirements" "$place/installed.txt"
    fi
    echo "$place/bin/python"
}

# find_chromium: the browser that looks at the reports and at the page.
find_chromium() {
    if [ -n "${CNNCODES_CHROMIUM:-}" ]; then
        echo "$CNNCODES_CHROMIUM"
        return
    fi
    local candidate
    for candidate in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$candidate" && return
    done
    candidate="/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    [ -x "$candidate" ] && echo "$candidate"
}

# prepare_browser WHAT: sets chromium and modules (the packages of tests/browser) for a test in a browser. Without a browser
# or Node the script says SKIPPED and ends well, unless CNNCODES_BROWSER_TESTS=required.
prepare_browser() {
    local what=$1
    skip_browser() {
        echo "SKIPPED: $what in a browser: $1" >&2
        [ "${CNNCODES_BROWSER_TESTS:-}" != required ]
        exit
    }
    chromium=$(find_chromium) || skip_browser "there is no Chromium or Chrome (CNNCODES_CHROMIUM may name one)"
    { command -v node && command -v npm; } >/dev/null || skip_browser "there is no Node with npm"
    # shellcheck disable=SC2034
    modules=$private/browser
    if ! cmp -s tests/browser/package-lock.json "$modules/installed.json"; then
        step "fetching the packages of the browser tests from npm (once)"
        mkdir -p "$modules"
        cp tests/browser/package.json tests/browser/package-lock.json "$modules"
        npm ci --prefix "$modules" --ignore-scripts --no-audit --no-fund --silent || skip_browser "npm did not give the packages"
        cp tests/browser/package-lock.json "$modules/installed.json"
    fi
}

# heads_python: the Python that has scikit-learn and LIBLINEAR, installed from PyPI on the first call.
heads_python() {
    local place=$private/bench-heads requirements=scripts/bench/requirements-heads.txt
    if ! cmp -s "$requirements" "$place/installed.txt"; then
        step "installing scikit-learn and LIBLINEAR into .cnncodes/bench-heads (once)" >&2
        rm -rf "$place"
        python3 -m venv --without-pip "$place"
        # Debian keeps venv's own pip in a package of its own, so the environment is filled from outside.
        PIP_REQUIRE_VIRTUALENV=0 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
            python3 -m pip install --quiet -r "$requirements" \
            --target "$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >&2 || return
        cp "$requirements" "$place/installed.txt"
    fi
    echo "$place/bin/python"
}

# bench_extract_python: the Python with the programs that scripts/bench/extract compares, installed from PyPI on the first
# call.
bench_extract_python() {
    local place=$private/bench-extract requirements=scripts/bench/requirements-extract.txt install
    if ! cmp -s "$requirements" "$place/installed.txt"; then
        step "installing the programs to compare with into .cnncodes/bench-extract (once)" >&2
        rm -rf "$place"
        python3 -m venv --without-pip "$place"
        # Debian keeps venv's own pip in a package of its own, so the environment is filled from outside.
        install=(env PIP_REQUIRE_VIRTUALENV=0 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
            python3 -m pip install --quiet
            --target "$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')")
        "${install[@]}" --only-binary=:all: -r "$requirements" >&2 || return
        # It pins many packages that are not needed here.
        "${install[@]}" --no-deps thingsvision==2.7.3 >&2 || return
        cp "$requirements" "$place/installed.txt"
    fi
    echo "$place/bin/python"
}
