"""What the tests share: the demo folder with its network, photos and features."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cnncodes


def _run(*arguments: str, folder: Path) -> str:
    """Runs the program in a folder and returns what it prints."""
    # PYTHONPATH may be relative to another folder.
    environment = {**os.environ, "PYTHONPATH": str(Path(cnncodes.__file__).parents[1])}
    command = [sys.executable, "-m", "cnncodes", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    """Runs the program: `run("layers", "demo-vgg", folder=demo)`."""
    return _run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `cnncodes demo` makes: models/, data/, features/ of the demo network."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    _run("demo", "--dir", str(folder), folder=folder.parent)
    return folder
