"""Arrays of ndonnx: lengths and values that are not known yet, and what the adapter does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _tools import assert_agree, error_of

import xp_xent
from xp_xent import backends

nd = pytest.importorskip("ndonnx")
onnxruntime = pytest.importorskip("onnxruntime")

NDONNX = backends.get("ndonnx")
RNG = np.random.default_rng(3)
Z, Y = RNG.normal(size=(4, 5)), np.array([0, 4, 2, 2])


def argument(dtype: str, *shape: Any) -> Any:
    return nd.argument(shape=shape, dtype=dtype)


def model(outputs: Any, **inputs: Any) -> Callable[..., Any]:
    """Build a model of one output, and give what runs it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails here is meant to
    built = nd.build(inputs, {"found": outputs}).SerializeToString()
    session = onnxruntime.InferenceSession(built, options)
    return lambda **arrays: session.run(None, arrays)[0]


class TestLengths:
    """Of the axes that are not the classes'."""

    @pytest.fixture(scope="class")
    @classmethod
    def loss(cls) -> Callable[..., Any]:
        z, y = argument("float32", "N", 5), argument("int64", "N")
        w = argument("float32", None)
        return model(xp_xent.cross_entropy(z, y, sample_weight=w, ignore_index=None), z=z, y=y, w=w)

    @pytest.mark.parametrize("rows", [0, 1, 3, 100])
    def test_any_number_of_rows(self, loss: Callable[..., Any], rows: int) -> None:
        z = RNG.normal(size=(rows, 5)).astype(np.float32)
        y, w = RNG.integers(0, 5, rows), RNG.random(rows, dtype=np.float32)
        want = xp_xent.cross_entropy(z, y, sample_weight=w)
        assert_agree(loss(z=z, y=y, w=w), want, np.abs(want), "float32")

    @pytest.mark.parametrize(("labels", "weights"), [(1, 4), (3, 4), (5, 4), (4, 1), (4, 3)])
    def test_others_than_the_logits_are_refused_when_it_runs(
        self, loss: Callable[..., Any], labels: int, weights: int
    ) -> None:
        with pytest.raises(Exception, match="Reshape"):
            loss(
                z=Z.astype(np.float32),
                y=np.zeros(labels, np.int64),
                w=np.ones(weights, np.float32),
            )

    def test_transposed_labels_are_refused_when_it_runs(self) -> None:
        z, y = argument("float64", "B", "T", 5), argument("int64", "B", "T")
        loss = model(xp_xent.cross_entropy(z, y), z=z, y=y)
        z, y = np.reshape(Z, (1, 4, 5)), Y[None]
        assert_agree(loss(z=z, y=y), xp_xent.cross_entropy(z, y), 1.0)
        with pytest.raises(Exception, match="Reshape"):
            loss(z=z, y=y.T)

    @pytest.mark.parametrize("wrt", [0, 1])
    def test_features_of_one_row_are_not_those_of_every_label(self, wrt: int) -> None:
        x, w, y = argument("float64", "N", 2), argument("float64", 5, 2), argument("int64", "N")
        both = xp_xent.value_and_grad(xp_xent.linear_cross_entropy, wrt)
        gradient = model(both(x, w, y)[1], x=x, w=w, y=y)
        assert gradient(x=Z[:, :2], w=np.ones((5, 2)), y=Y).shape == (4 if wrt == 0 else 5, 2)
        with pytest.raises(Exception, match="Reshape"):
            gradient(x=Z[:1, :2], w=np.ones((5, 2)), y=Y)

    def test_transposed_labels_of_known_features_are_refused_when_it_runs(self) -> None:
        x, w, y = (
            argument("float64", 2, 3, 2),
            argument("float64", 5, 2),
            argument("int64", "B", "T"),
        )
        loss = model(xp_xent.linear_cross_entropy(x, w, y), x=x, w=w, y=y)
        arrays = {"x": RNG.normal(size=(2, 3, 2)), "w": RNG.normal(size=(5, 2))}
        labels = RNG.integers(0, 5, (2, 3))
        want = xp_xent.linear_cross_entropy(*arrays.values(), labels)
        assert_agree(loss(**arrays, y=labels), want, 1.0)
        with pytest.raises(Exception, match="Reshape"):
            loss(**arrays, y=labels.T)

    def test_known_ones_that_differ_are_refused_at_once(self) -> None:
        z, y = argument("float32", "N", 7, 5), argument("int64", "N", 6)
        assert "wanted integer labels" in str(error_of(xp_xent.cross_entropy, z, y))

    def test_the_number_of_classes_has_to_be_known(self) -> None:
        z, y = argument("float32", 3, "K"), argument("int64", 3)
        assert "unknown number of classes" in str(error_of(xp_xent.cross_entropy, z, y))
        assert "unknown number of classes" in str(error_of(xp_xent.softmax, z))
        z, q = argument("float32", 3, 5), argument("float32", 3, None)
        assert "targets: got an unknown number" in str(error_of(xp_xent.kl_divergence, z, q))

    def test_class_weights_have_to_be_known_in_number(self) -> None:
        """A model would else take one weight for five."""
        z, y, w = argument("float64", "N", 5), argument("int64", "N"), argument("float64", None)
        x, c, linear = (
            argument("float64", "N", 2),
            argument("float64", 5, 2),
            "linear_cross_entropy",
        )
        assert "weight: got an unknown" in str(error_of(xp_xent.cross_entropy, z, y, weight=w))
        assert "bias: got an unknown" in str(error_of(getattr(xp_xent, linear), x, c, y, bias=w))
        x = argument("float64", "N", None)
        assert "features: got an unknown" in str(error_of(getattr(xp_xent, linear), x, c, y))

    def test_weights_of_binary_classes_are_as_many(self) -> None:
        z, w = argument("float64", "N", None), argument("float64", None)
        loss = xp_xent.binary_cross_entropy_with_logits
        found = model(loss(z, z > 0, pos_weight=w), z=z, w=w)
        assert_agree(found(z=Z, w=Z[0] ** 2), loss(Z, Z > 0, pos_weight=Z[0] ** 2), 1.0)
        with pytest.raises(Exception, match="Reshape"):
            found(z=Z, w=np.ones(1))

    def test_class_weights_of_tokens(self) -> None:
        """Where two lengths are open, no reshape finds both."""
        z, y = argument("float64", None, None, 5), argument("int64", None, None)
        weight, logits = np.linspace(0.5, 2.5, 5), RNG.normal(size=(2, 3, 5))
        tokens = RNG.integers(0, 5, (2, 3))
        loss = xp_xent.value_and_grad(xp_xent.cross_entropy)
        want = loss(logits, tokens, weight=weight, label_smoothing=0.1)
        found = loss(z, y, weight=nd.asarray(weight), label_smoothing=0.1)
        for part in (0, 1):
            got = model(found[part], z=z, y=y)(z=logits, y=tokens)
            assert_agree(got, want[part], np.abs(want[part]).max())

    @pytest.mark.parametrize("known", ["logits", "targets", "neither"])
    def test_some_are_known(self, known: str) -> None:
        """Where one array has a length, the mean is still over as many rows."""
        q = np.eye(5)[Y]
        z = argument("float64", 4 if known == "logits" else None, 5)
        p = argument("float64", 4 if known == "targets" else None, 5)
        loss = model(xp_xent.cross_entropy(z, p, label_smoothing=0.1), z=z, p=p)
        assert_agree(loss(z=Z, p=q), xp_xent.cross_entropy(Z, q, label_smoothing=0.1), 1.0)

    def test_of_tokens(self) -> None:
        """Neither the number of sequences nor their length is known."""
        z, y = argument("float64", None, None, 5), argument("int64", None, None)
        logits, tokens = RNG.normal(size=(2, 3, 5)), RNG.integers(0, 5, (2, 3))
        classifier = RNG.normal(size=(5, 5))
        ways = (
            ("next_token_cross_entropy", (0,), ()),
            ("linear_cross_entropy", (0, 1, "bias"), (classifier,)),
        )
        for name, wrt, more in ways:
            both = xp_xent.value_and_grad(getattr(xp_xent, name), wrt)
            constants = [NDONNX.asarray(x) for x in more]
            options = {"bias": classifier[0]} if more else {}
            found = both(z, *constants, y, **{k: nd.asarray(x) for k, x in options.items()})
            want = both(logits, *more, tokens, **options)
            for one, right in zip((found[0], *found[1]), (want[0], *want[1]), strict=True):
                got = model(one, z=z, y=y)(z=logits, y=tokens)
                assert got.shape == right.shape
                assert_agree(got, right, np.abs(right).max())


