"""Every test that asks for `backend` runs on each installed library; `dtype` adds its floats."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# They are read when their library is imported, so they come first.
os.environ.setdefault("JAX_ENABLE_X64", "1")
# A pool of compiling processes would import PyTorch in each, beside tests that run side by side.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# Two devices to split a batch over; nothing else uses the second.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
_INTEL_OPENCL = Path(sys.prefix) / "lib" / "libintelocl.so"
if _INTEL_OPENCL.exists():
    os.environ.setdefault("OCL_ICD_FILENAMES", str(_INTEL_OPENCL))

# What compilers make is kept between runs, in one folder of the user's; "off" keeps nothing. It is
# found by the program's text, the library's version and its flags, so a change makes it anew.
_CACHE = os.environ.get("XP_XENT_TEST_CACHE") or str(Path.home() / ".cache" / "xp_xent-tests")
if _CACHE == "off":  # a folder of this run, which its processes share
    os.environ["XP_XENT_TEST_CACHE"] = _CACHE = tempfile.mkdtemp(prefix="xp_xent-tests-")
    atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(_CACHE) / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(_CACHE) / "inductor"))

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

if "mlx" in INSTALLED:
    import mlx.core

    mlx.core.set_default_device(mlx.core.cpu)  # Apple's GPUs have no float64


@pytest.fixture(autouse=True, scope="module")
def forget_compiled() -> Iterator[None]:
    """Free what JAX compiled for a module's shapes: gigabytes over the suite; the cache has it."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture
def own_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give MLX's compiler a folder of this process: it reads what another has half written."""
    folder = Path(_CACHE) / "mlx" / os.environ.get("PYTEST_XDIST_WORKER", "alone")
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(folder))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Give PyTorch one thread: more wait for each other, many times as long, on cores in use."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that asks for the second tier."""
    parser.addoption("--full", action="store_true", help="also run what is marked full: the rest")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Give each process a row of files, so that it compiles what they share once."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the second tier unless it is asked for."""
    if config.getoption("--full"):
        return
    later = [item for item in items if item.get_closest_marker("full")]
    if later:
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make, and less often; not among all the libraries."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


# The beginnings of reasons for which a test may be skipped anywhere. A skip for another reason
# fails the run where CI is set, as .ci/run does: there, what the tests need is installed.
EXPECTED_SKIPS = {
    "could not import 'cupy'": "it needs an NVIDIA GPU; its kernels are compiled for the CPU",
    "could not import 'mlx": "there are wheels for Linux and for Macs with Apple's processors",
    "PyTorch compares no uint32": "so such labels are refused",
    "two ranks show it": "four are started for what two cannot show",
    "numpy is the other library here": "a test of NumPy arrays among another library's",
    "this device has no half precision": "dpnp's CPU and array-api-strict have none",
}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run, where CI is set, for a skip that is not expected."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or hasattr(session.config, "workerinput") or terminal is None:
        return
    reasons = {report.longrepr[2] for report in terminal.stats.get("skipped", ())}
    known = tuple(f"Skipped: {start}" for start in EXPECTED_SKIPS)
    if unexpected := sorted(reason for reason in reasons if not reason.startswith(known)):
        terminal.section("unexpected skips: tests/conftest.py lists those that are expected")
        terminal.write_line("\n".join(unexpected))
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over the libraries, or over the pairs of library and dtype that exist."""
    wanted = metafunc.fixturenames
    if "backend" not in wanted:
        return
    found = [backends.get(name) for name in INSTALLED]
    if "dtype" not in wanted:
        metafunc.parametrize("backend", found, ids=[b.name for b in found])
        return
    # JAX compiles each operation for each dtype: there, the first tier has float32 and one other,
    # whose turn the test's name decides.
    turn = zlib.crc32(metafunc.function.__name__.encode()) % 3
    pairs = []
    for b in found:
        first = ["float32", *sorted(set(b.float_dtypes()) - {"float32"})[turn : turn + 1]]
        for dtype in b.float_dtypes():
            later = [pytest.mark.full] if b.name == "jax" and dtype not in first else []
            pairs.append(pytest.param(b, dtype, id=f"{b.name}-{dtype}", marks=later))
    metafunc.parametrize(("backend", "dtype"), pairs)
