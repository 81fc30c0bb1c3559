"""What the tests at scale share: drawn images, the program as a command, and the code of docs/scale.md.

scripts/dev/test-scale runs them in a Python that has Ray, Spark and Daft.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cnncodes

PROJECT = Path(__file__).parents[3]
CODE = re.compile(r"^```(python|console|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session", autouse=True)
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as the command `cnncodes` on PATH: that of the module, or the one that CNNCODES_PROGRAM names."""
    place = tmp_path_factory.mktemp("bin") / "cnncodes"
    package = Path(cnncodes.__file__).parents[1]
    command = os.environ.get("CNNCODES_PROGRAM") or f"{sys.executable} -m cnncodes"
    place.write_text(f'#!/bin/sh\nexport PYTHONPATH="{package}"\nexec {command} "$@"\n')
    place.chmod(0o755)
    os.environ["PATH"] = f"{place.parent}{os.pathsep}{os.environ['PATH']}"
    # Workers of Ray, Spark and Daft find the module by it.
    os.environ["PYTHONPATH"] = str(package)
    return place


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes minutes; left out by scripts/dev/test-scale --quick")


def draw(folder: Path, count: int, shards: int = 0, size: tuple[int, int] = (80, 60)) -> Path:
    """Drawn images, as files in a folder for each class, or as tar shards."""
    command = [sys.executable, PROJECT / "scripts" / "dev" / "draw_images.py", folder, count]
    command += ["--shards", shards, "--size", *size]
    subprocess.run([str(word) for word in command], check=True)
    return folder


@pytest.fixture(scope="session")
def documented() -> Callable[[str, str], list[str]]:
    """The blocks of code of a language below a heading of docs/scale.md."""
    text = (PROJECT / "docs" / "scale.md").read_text("utf-8")

    def blocks(heading: str, language: str) -> list[str]:
        section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, f"docs/scale.md has no heading {heading}"
        return [code for kind, code in CODE.findall(section[1]) if kind == language]

    return blocks