class TestValues:
    """Of constants, which are known, and of arguments, which are not."""

    def test_bad_labels_of_an_argument_are_nan_rows(self) -> None:
        z, y = argument("float64", "N", 5), argument("int64", "N")
        call = xp_xent.value_and_grad(xp_xent.cross_entropy)
        for found in call(z, y, reduction="none"):
            got = model(found, z=z, y=y)(z=Z, y=np.array([0, 5, -1, -100]))
            bad = np.isnan(got.reshape(4, -1)).all(axis=1)
            assert bad.tolist() == [False, True, True, False]

    def test_bad_labels_of_a_constant_are_refused(self) -> None:
        z, y = argument("float64", "N", 5), nd.asarray(Y + 1)
        assert "label 5 at position (1,)" in str(error_of(xp_xent.cross_entropy, z, y))

    def test_bad_binary_targets_of_a_constant_are_refused(self) -> None:
        loss, z = xp_xent.binary_cross_entropy_with_logits, argument("float64", "N", 5)
        assert "got 255.0 at position (0, 0)" in str(error_of(loss, z, nd.asarray(255 * np.eye(5))))

    def test_constants_are_computed(self) -> None:
        got, want = xp_xent.cross_entropy(nd.asarray(Z), nd.asarray(Y)), xp_xent.cross_entropy(Z, Y)
        assert_agree(NDONNX.to_numpy(got), want, want)

    def test_constant_labels_belong_to_so_many_rows(self) -> None:
        z = argument("float64", "N", 5)
        loss = model(xp_xent.cross_entropy(z, nd.asarray(Y)), z=z)
        assert_agree(loss(z=Z), xp_xent.cross_entropy(Z, Y), 1.0)
        with pytest.raises(Exception, match="Reshape"):
            loss(z=Z[:1])


