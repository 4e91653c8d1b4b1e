"""`split`, whichever thread, context or compiler asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import numpy as np
import pytest
from _tools import assert_same

import xp_xent
from xp_xent import split
from xp_xent.backends import _split


@contextmanager
def held_elsewhere(**taken: Any) -> Iterator[None]:
    """Another thread that is within `split`."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with split(**taken):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()


def within_and_out() -> Iterator[None]:
    with split(num_classes=3):
        yield


def test_a_split_is_of_its_context() -> None:
    """One that is closed in another context neither stays there nor takes another's away."""
    generator = within_and_out()
    other = copy_context()
    other.run(next, generator)
    assert _split.now is None
    with split(num_classes=2):
        with pytest.raises(ValueError, match="different Context"):
            generator.close()
        assert _split.now.num_classes == 2
    assert _split.now is None


def test_members_may_be_anything_that_compares_by_element() -> None:
    members = (np.zeros(2), np.zeros(2))
    with _split.within(_split.Split(*members)), _split.within(_split.Split(*members)):
        assert _split.now.classes is members[0]
    assert _split.now is None


MAPS: list[Callable[[Any], Any]] = [xp_xent.softmax, lambda x: xp_xent.logsumexp(x, axis=-1)]


@pytest.mark.parametrize("function", MAPS)
def test_a_compiled_map_beside_another_threads_split(
    function: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_split, "used", [])
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    x = torch.arange(10.0).reshape(2, 5)
    want = function(x)
    assert_same(compiled(x), want)
    for _ in range(20):  # more than the compiler would compile a function anew
        with held_elsewhere(num_classes=3), held_elsewhere(num_classes=4):
            assert_same(compiled(x), want)
    with split(num_classes=3), pytest.raises(Exception, match=r"num_classes|ContextVar"):
        compiled(x)
    assert_same(compiled(x), want)


def test_a_program_of_jax_belongs_to_its_split() -> None:
    jax = pytest.importorskip("jax")
    if not hasattr(jax, "make_user_context"):
        pytest.skip("a release of JAX whose cache asks for nothing else")
    logits, labels = jax.numpy.arange(10.0).reshape(2, 5), jax.numpy.asarray([0, 2])
    want = [float(xp_xent.cross_entropy(logits[:, :count], labels)) for count in (5, 4, 3)]
    traced: list[Any] = []
    with split():  # if JAX was imported last, it has one more key from here on
        pass

    @jax.jit
    def program(logits: Any, labels: Any) -> Any:
        traced.append(_split.now)
        return xp_xent.cross_entropy(logits, labels)

    for _ in range(3):
        got = [float(program(logits, labels))]
        for count in (4, 3):
            with split(num_classes=count):
                got.append(float(program(logits, labels)))
                with _split.within(None):
                    assert float(program(logits, labels)) == got[0]
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert len(traced) == 3


def test_a_compiled_loss_is_not_taken_within_a_split() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.distributed.tensor")
    torch.compiler.reset()
    compiled = torch.compile(xp_xent.cross_entropy, backend="aot_eager")
    x, labels = torch.arange(10.0).reshape(2, 5), torch.tensor([0, 2])
    want = xp_xent.cross_entropy(x, labels)
    for _ in range(2):
        assert_same(compiled(x, labels), want)
        with split(num_classes=3), pytest.raises(TypeError, match="num_classes"):
            compiled(x, labels)
