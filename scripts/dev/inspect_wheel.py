"""Checks the promises of a wheel that can be read from the file: its size, the policy that auditwheel gives it, the libraries it
wants from the system, the one symbol that it exports, and its licences.

usage: inspect_wheel.py WHEEL POLICY

A second HDF5 in the process, such as h5py's, must not meet this one's symbols: the dynamic loader would mix them.
"""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

MAX_SIZE = 25_000_000
LICENCES = {"LICENSE-MIT", "LICENSE-APACHE", "THIRD-PARTY-LICENSES.txt"}


def main() -> None:
    wheel, policy = Path(sys.argv[1]), sys.argv[2]
    wrong = []

    size = wheel.stat().st_size
    print(f"{wheel.name}: {size / 1e6:.1f} MB")
    if size > MAX_SIZE:
        wrong.append(f"it has {size} bytes, more than {MAX_SIZE}")

    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(shown.stdout.strip())
    words = " ".join(shown.stdout.split())
    if f'is consistent with the following platform tag: "{policy}_' not in words:
        wrong.append(f"auditwheel does not give it {policy}")
    if "external shared libraries" in words and "requires no external shared libraries" not in words:
        wrong.append("it wants libraries that not every system has")

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (library,) = (name for name in names if name.endswith(".so"))
        elf = ELFFile(io.BytesIO(archive.read(library)))
    symbols = elf.get_section_by_name(".dynsym").iter_symbols()
    exported = [symbol.name for symbol in symbols if symbol["st_shndx"] != "SHN_UNDEF" and symbol.name]
    wanted = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    print(f"{library}: exports {' '.join(exported)}; wants {' '.join(wanted)}")
    if exported != ["PyInit__cnncodes"]:
        wrong.append(f"{library} exports more than PyInit__cnncodes")

    found = {name.rsplit("/", 1)[1] for name in names if ".dist-info/licenses/" in name}
    if not LICENCES <= found:
        wrong.append(f"it lacks the licences {', '.join(sorted(LICENCES - found))}")

    for text in wrong:
        print(f"{wheel}: {text}", file=sys.stderr)
    sys.exit(bool(wrong))


main()
