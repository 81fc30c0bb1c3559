"""docs/python.md: its examples run, one after another, in the demo's folder. The notebook runs as well."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_documentation_run(demo, tmp_path, monkeypatch, capsys):
    for module in ("PIL", "pandas", "onnxruntime"):
        pytest.importorskip(module)
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    monkeypatch.chdir(folder)
    text = (PROJECT / "docs" / "python.md").read_text("utf-8")
    blocks = BLOCK.findall(text)
    namespace = {}
    for block in blocks:
        line = text[: text.index(block)].count("\n") + 1
        exec(compile("\n" * (line - 1) + block, "docs/python.md", "exec"), namespace)  # noqa: S102
    printed = capsys.readouterr().out
    assert len(blocks) >= 11
    assert "['sailboat']" in printed
    assert (folder / "why.png").exists() and (folder / "classifier.onnx").exists()
    assert namespace["head"].evaluation.accuracy.value > 0.9
    assert [problem.index for problem in namespace["careful"].problems_] == [1]


def test_the_notebook_runs(demo, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    notebook = nbformat.read(PROJECT / "examples" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), "the notebook is committed without outputs"
    done = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    shown = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("<table" in output.get("data", {}).get("text/html", "") for output in shown)


def test_the_reference_is_current():
    script = PROJECT / "scripts" / "dev" / "python_api.py"
    run = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
