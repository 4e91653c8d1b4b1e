"""Every public loss with each kind of targets that it takes, and its options."""

from __future__ import annotations

from dataclasses import dataclass

ROWS, CLASSES, FEATURES = 3, 4, 2  # one shape for all: JAX compiles every operation for each shape
ROW_OPTIONS = ("sample_weight", "where", "normalizer", "normalizer array", "sum", "none")
LABEL_OPTIONS = ("ignore_index", *ROW_OPTIONS)
SMOOTHED = ("weight", "label_smoothing", "smoothing", "class_where", *ROW_OPTIONS)
SOFTMAX = ("z_loss", "softcap", "temperature array", *SMOOTHED)
# Of one form, for the others have the same code behind them.
ARRAYS = ("label_smoothing array", "z_loss array", "softcap array")
DISTRIBUTION = ("axis", "where", "class_where", "temperature array", "sum", "none")
DIVERGENCE = ("axis", "class_where", "temperature array", *ROW_OPTIONS)
FOCAL = ("alpha", "alpha array", "gamma", "axis", *SMOOTHED)
ELEMENTS = ("element weight", "label_smoothing", *ROW_OPTIONS)
SIGMOID_FOCAL = ("alpha", "alpha array", "gamma", "pos_weight", *ELEMENTS)


@dataclass(frozen=True)
class Form:
    """A public function with one kind of targets, and the options that it has."""

    function: str
    targets: str | None
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """Function and targets."""
        return "-".join(filter(None, (self.function, self.targets))).replace(" ", "_")


FORMS = (
    Form("cross_entropy", "labels", ("ignore_index", "axis", *SOFTMAX, *ARRAYS)),
    Form("cross_entropy", "probabilities", ("axis", *SOFTMAX)),
    Form("nll_loss", "labels", ("ignore_index", "axis", *SMOOTHED)),
    Form("nll_loss", "probabilities", ("axis", *SMOOTHED)),
    Form("linear_cross_entropy", "labels", ("ignore_index", "bias", *SOFTMAX)),
    Form("linear_cross_entropy", "probabilities", ("bias", *SOFTMAX)),
    Form("next_token_cross_entropy", "labels", ("ignore_index", *SOFTMAX)),
    Form("softmax_focal_loss", "labels", ("ignore_index", *FOCAL, "gamma array")),
    Form("softmax_focal_loss", "probabilities", FOCAL),
    Form(
        "poly_cross_entropy",
        "labels",
        ("epsilon", "epsilon array", "ignore_index", "axis", *SMOOTHED),
    ),
    Form("poly_cross_entropy", "probabilities", ("epsilon", "axis", *SMOOTHED)),
    Form(
        "binary_cross_entropy_with_logits",
        "0 or 1",
        ("pos_weight", "ignore_index", *ELEMENTS, "label_smoothing array"),
    ),
    Form("binary_cross_entropy_with_logits", "probabilities", ("pos_weight", *ELEMENTS)),
    Form(
        "sigmoid_focal_loss",
        "0 or 1",
        ("ignore_index", "alpha of one number", *SIGMOID_FOCAL, "gamma array"),
    ),
    Form("sigmoid_focal_loss", "probabilities", SIGMOID_FOCAL),
    Form("binary_cross_entropy", "0 or 1", ("ignore_index", *ELEMENTS)),
    Form("binary_cross_entropy", "probabilities", ELEMENTS),
    Form("kl_divergence", "probabilities", ("log_targets", "normalized", *DIVERGENCE)),
    Form("jensen_shannon_divergence", "logits", ("beta", "beta array", *DIVERGENCE)),
    Form("entropy", None, DISTRIBUTION),
    Form("perplexity", "labels", ("axis", "ignore_index", "sample_weight", "where", "over")),
    Form("softmax", None, ("axis", "entries where", "temperature", "temperature array")),
    Form("log_softmax", None, ("axis", "entries where", "temperature", "temperature array")),
    Form("logsumexp", None, ("axis", "entries where", "b", "return_sign", "keepdims")),
    Form("sigmoid", None, ()),
    Form("log_sigmoid", None, ()),
)
ELEMENTWISE = ("binary_cross_entropy_with_logits", "sigmoid_focal_loss", "binary_cross_entropy")
UNBOUNDED = ("entropy", "jensen_shannon_divergence", "linear_cross_entropy")
TRANSFORMED = ("softmax_focal_loss", "poly_cross_entropy")
MAPS = ("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid")
# Without value_and_grad and its relatives
NOT_LOSSES = ("perplexity", *MAPS)
# "all": every option at once; these three exclude one another, or the rest of the shape.
ALONE = (
    "axis", "sum", "none", "alpha", "normalizer", "normalized", "log_targets", "temperature",
    "keepdims",
)  # fmt: skip
