"""Dask arrays on threads, processes, and a cluster of two workers."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from _tools import error_of

import xp_xent

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(5)
Z, Y = RNG.normal(scale=4, size=(24, 20)), RNG.integers(0, 20, 24)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers(scheduler: str) -> None:
    call = xp_xent.value_and_grad(xp_xent.cross_entropy)
    found = call(da.from_array(Z, chunks=(12, 10)), Y, label_smoothing=0.1)
    with dask.config.set(num_workers=2):
        got = dask.compute(*found, scheduler=scheduler)
    for x, y in zip(got, call(Z, Y, label_smoothing=0.1), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_graphs_travel() -> None:
    import cloudpickle

    loss = xp_xent.cross_entropy(da.from_array(Z, chunks=(12, 10)), Y, temperature=2.0)
    again = pickle.loads(cloudpickle.dumps(loss))
    assert again.compute(scheduler="sync") == loss.compute(scheduler="sync")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes."""
    distributed = pytest.importorskip("distributed")
    # The scheduler may not think that to move a block is quicker than to wait for its worker.
    settings = {
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.bandwidth": "100 kB",
        "distributed.comm.timeouts.connect": "60s",
    }
    with dask.config.set(settings):
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as connected:
            yield connected


def moved(client: Any) -> int:
    """Count the bytes that workers have fetched from each other."""

    def log(dask_worker: Any) -> int:
        return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)

    return sum(client.run(log).values())


def fetched(x: Any) -> np.ndarray:
    """Fetch an array's blocks from where they are."""
    from distributed import futures_of

    blocks = {future.key: future.result() for future in futures_of(x)}
    return np.block([[blocks[key] for key in row] for row in x.__dask_keys__()])


@pytest.mark.filterwarnings("default")
class TestCluster:
    """Processes that reach each other by sockets."""

    @pytest.mark.parametrize("chunks", [(250, -1), (-1, 100), (500, 250)], ids=str)
    def test_no_logits_are_moved(self, client: Any, chunks: Any) -> None:
        from distributed import wait

        z = da.random.default_rng(0).normal(size=(2000, 1000), chunks=chunks).persist()
        wait(z)
        before, labels = moved(client), np.arange(2000) % 1000
        call = xp_xent.value_and_grad(xp_xent.cross_entropy)
        value, gradient = client.persist(call(z, labels))
        wait([value, gradient])
        assert moved(client) - before < z.nbytes / 8
        want = call(fetched(z), labels)
        np.testing.assert_allclose(value.compute(), want[0], rtol=1e-12)
        np.testing.assert_allclose(fetched(gradient), want[1], rtol=1e-12, atol=1e-18)

    def test_a_bad_label_raises(self, client: Any) -> None:
        loss = xp_xent.cross_entropy(da.from_array(Z, chunks=(12, 10)), Y + 9)
        error = error_of(loss.compute)
        assert isinstance(error, ValueError)
        assert "wanted 0 … 19" in str(error)

    def test_a_worker_is_killed(self, client: Any) -> None:
        def slow(x: np.ndarray) -> np.ndarray:
            time.sleep(0.1)
            return x

        z = da.from_array(Z, chunks=(4, 10)).map_blocks(slow, dtype=Z.dtype)
        found = client.compute(xp_xent.cross_entropy(z, Y, label_smoothing=0.1))
        time.sleep(0.4)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        want = xp_xent.cross_entropy(Z, Y, label_smoothing=0.1)
        np.testing.assert_allclose(found.result(timeout=120), want, rtol=1e-12)
