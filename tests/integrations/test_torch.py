"""PyTorch's signatures on this library: its own samples, modules, and what compiles them."""

from __future__ import annotations

import copy
import doctest
import inspect
import io
import pickle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's own samples need it")

import _opinfo_count  # noqa: E402

from xp_xent.integrations import torch as drop_in  # noqa: E402
from xp_xent.integrations import torch_functional, torch_modules  # noqa: E402

FUNCTIONS = "cross_entropy nll_loss binary_cross_entropy_with_logits kl_div".split()
F = torch.nn.functional
Z = torch.tensor([[2.0, 0.5, -1.0], [0.1, 3.0, 0.2]])
WEIGHT = torch.tensor([1.0, 2.0, 0.5])
Y, Q = torch.tensor([0, 2]), torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])

MODULES = {
    "CrossEntropyLoss": ({"weight": WEIGHT, "label_smoothing": 0.1}, Z, Y),
    "NLLLoss": ({"weight": WEIGHT}, Z.log_softmax(1), Y),
    "BCEWithLogitsLoss": ({"weight": WEIGHT, "pos_weight": 2 * WEIGHT}, Z, Q),
    "KLDivLoss": ({"reduction": "batchmean"}, Z.log_softmax(1), Q),
}
by_module = pytest.mark.parametrize("name", MODULES)


def pair(name: str):
    """Return this module, PyTorch's, and arguments."""
    options, *arguments = MODULES[name]
    return getattr(drop_in, name)(**options), getattr(torch.nn, name)(**options), arguments


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("name", _opinfo_count.FUNCTIONS)
def test_its_own_samples(name: str) -> None:
    passed = list(_opinfo_count.outcomes(name))
    assert len(passed) > 10
    assert all(passed)


def test_a_wrong_function_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"cross_entropy": lambda *z, **options: 1.001 * F.cross_entropy(*z, **options)}
    monkeypatch.setattr(_opinfo_count, "FUNCTIONS", wrong)
    assert not any(_opinfo_count.outcomes("cross_entropy"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_its_own(name: str) -> None:
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (getattr(drop_in, name), getattr(F, name))
    )
    assert ours == theirs


@by_module
def test_modules_are_its_own(name: str) -> None:
    mine, theirs, arguments = pair(name)
    assert repr(mine) == repr(theirs)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(mine(*arguments), theirs(*arguments))
    theirs.load_state_dict(mine.state_dict())
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(other) is type(mine)
        assert torch.equal(other(*arguments), mine(*arguments))
    moved = copy.deepcopy(mine).to(torch.float64)
    assert all(x.dtype == torch.float64 for x in moved.state_dict().values())
    assert all(x.device.type == "meta" for x in moved.to("meta").state_dict().values())


@by_module
def test_compiles_as_one_graph(name: str) -> None:
    mine, _, (z, targets) = pair(name)
    z = z.clone().requires_grad_()
    compiled = torch.compile(mine, fullgraph=True, backend="aot_eager")
    (eager,) = torch.autograd.grad(mine(z, targets), z)
    value = compiled(z, targets)
    torch.testing.assert_close(value, mine(z, targets))
    torch.testing.assert_close(torch.autograd.grad(value, z)[0], eager)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@by_module
def test_scripts_but_cannot_be_saved(name: str) -> None:
    mine, _, arguments = pair(name)
    scripted = torch.jit.script(mine)
    assert torch.equal(scripted(*arguments), mine(*arguments))
    with pytest.raises(RuntimeError, match="Could not export Python function call"):
        torch.jit.save(scripted, io.BytesIO())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"size_average": False}, "sum"),
        ({"size_average": True}, "mean"),
        ({"reduce": True}, "mean"),
        ({"reduce": False}, "none"),
        ({"reduce": False, "size_average": False}, "none"),
    ],
)
def test_deprecated_names_of_reductions(old: dict[str, bool], new: str) -> None:
    with pytest.warns(UserWarning, match=f"write reduction='{new}'"):
        got = drop_in.cross_entropy(Z, Y, **old)
    torch.testing.assert_close(got, F.cross_entropy(Z, Y, reduction=new))


