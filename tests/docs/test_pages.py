"""The textbook's pages: their Python runs unchanged on each library and gives what they say."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import _pages
import pytest

DOCS = Path(__file__).parents[2] / "docs"
TEXTBOOK = DOCS / "textbook"
PAGES = sorted(path for path in TEXTBOOK.glob("*.md") if path.name != "index.md")
NAMESPACES = {
    "numpy": "array_api_compat.numpy",
    "torch": "array_api_compat.torch",
    "jax": "jax.numpy",
}
ROW = re.compile(
    r"^\| .* \| \[.*\]\((\w[\w-]*)\.md\) \| `(tests/[\w/]+\.py)::(.*)` \|$", re.MULTILINE
)


@pytest.mark.parametrize("library", NAMESPACES)
@pytest.mark.parametrize("page", [*PAGES, DOCS / "start.md"], ids=lambda path: path.stem)
def test_page(page: Path, library: str) -> None:
    pytest.importorskip(library, reason="the library is not installed")
    xp = importlib.import_module(NAMESPACES[library])
    assert _pages.execute(page, xp) > 0


@pytest.mark.parametrize(
    "page", [DOCS / "index.md", DOCS.parent / "README.md"], ids=lambda path: path.stem
)
def test_first_page(page: Path) -> None:
    assert _pages.execute(page, None) > 0


def test_page_of_split_arrays() -> None:
    pytest.importorskip("jax", reason="the library is not installed")
    assert _pages.execute(DOCS / "scaling-jax.md", None) > 0


def test_page_of_ranks(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the library is not installed")
    script = tmp_path / "page.py"
    script.write_text(
        "import _pages, pathlib, torch\n"
        f"assert _pages.execute(pathlib.Path({str(DOCS / 'scaling-torch.md')!r}), None) == 3\n"
        "torch.distributed.destroy_process_group()\n"
    )
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, "-m", *launch, script],
        env={**os.environ, "PYTHONPATH": str(Path(_pages.__file__).parent)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_page_of_dask() -> None:
    pytest.importorskip("dask")
    assert _pages.execute(DOCS / "scaling-dask.md", None) > 0


@pytest.mark.parametrize("wrong", ["0.25 + 0.0  # 0.26", "4.12e-9 + 0.0  # 4.2e-09", "[1]  # [2]"])
def test_a_wrong_number_is_seen(wrong: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```python\n[1]  # [1]\n{wrong}\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="not"):
        _pages.execute(page, None)


def test_every_section_has_a_page_and_a_test() -> None:
    """The chapter's table names each page once, and this test of it."""
    rows = ROW.findall((TEXTBOOK / "index.md").read_text(encoding="utf-8"))
    assert sorted(name for name, _, _ in rows) == [page.stem for page in PAGES]
    for name, file, test in rows:
        assert DOCS.parent / file == Path(__file__)
        assert test == f"test_page[{name}-numpy]"


def test_every_name_is_in_the_reference() -> None:
    """Each public name stands in one group of the reference, and nothing else does."""
    import xp_xent

    listed = re.findall(r"^   ~xp_xent\.(\w+)$", (DOCS / "api.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(xp_xent.__all__)


def test_every_loss_and_map_has_its_formula() -> None:
    import xp_xent

    stated = [getattr(xp_xent, name) for name in xp_xent.__all__]
    stated = [
        f for f in stated if f.__module__.startswith(("xp_xent.losses", "xp_xent.functions.maps"))
    ]
    assert len(stated) == 17
    assert [f.__name__ for f in stated if ".. math::" not in f.__doc__] == []
