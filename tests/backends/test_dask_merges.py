"""Dask: what blocks of classes say of a row is merged in a tree; a branch may be masked whole."""

from __future__ import annotations

import numpy as np
import pytest

import xp_xent
from xp_xent import cross_entropy, value_and_grad

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")


@pytest.mark.parametrize("masked", [slice(48), slice(16, None)], ids=["first", "last"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}], ids=str)
def test_branches_that_are_masked_whole(masked: slice, options: dict[str, float]) -> None:
    z, y = np.linspace(-3, 3, 256).reshape(4, 64), np.asarray([50, 60, 63, 55]) % (64 - 48)
    y = y + 48 if masked.start is None else y
    z[:, masked] = -np.inf
    lazy, both = da.from_array(z, chunks=(2, 2)), value_and_grad(cross_entropy)
    for got, want in zip(
        dask.compute(*both(lazy, y, **options)), both(z, y, **options), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    for name in ("softmax", "log_softmax", "logsumexp"):
        function = getattr(xp_xent, name)
        np.testing.assert_allclose(function(lazy).compute(), function(z), rtol=1e-12)
