"""What the tests share: the demo folder with its network, photos and features."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def _run(*arguments: str, folder: Path) -> str:
    """Runs the program in a folder and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cnncodes", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
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
