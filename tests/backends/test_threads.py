"""Threads on NumPy: the same bits at any number, and safe in forks, pools and workers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import backends, cross_entropy, value_and_grad
from xp_xent.backends import _threads

RNG = np.random.default_rng(5)
LARGE = RNG.normal(size=(700, 300)).astype(np.float32)
LABELS = RNG.integers(0, 300, 700)


def used(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that compute a large loss."""
    found: set[int] = set()
    backend = backends.get("numpy")
    plain = backend.exp_sums

    def exp_sums(*arrays: Any, **how: Any) -> Any:
        found.add(threading.get_ident())
        return plain(*arrays, **how)

    monkeypatch.setattr(backend, "exp_sums", exp_sums, raising=False)
    cross_entropy(LARGE, LABELS)
    return found


@pytest.mark.parametrize("count", [2, 3, 16])
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_same_bits(name: str, count: int) -> None:
    if name not in backends.installed():
        pytest.skip(f"could not import {name!r}")
    backend, rows = backends.get(name), 5000  # three blocks
    arrays = backend.asarray(np.resize(LARGE, (rows, 300))), backend.asarray(np.arange(rows) % 300)
    with xp_xent.threads(1):
        want, its = value_and_grad(cross_entropy)(*arrays, label_smoothing=0.1)
    with xp_xent.threads(count):
        got, gradient = value_and_grad(cross_entropy)(*arrays, label_smoothing=0.1)
    assert float(got) == float(want)
    assert np.array_equal(backend.to_numpy(gradient), backend.to_numpy(its))


def test_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with xp_xent.threads(1):
        assert used(monkeypatch) == {threading.get_ident()}


def test_limit_is_left_behind() -> None:
    before = _threads.allowed()
    with xp_xent.threads(before + 5):
        assert _threads.allowed() == before + 5
        with xp_xent.threads(1):
            assert _threads.allowed() == 1
    assert _threads.allowed() == before


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2", None])
def test_what_is_no_limit(wrong: Any) -> None:
    with pytest.raises(ValueError, match="limit: got"), xp_xent.threads(wrong):
        pass


@pytest.mark.parametrize(
    ("variables", "want"),
    [
        ({"XP_XENT_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}, 1),
        ({"OMP_NUM_THREADS": "1,2"}, 1),
        ({"OMP_NUM_THREADS": "none", "XP_XENT_NUM_THREADS": ""}, None),
        ({}, None),
    ],
)
def test_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], want: int | None
) -> None:
    for name in ("XP_XENT_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _threads.allowed() == (_threads._processors() if want is None else want)


def test_small_arrays_start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads._pool, "submit", lambda *_: pytest.fail("a thread for this?"))
    with xp_xent.threads(8):
        cross_entropy(LARGE[:20], LABELS[:20])


def test_within_a_pool() -> None:
    """More callers than threads, each of which would like threads of its own."""
    want = cross_entropy(LARGE, LABELS)

    def call(_: int) -> Any:
        with xp_xent.threads(4):
            return cross_entropy(LARGE, LABELS)

    with ThreadPoolExecutor(6) as pool:
        assert all(got == want for got in pool.map(call, range(24)))


def test_an_error_on_a_thread_arrives() -> None:
    def fail(item: int) -> None:
        if item == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), xp_xent.threads(3):
        _threads.each(fail, range(8), 8)


SCRIPT = """
import multiprocessing, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
import numpy as np
import xp_xent
from xp_xent.backends import _threads

z = np.random.default_rng(0).normal(size=(700, 300)); y = np.arange(700) % 300
xp_xent_threads = xp_xent.threads(4)
xp_xent_threads.__enter__()
want = xp_xent.cross_entropy(z, y)

def work(queue):
    queue.put(float(xp_xent.cross_entropy(z, y)))

if __name__ == "__main__":
    pid = os.fork()
    if pid == 0:
        os._exit(0 if xp_xent.cross_entropy(z, y) == want else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    queue = multiprocessing.get_context("fork").Queue()
    child = multiprocessing.get_context("fork").Process(target=work, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == float(want)
    child.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_after_a_fork() -> None:
    """The parent's pool does not exist in the child, which makes its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_one_thread_in_a_worker_process() -> None:
    code = (
        "from concurrent.futures import ProcessPoolExecutor as P; import multiprocessing as m\n"
        "from xp_xent.backends import _threads\n"
        "if __name__ == '__main__':\n"
        "    with P(1, mp_context=m.get_context('forkserver')) as p:\n"
        "        print(p.submit(_threads.allowed).result())\n"
    )
    hidden = ("OMP_NUM_THREADS", "XP_XENT_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == "1"


def test_when_the_interpreter_ends() -> None:
    """A thread that goes on and what is called at exit get no more threads, and do without."""
    code = (
        "import atexit, threading, numpy as np, xp_xent\n"
        "z, y = np.zeros((200000, 10), np.float32), np.zeros(200000, int)\n"
        "def loss(): print(round(float(xp_xent.cross_entropy(z, y)), 5), flush=True)\n"
        "def late(): threading.main_thread().join(); loss()\n"
        "atexit.register(loss)\n"
        "threading.Thread(target=late).start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["2.30259"] * 2, done.stderr