class TestAdapter:
    """What it promises beside the losses."""

    def test_is_found_by_its_arrays_but_not_listed(self) -> None:
        assert backends.backend_of(argument("float32", "N")) is NDONNX
        assert "ndonnx" not in backends.installed()

    @pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint64", "bool"])
    def test_there_and_back(self, kind: str) -> None:
        host = np.array([[0, 1, 1], [1, 0, 1]], dtype=kind)
        array = NDONNX.asarray(host)
        assert backends.dtype_name(array.dtype) == kind
        back = NDONNX.to_numpy(array)
        np.testing.assert_array_equal(back, host, strict=True)
        back[:] = 0
        assert np.array_equal(NDONNX.to_numpy(array), host)

    def test_no_other_library_beside_it(self) -> None:
        assert "numpy" in str(error_of(xp_xent.cross_entropy, argument("float64", "N", 5), Z))

    @pytest.mark.parametrize("name", ["balanced_class_weights", "effective_number_weights"])
    def test_class_weights_are_models_too(self, name: str) -> None:
        y, weights = argument("int64", "N"), getattr(xp_xent, name)
        assert_agree(model(weights(y, 6), y=y)(y=Y), weights(Y, 6), 1.0)

    def test_positive_class_weight_is_a_model_too(self) -> None:
        y, weights = argument("float64", 4, None), xp_xent.positive_class_weight
        assert_agree(model(weights(y), y=y)(y=Z**2), weights(Z**2), 1.0)

    def test_half_precision_is_computed_in_single(self) -> None:
        z, y = argument("float16", "N", 5), argument("int64", "N")
        call, half = xp_xent.value_and_grad(xp_xent.cross_entropy), Z.astype(np.float16)
        for found, want in zip(call(z, y), call(half, Y), strict=True):
            got = model(found, z=z, y=y)(z=half, y=Y)
            assert got.dtype == want.dtype
            assert np.allclose(got, want, rtol=1e-3 if want.dtype == np.float16 else 1e-6)
