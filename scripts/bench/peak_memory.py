"""The peak memory of a program, for the benchmarks."""

import subprocess
import sys

# A child counts what its parent was, so a process that is small itself starts the program and asks.
ASK = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);" \
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, file=sys.stderr)"


def run(command, cwd=None):
    """Runs a program; what it printed, and its peak memory in MiB. Ends with its last words where it failed."""
    command = [str(part) for part in command]
    done = subprocess.run([sys.executable, "-S", "-c", ASK, *command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr}")
    return done.stdout, float(done.stderr.splitlines()[-1])
