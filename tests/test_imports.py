"""Folders import each other in one direction only; heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ossicle

PACKAGE = Path(ossicle.__file__).parent
MAY_IMPORT = {
    "kernels": {"_core"},
    "runtime": {"_core", "kernels"},
    "export": {"_core", "kernels", "runtime"},
    "streaming": {"_core", "kernels", "runtime"},
}
HEAVY = {
    "torch": {"kernels", "export", "runtime/backend/torch.py", "runtime/backend/torchgraph.py"},
    "triton": {"kernels"},
    "numba": {"kernels"},
    "onnxruntime": {
        "runtime/backend/ort.py",
        "runtime/conformance/trial.py",
        "kernels/bench/opponents.py",
        "export",
    },
    "tensorrt": {"runtime/backend/tensorrt.py", "export"},
    "onnx": {"export"},
    "onnxscript": {"export"},
    "grpc": {"streaming"},
    "google": {"streaming", "export/triton_repo.py"},
    "sounddevice": {"streaming"},
    "starlette": {"streaming"},
    "uvicorn": {"streaming"},
}


def imported_by(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def sources(folder: str) -> list[Path]:
    found = sorted((PACKAGE / folder).rglob("*.py"))
    assert found, folder
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    for source in sources(folder):
        parts = [name.split(".") for name in imported_by(source) if name.startswith("ossicle.")]
        upward = {p[1] for p in parts} & {*MAY_IMPORT, "_core"} - MAY_IMPORT[folder] - {folder}
        assert not upward, f"{source.relative_to(PACKAGE)} reaches into {sorted(upward)}"


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_stay_where_they_belong(library: str) -> None:
    for folder in MAY_IMPORT:
        for source in sources(folder):
            place = source.relative_to(PACKAGE).as_posix()
            if any(place == home or place.startswith(f"{home}/") for home in HEAVY[library]):
                continue
            used = {name.split(".")[0] for name in imported_by(source)}
            assert library not in used, f"{place} imports {library}"


@pytest.mark.parametrize("module", ["ossicle", "ossicle.runtime", "ossicle.runtime.engine"])
def test_the_runtime_comes_without_heavy_libraries(module: str) -> None:
    heavy = sorted(HEAVY.keys() - {"google"} | {"soundfile", "rich", "typer", "scipy"})
    program = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had() -> None:
    for name in ossicle.__all__:
        assert getattr(ossicle, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ossicle.nonsense
