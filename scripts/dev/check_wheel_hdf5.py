"""Checks that cnncodes and h5py serve in one process, in the order of import that the argument names: each of them has an HDF5 of
its own, and neither may meet the other's.

usage: check_wheel_hdf5.py cnncodes-first|h5py-first     in a folder that `cnncodes demo` made
"""

import importlib
import os
import sys

import numpy as np

ORDER = {"cnncodes-first": ("cnncodes", "h5py"), "h5py-first": ("h5py", "cnncodes")}[sys.argv[1]]
for module in ORDER:
    importlib.import_module(module)

import h5py
from cnncodes import _cnncodes

FEATURES = "features/demo-vgg-fc7.h5"


def program(*arguments: str) -> None:
    status = _cnncodes.main(list(arguments), [sys.executable, "-m", "cnncodes"])
    assert status == 0, (arguments, status)


with h5py.File(FEATURES) as file:
    first = file["features"][:]
assert first.shape == (240, 160) and np.isfinite(first).all() and first.std() > 0, first.shape

# cnncodes writes while h5py has files open, to read and to write.
numbers = np.random.default_rng(0).normal(size=(300, 40)).astype("float32")
with h5py.File("other.h5", "w") as other, h5py.File(FEATURES) as still_open:
    other.create_dataset("numbers", data=numbers, chunks=(50, 10), compression="gzip", shuffle=True)
    program("extract", "--layer", "fc7", "--output", "again.h5")
    other["text"] = ["ä", "b"]
    assert (still_open["features"][:] == first).all()
with h5py.File("other.h5") as other:
    assert (other["numbers"][:] == numbers).all() and list(other["text"].asstr()) == ["ä", "b"]

# h5py reads what cnncodes wrote, and cnncodes what h5py wrote.
with h5py.File("again.h5") as again, h5py.File("copy.h5", "w") as copy:
    assert (again["features"][:] == first).all()
    for name in again:
        again.copy(name, copy)
    for name, value in again.attrs.items():
        copy.attrs[name] = value
program("fit-head", "copy.h5", "--svm", "--output", "copy.head.h5")
with h5py.File("copy.head.h5") as head:
    assert len(head) > 0

# The errors of each stay its own.
try:
    h5py.File("nowhere.h5")
except FileNotFoundError:
    pass
else:
    sys.exit("h5py opened a file that is not there")
assert _cnncodes.main(["fit-head", "nowhere.h5", "--svm"], []) == 2

for left in ("again.h5", "other.h5", "copy.h5", "copy.head.h5"):
    os.remove(left)
print(f"{' before '.join(ORDER)}: h5py's HDF5 {h5py.version.hdf5_version} and cnncodes' own serve side by side")