def test_one_example_without_a_batch() -> None:
    torch.testing.assert_close(drop_in.cross_entropy(Z[0], Y[0]), F.cross_entropy(Z[0], Y[0]))
    torch.testing.assert_close(drop_in.cross_entropy(Z[0], Q[0]), F.cross_entropy(Z[0], Q[0]))


@pytest.mark.parametrize("targets", [Y, Q], ids=["labels", "probabilities"])
def test_smoothing_with_class_weights(targets: torch.Tensor) -> None:
    options = {"weight": WEIGHT, "label_smoothing": 0.2}
    torch.testing.assert_close(
        drop_in.cross_entropy(Z, targets, **options), F.cross_entropy(Z, targets, **options)
    )


def test_nothing_counted_is_nan() -> None:
    ignored = torch.tensor([-100, -100])
    assert drop_in.cross_entropy(Z, ignored).isnan()
    assert F.cross_entropy(Z, ignored).isnan()


def test_ignored_label_beside_probabilities() -> None:
    """A negative one has no effect in PyTorch either."""
    got = drop_in.cross_entropy(Z, Q, ignore_index=-1)
    torch.testing.assert_close(got, F.cross_entropy(Z, Q, ignore_index=-1))
    with pytest.raises(ValueError, match="ignore_index"):
        drop_in.cross_entropy(Z, Q, ignore_index=1)


class TestDifferences:
    """Each row of the table on the page of PyTorch."""

    def test_confident_rows(self) -> None:
        z, y = torch.tensor([[20.0, 0.0, 0.0]]), torch.tensor([0])
        assert F.cross_entropy(z, y) == 0
        # 2·exp(−20), less its square's half
        torch.testing.assert_close(drop_in.cross_entropy(z, y).item(), 4.1223e-9, rtol=1e-4, atol=0)

    def test_masked_class_without_mass(self) -> None:
        z, q = torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([[0.5, 0.5, 0.0]])
        assert F.cross_entropy(z, q).isnan()
        torch.testing.assert_close(drop_in.cross_entropy(z, q), torch.tensor(2.0).log())

    def test_half_precision(self) -> None:
        z = Z.to(torch.bfloat16)
        assert F.cross_entropy(z, Y).dtype == torch.bfloat16
        assert drop_in.cross_entropy(z, Y).dtype == torch.float32

    def test_targets_outside_the_unit_interval(self) -> None:
        mask = torch.tensor([0.0, 255.0])
        assert F.binary_cross_entropy_with_logits(torch.zeros(2), mask).isfinite()
        with pytest.raises(ValueError, match="255"):
            drop_in.binary_cross_entropy_with_logits(torch.zeros(2), mask)

    def test_divergence_broadcasts_nothing(self) -> None:
        assert F.kl_div(Z, Q[:1], reduction="sum").isfinite()
        with pytest.raises(ValueError, match="shape"):
            drop_in.kl_div(Z, Q[:1], reduction="sum")

    def test_slope_of_a_divergence_by_a_zero(self) -> None:
        q = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
        (theirs,) = torch.autograd.grad(F.kl_div(Z[0], q, reduction="sum"), q)
        (mine,) = torch.autograd.grad(drop_in.kl_div(Z[0], q, reduction="sum"), q)
        assert theirs[2].isnan()
        assert mine[2] == -Z[0, 2]

    def test_labels_out_of_range(self) -> None:
        with pytest.raises(ValueError, match="7"):
            drop_in.cross_entropy(Z, torch.tensor([0, 7]))
        with pytest.raises(IndexError):
            F.cross_entropy(Z, torch.tensor([0, 7]))


def test_examples_run() -> None:
    for module in (torch_functional, torch_modules):
        found = doctest.testmod(module)
        assert found.attempted > 4
        assert not found.failed
