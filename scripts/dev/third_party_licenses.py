"""Writes the licences of all that is linked into the wheel and the program: the crates, the C libraries inside them, the standard
library of Rust, the plotting library of the reports.

usage: third_party_licenses.py OUTPUT FEATURES [NAME=FOLDER ...]

FEATURES are cargo's for python/Cargo.toml, in one word. NAME=FOLDER adds the licence files of another thing that is linked in.
Texts that several packages share stand once. A package without a licence file gets the usual text of its licence with its authors;
one whose licence this script does not know is an error.
"""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TARGET = "x86_64-unknown-linux-gnu"
LICENCE_NAMES = ("licence", "license", "copying", "copyright", "notice", "unlicense", "patents")
# What a package brings for its own tests and documentation is not linked.
NOT_LINKED = {"benches", "docs", "examples", "tests"}
# The licence that a package offers beside the one that is used here: zstd is under BSD-3-Clause or GPL-2.0.
NOT_CHOSEN = {("zstd-sys", "zstd/COPYING")}

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished
to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""

BSD_3 = """Redistribution and use in source and binary forms, with or without modification, are permitted provided that the following
conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following disclaimer in
the documentation and/or other materials provided with the distribution.

3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products derived
from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT
LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE
COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES
(INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION)
HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE)
ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE."""


def linked_packages(features: str) -> list[dict]:
    """The packages that the extension module is linked from: no build scripts, no packages of tests, none of this project."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    command += ["--manifest-path", str(PROJECT / "python/Cargo.toml"), "--features", features]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting, found = [metadata["resolve"]["root"]], set()
    while waiting:
        package = waiting.pop()
        if package in found or any("proc-macro" in target["kind"] for target in packages[package]["targets"]):
            continue
        found.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    third_party = [packages[package] for package in found if packages[package]["source"] is not None]
    return sorted(third_party, key=lambda package: (package["name"], package["version"]))


def licence_files(folder: Path) -> list[Path]:
    """The licence files in `folder` and below, those of its sources in C included."""
    found = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        named = path.name.lower().startswith(LICENCE_NAMES) and path.suffix.lower() not in (".rs", ".html", ".c", ".h", ".py")
        if named and path.is_file() and not NOT_LINKED.intersection(below.parts[:-1]):
            found.append(path)
    return found


def usual_text(package: dict) -> str:
    """The text of the licence of a package that brings no file of it."""
    authors = [re.sub(r"\s*<.*>", "", author) for author in package["authors"]]
    holder = f"Copyright (c) {', '.join(authors) or 'the authors of ' + package['name']}"
    choices = re.split(r"\s*/\s*|\s+OR\s+", package["license"] or "")
    if "MIT" in choices:
        return f"{holder}\n\n{MIT}"
    if "Apache-2.0" in choices:
        return (PROJECT / "LICENSE-APACHE").read_text()
    if "BSD-3-Clause" in choices:
        return f"{holder}\n\n{BSD_3}"
    sys.exit(f"{package['name']} {package['version']}: no licence file, and {package['license']} has no text in {__file__}")


def main() -> None:
    output, features, *others = sys.argv[1:]
    # The words of a licence -> its text and what is under it. Some copies of a text differ in their line breaks alone.
    parts: dict[str, tuple[str, list[str]]] = {}

    def add(name: str, text: str) -> None:
        lines = "\n".join(line.rstrip() for line in text.replace("\f", "").splitlines()).strip("\n")
        parts.setdefault(" ".join(lines.split()), (lines, []))[1].append(name)

    overview = []
    for package in linked_packages(features):
        folder = Path(package["manifest_path"]).parent
        name = f"{package['name']} {package['version']}"
        overview.append(f"{name}: {package['license'] or 'see its text'}; {package['repository'] or 'https://crates.io'}")
        files = [path for path in licence_files(folder) if (package["name"], str(path.relative_to(folder))) not in NOT_CHOSEN]
        for path in files:
            add(name if path.parent == folder else f"{name}, {path.relative_to(folder).parent}", path.read_text(errors="replace"))
        if not files:
            add(name, usual_text(package))

    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    rust = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    overview.append(f"the standard library of {rust}: MIT OR Apache-2.0; https://github.com/rust-lang/rust")
    notices = Path(sysroot) / "share/doc/rust/COPYRIGHT-library.html"
    if notices.is_file():
        page = re.sub(r"(?s)<style.*?</style>|<[^>]+>", "", notices.read_text(errors="replace"))
        add("the standard library of Rust", html.unescape(re.sub(r"\n\s*\n+", "\n\n", page)))
    else:
        add("the standard library of Rust", f"Copyright (c) The Rust Project Developers\n\n{MIT}")

    plot = (PROJECT / "src/report/vendor/plot.min.js").read_text()
    overview.append("Observable Plot and its packages, in the reports: ISC and others; https://observablehq.com/plot")
    add("Observable Plot, in the reports", plot[plot.index("/*") + 2 : plot.index("*/")])
    overview.append("the definition of ONNX's messages: Apache-2.0; https://github.com/onnx/onnx")
    add("the definition of ONNX's messages", (PROJECT / "LICENSE-APACHE").read_text())

    for other in others:
        name, folder = other.split("=", 1)
        files = licence_files(Path(folder))
        if not files:
            sys.exit(f"{folder}: no licence file of {name}")
        overview.append(f"{name}: see its text")
        for path in files:
            add(name, path.read_text(errors="replace"))

    with open(output, "w", encoding="utf-8") as file:
        file.write("cnncodes contains the software below. Its own licences are MIT and Apache-2.0, at your choice.\n\n")
        file.writelines(f"- {line}\n" for line in overview)
        rule = "=" * 100
        file.writelines(f"\n{rule}\n{', '.join(dict.fromkeys(names))}\n{rule}\n\n{text}\n" for text, names in parts.values())
    print(f"{output}: {len(overview)} packages, {len(parts)} texts")


main()
