"""What `import xp_xent` brings in, and whether its names are the documented ones."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xp_xent

PUBLIC = """
    cross_entropy nll_loss linear_cross_entropy next_token_cross_entropy softmax_focal_loss
    poly_cross_entropy binary_cross_entropy_with_logits binary_cross_entropy sigmoid_focal_loss
    kl_divergence jensen_shannon_divergence entropy
    softmax log_softmax logsumexp sigmoid log_sigmoid
    perplexity bits_per_byte LossAccumulator
    balanced_class_weights effective_number_weights positive_class_weight
    value_and_grad hvp hessian_diagonal hessian value_grad_and_hessian_diagonal split threads
    CrossEntropyLoss BCEWithLogitsLoss
    diagnose Finding LossStats
""".split()

OPTIONAL = """
    torch jax cupy dpnp mlx dask array_api_strict scipy sklearn ml_dtypes optax rich typer pytest
    ndonnx onnx onnxruntime
""".split()

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "xp_xent"
SOURCES = sorted(
    path
    for folder in ("xp_xent", "backends", "benchmarks", "conformance", "integrations", "verify")
    for path in (ROOT / folder).rglob("*.py")
)


def optional_imports(program: str, folder: Path) -> set[str]:
    """Run a program in a fresh interpreter; give the optional packages that it imported."""
    listing = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run(
        # From an empty folder: in the root, xp_xent/ would shadow the installed package.
        [sys.executable, "-W", "error", "-c", f"{program}\n{listing}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split()) & set(OPTIONAL)


def test_numpy_needs_no_optional_package(tmp_path: Path) -> None:
    program = """
import numpy as np
import xp_xent

logits, labels = np.array([[20.0, 0.0, 0.0]], dtype=np.float32), np.array([0])
xp_xent.cross_entropy(logits, labels)
xp_xent.value_and_grad(xp_xent.cross_entropy)(logits, labels)
"""
    assert optional_imports(program, tmp_path) == set()


@pytest.mark.parametrize("package", OPTIONAL)
def test_the_check_sees_an_optional_package(package: str, tmp_path: Path) -> None:
    """The test above can fail: a core that imports one of these, even indirectly, is found."""
    (tmp_path / f"{package}.py").touch()
    core = tmp_path / "leaky"
    core.mkdir()
    (core / "__init__.py").write_text("from leaky import _kernel\n")
    (core / "_kernel.py").write_text(f"import {package}\n")
    assert optional_imports("import leaky", tmp_path) == {package}


def test_public_names() -> None:
    assert xp_xent.__all__ == sorted(PUBLIC)


def names_of(source: Path) -> tuple[set[str] | None, set[str]]:
    """Read a module's `__all__`, and the names without underscore that it defines or re-exports."""
    declared = None
    names: set[str] = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name("__all__")], value=ast.List(elts=elements)):
                listed = [ast.literal_eval(element) for element in elements]
                declared = set(listed)
                assert listed == sorted(declared), "sorted, and each name once"
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
                names.add(name)
            case ast.ImportFrom() if source.name == "__init__.py":
                names |= reexports(node)
    return declared, {name for name in names if not name.startswith("_")}


def reexports(node: ast.stmt, module: str = "xp_xent") -> set[str]:
    """Give the names that a statement imports from a package or module of this project."""
    if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{module}."):
        return {alias.asname or alias.name for alias in node.names}
    return set()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_all_is_exact(source: Path) -> None:
    """A package lists all that it offers; a private module, what its package takes from it."""
    declared, names = names_of(source)
    if source.name == "__init__.py":
        assert (declared or set()) == names
    elif declared is not None and (source.name[0] == "_" or source.is_relative_to(LIBRARY)):
        library = source.is_relative_to(LIBRARY)
        package = LIBRARY if library else source.parent
        dotted = ".".join(source.relative_to(package).with_suffix("").parts)
        dotted = f"xp_xent.{dotted}" if library else f"xp_xent.{package.name}.{dotted}"
        body = ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body
        assert declared == set().union(*(reexports(node, dotted) for node in body))
    elif declared is not None:
        # A long module is cut in files of its name, torch in torch_modules; it offers them all.
        parts = f"xp_xent.{source.parent.name}.{source.stem}_"
        body = ast.parse(source.read_text(encoding="utf-8")).body
        own = [x for x in body if isinstance(x, ast.ImportFrom)]
        taken = {a.name for x in own if f"{x.module}".startswith(parts) for a in x.names}
        assert declared == names | taken


def sections_of(docstring: str) -> dict[str, str]:
    """Cut a numpydoc docstring at its underlined headings."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", docstring, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_docstring_is_complete(name: str) -> None:
    public = getattr(xp_xent, name)
    sections = sections_of(inspect.getdoc(public) or "")
    signature = inspect.signature(public)
    wanted = {"Parameters"} if signature.parameters else set()
    wanted |= {"Examples"} if inspect.isclass(public) else {"Returns", "Examples"}
    assert wanted <= set(sections)
    assert ">>>" in sections["Examples"]
    heads = re.findall(r"^(\S.*?)(?: : .*)?$", sections.get("Parameters", ""), re.MULTILINE)
    documented = [name.strip("*") for head in heads for name in head.split(", ")]
    assert sorted(documented) == sorted(signature.parameters)
