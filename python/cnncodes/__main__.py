"""The program `cnncodes`, as a console script and as `python -m cnncodes`."""

import sys

from . import _cnncodes, _runtime


def main() -> int:
    """Runs the program with the arguments of the command line and returns its exit status."""
    _runtime.announce()
    return _cnncodes.main(sys.argv[1:], [sys.executable, "-m", "cnncodes"])


if __name__ == "__main__":
    sys.exit(main())
