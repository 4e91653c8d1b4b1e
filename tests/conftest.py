"""Every test that asks for `backend` runs on each installed library; `dtype` adds its floats."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# They are read when their library is imported, so they come first.
os.environ.setdefault("JAX_ENABLE_X64", "1")
# Two devices to split a batch over; nothing else uses the second.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
_INTEL_OPENCL = Path(sys.prefix) / "lib" / "libintelocl.so"
if _INTEL_OPENCL.exists():
    os.environ.setdefault("OCL_ICD_FILENAMES", str(_INTEL_OPENCL))

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from xp_xent import backends  # noqa: E402

hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, database=None, print_blob=True
)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "deterministic"))

INSTALLED = backends.installed()

if "array_api_strict" in INSTALLED:
    import array_api_strict

    # The least that the standard promises: what runs here runs anywhere.
    array_api_strict.set_array_api_strict_flags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )


@pytest.fixture(autouse=True, scope="module")
def forget_compiled() -> Iterator[None]:
    """Free what JAX compiled for a module's shapes: 80 MB a shape, gigabytes over the suite."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that asks for the second tier."""
    parser.addoption("--full", action="store_true", help="also run what is marked full: the rest")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the second tier unless it is asked for."""
    if config.getoption("--full"):
        return
    later = [item for item in items if item.get_closest_marker("full")]
    if later:
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over the libraries, or over the pairs of library and dtype that exist."""
    wanted = metafunc.fixturenames
    if "backend" not in wanted:
        return
    found = [backends.get(name) for name in INSTALLED]
    if "dtype" not in wanted:
        metafunc.parametrize("backend", found, ids=[b.name for b in found])
        return
    pairs = [(b, dtype) for b in found for dtype in b.float_dtypes()]
    ids = [f"{b.name}-{dtype}" for b, dtype in pairs]
    metafunc.parametrize(("backend", "dtype"), pairs, ids=ids)
