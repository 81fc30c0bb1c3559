#!/usr/bin/env python3
"""Writes docs/python-api.md from the docstrings of the Python package.

    python_api.py [--check]     --check writes nothing and fails where the page is not current

The package has to be importable: scripts/dev/python-module builds it, and PYTHONPATH=python finds it.
"""

import inspect
import sys
from pathlib import Path

import cnncodes
import cnncodes.ray

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python-api.md"

HEAD = """# Python: reference

<!-- Written by scripts/dev/python_api.py from the docstrings. Change those, and run it again. -->

[python.md](python.md) shows how these are used. Arrays are NumPy's; n is the number of images, d that of features.
"""

# Whatever scikit-learn adds to its estimators is documented there.
INHERITED = {"set_fit_request", "set_score_request", "set_transform_request", "get_metadata_routing", "set_output"}


def text_of(thing: object) -> str:
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "")


class Annotation:
    """An annotation as it stands in the source, without quotes."""

    def __init__(self, text: object) -> None:
        self.text = str(text)

    def __repr__(self) -> str:
        return self.text


def signature_of(thing: object) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    empty = inspect.Parameter.empty
    parameters = [
        parameter if parameter.annotation is empty else parameter.replace(annotation=Annotation(parameter.annotation))
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls")
    ]
    returned = signature.return_annotation
    is_known = returned is not inspect.Signature.empty and not inspect.isclass(thing)
    result = Annotation(returned) if is_known else inspect.Signature.empty
    text = str(signature.replace(parameters=parameters, return_annotation=result))
    if len(text) < 100:
        return text
    # One parameter a line.
    lines = [
        str(inspect.Signature([parameter]))[1:-1]
        for parameter in parameters
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]
    named = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    lines += ["*"] * bool(named) + [str(parameter) for parameter in named]
    return "(\n" + "".join(f"    {line},\n" for line in lines) + ")" + (f" -> {result}" if is_known else "")


def members_of(kind: type) -> list[tuple[str, object]]:
    found = []
    for name, value in vars(kind).items():
        if name.startswith("_") or name in INHERITED:
            continue
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if isinstance(value, property) or inspect.isfunction(value):
            found.append((name, value))
    for base in kind.__mro__[1:]:
        if base.__module__.startswith("cnncodes"):
            known = {name for name, _ in found}
            found += [(name, value) for name, value in members_of(base) if name not in known]
    return found


def block(text: str) -> str:
    return f"```text\n{text}\n```\n" if text else ""


def page() -> str:
    parts = [HEAD]
    things = {name: getattr(cnncodes, name) for name in cnncodes.__all__ if name != "__version__"}
    things |= {f"ray.{name}": getattr(cnncodes.ray, name) for name in cnncodes.ray.__all__}
    for name, thing in sorted(things.items(), key=lambda item: item[0].lower()):
        is_class = inspect.isclass(thing)
        is_error = is_class and issubclass(thing, BaseException)
        kind = "exception " if is_error else "class " if is_class else ""
        parts.append(f"## {kind}{name}\n")
        if not is_error:
            parts.append(f"```python\n{name}{signature_of(thing)}\n```\n")
        parts.append(block(text_of(thing)))
        if not is_class or is_error:
            continue
        for member, value in members_of(thing):
            if isinstance(value, property):
                parts.append(f"### {name}.{member}\n")
                parts.append(block(text_of(value)))
            else:
                parts.append(f"### {name}.{member}()\n")
                parts.append(f"```python\n{member}{signature_of(value)}\n```\n")
                parts.append(block(text_of(value)))
    return "\n".join(part for part in parts if part)


def main() -> int:
    written = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text("utf-8") == written:
            return 0
        print(f"{PAGE} is not what the docstrings say; run scripts/dev/python_api.py", file=sys.stderr)
        return 1
    PAGE.write_text(written, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
