"""Bytes that a device sends for a loss on split logits, against the number of devices."""

from typing import Any

from xp_xent.benchmarks._scaling import Layout, cost

ROWS = CLASSES = 10**6
EXCHANGE, THREE = "xp_xent, one exchange", "PyTorch's loss_parallel"


def draw(axes: Any) -> None:
    """Draw the model's costs for 10⁶ rows of 10⁶ classes, loss and gradient."""
    curves = [
        ("all logits gathered", "gather everything", None, "k:"),
        ("classes: one exchange", EXCHANGE, None, "C0-"),
        ("classes: three all-reduces", THREE, None, "C1--"),
        ("rows, classes over 8: one exchange", EXCHANGE, 8, "C0-o"),
        ("rows, classes over 8: three", THREE, 8, "C1--s"),
        ("rows", EXCHANGE, 1, "C2-."),
    ]
    for name, way, class_parts, style in curves:
        devices = [2**n for n in range(1, 14) if 2**n >= (class_parts or 1)]
        parts = [(n // (class_parts or n), class_parts or n) for n in devices]
        sent = [cost(way, Layout(ROWS, CLASSES, *split, logit_bytes=2)).sent for split in parts]
        axes.loglog(devices, sent, style, label=name, markersize=3.5)
    axes.set(xlabel="devices", ylabel="bytes that a device sends", ylim=(1, 1e19))
    axes.set_yticks([10**n for n in range(0, 15, 3)], ["1", "1 k", "1 M", "1 G", "1 T"])
    axes.legend(fontsize=8, ncols=2, loc="upper center", handlelength=2.5, columnspacing=1)
