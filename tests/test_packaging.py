"""What a user installs: the wheel's files, its metadata, and the examples run against it."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
# folder of the repository -> folder of the wheel
MAPPING = {
    "xp_xent": "xp_xent",
    "backends": "xp_xent/backends",
    "benchmarks": "xp_xent/benchmarks",
    "conformance": "xp_xent/conformance",
    "integrations": "xp_xent/integrations",
    "verify": "xp_xent/verify",
}
DOCTESTS = """
import doctest
import sys
import xp_xent
import xp_xent.backends
import xp_xent.conformance
import xp_xent.verify

failed, found = 0, set()
for module in (xp_xent, xp_xent.backends, xp_xent.conformance, xp_xent.verify):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
    # No names from the module: an example is something to paste into a new session.
    for case in doctest.DocTestFinder().find(module, module=False, globs={}):
        if "._" not in case.name and case.examples:
            found.add(case.name)
            failed += doctest.DocTestRunner().run(case).failed
missing = {f"xp_xent.{name}" for name in xp_xent.__all__} - found
sys.exit(f"no examples: {missing}" if missing else failed)
"""


def run(*command: str | Path, cwd: Path, **env: str) -> None:
    """Run a program, and show what it said if it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | env,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy: a `build/` left in the tree could bring old files in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in MAPPING:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, cwd=source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_only_the_package_is_at_the_top(contents: set[str]) -> None:
    assert {name.partition("/")[0] for name in contents} == {"xp_xent", "xp_xent-0.1.0.dist-info"}


@pytest.mark.parametrize("pattern", ["**/*.py", "**/*.json", "py.typed"])
def test_every_file_is_at_its_place(pattern: str, contents: set[str]) -> None:
    expected = {
        f"{mapped}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, mapped in MAPPING.items()
        for path in (ROOT / folder).glob(pattern)
    }
    suffix = pattern.rpartition("*")[2]
    assert expected
    assert expected == {name for name in contents if name.endswith(suffix) and "-info/" not in name}


def test_metadata(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(path))
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {line.partition(">")[0] for line in needed}
    assert names == {"numpy", "array-api-compat", "array-api-extra"}
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"


def test_examples_of_the_documentation_run_on_the_wheel(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", target)
    run(*pip, wheel, cwd=elsewhere)
    command = (sys.executable, "-W", "error", "-c", DOCTESTS, target)
    run(*command, cwd=elsewhere, PYTHONPATH=str(target), JAX_ENABLE_COMPILATION_CACHE="0")
