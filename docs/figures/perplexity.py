"""Perplexity while a bigram model of letters is trained."""

from typing import Any

import numpy as np

from xp_xent import next_token_cross_entropy, perplexity, value_and_grad

TEXT = "the loss of a model is what the model pays for a letter that it did not see coming. " * 8


def draw(axes: Any) -> None:
    """Train a table of letters by letters, and draw its perplexity before each step."""
    alphabet = sorted(set(TEXT))
    tokens = np.asarray([alphabet.index(letter) for letter in TEXT])
    table, seen = np.zeros((len(alphabet), len(alphabet))), []
    for _ in range(120):
        logits = table[tokens]
        seen.append(float(perplexity(logits[:-1], tokens[1:])))
        slope = value_and_grad(next_token_cross_entropy)(logits, tokens)[1]
        np.add.at(table, tokens, -15.0 * slope)
    axes.plot(seen)
    axes.axhline(len(alphabet), color="0.7", linestyle="--", label="a guess among the letters")
    axes.set(xlabel="step", ylabel="perplexity", ylim=(0, len(alphabet) + 2))
    axes.legend()
