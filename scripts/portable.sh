# shellcheck shell=bash
# The build that runs on any Linux of the last years, which scripts/wheel and scripts/release share: zig compiles the C parts and
# links against an old C library, and HDF5 is linked statically. Source it after scripts/lib.sh.

portable_features='avif jxl parquet object-store serve hdf5-static man-pages'
# The policy of the wheel: glibc 2.28, of Debian 10, Ubuntu 18.10 and RHEL 8. ONNX Runtime's own wheels need the same.
portable_policy=manylinux_2_28
portable_target=x86_64-unknown-linux-gnu

# project_version: that of Cargo.toml.
project_version() {
    sed -n '/^\[package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' Cargo.toml
}

# set_up_portable_build: the pinned tools in .cnncodes/wheel. Sets `tools_python` and `tools_site`.
set_up_portable_build() {
    local place=$private/wheel missing=() found
    if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
        echo "$0: only Linux on x86-64 is built for" >&2
        return 1
    fi
    # Without nasm, mozjpeg leaves its SIMD code out and says nothing.
    for found in cargo cc make nasm python3; do
        command -v "$found" >/dev/null || missing+=("$found")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        echo "$0: this machine lacks ${missing[*]}; scripts/setup helps with Rust, the C compiler and nasm" >&2
        return 1
    fi
    if ! cat scripts/requirements/wheel.txt scripts/requirements/cmake.txt | cmp -s - "$place/installed.txt"; then
        step "installing maturin, zig, auditwheel and CMake into .cnncodes/wheel (once)"
        rm -rf "$place"
        # Debian keeps venv's own pip in a package of its own, so the environment is filled from outside.
        python3 -m venv --without-pip "$place"
        PIP_REQUIRE_VIRTUALENV=0 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
            python3 -m pip install --quiet --no-deps --only-binary=:all: --require-hashes \
            -r scripts/requirements/wheel.txt -r scripts/requirements/cmake.txt \
            --target "$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
        cat scripts/requirements/wheel.txt scripts/requirements/cmake.txt >"$place/installed.txt"
    fi
    tools_python=$place/bin/python
    tools_site=$("$tools_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
}

# portable_build ARGUMENT...: `maturin build` with zig. Both the wheel and the program come from it: cargo compiles anew whatever
# is linked by a linker of another name.
portable_build() {
    # A user's HDF5 would be taken instead of the static one.
    env -u HDF5_DIR CMAKE="$tools_site/cmake/data/bin/cmake" PATH="$private/wheel/bin:$tools_site/bin:$PATH" \
        maturin build --zig --release --locked --strip --target "$portable_target" --compatibility "$portable_policy" \
        --features "$portable_features" "$@" || return
    local mozjpeg
    mozjpeg=$(ls -t "target/$portable_target/release/build/"mozjpeg-sys-*/out/libmozjpeg*.a | head -n 1)
    if ! grep -q jsimd_idct_islow_avx2 "$mozjpeg"; then
        echo "$0: $mozjpeg has no SIMD code; is $(command -v nasm) a working nasm?" >&2
        return 1
    fi
}

# write_third_party_licences FILE: the licences of all that the portable build links.
write_third_party_licences() {
    python3 scripts/dev/third_party_licenses.py "$1" "$portable_features" "LLVM's libunwind=$tools_site/ziglang/lib/libunwind"
}
