"""What a person sees of the package at a prompt: the names that it completes, and what results look like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import captum_shared as cs
from captum_shared.matcher import Match
from captum_shared.selection import Drivers, Pairs


def test_dir_shows_public_names_only() -> None:
    assert dir(cs) == sorted(cs.__all__)


@pytest.mark.parametrize("jedi", [False, True])
def test_ipython_completes_public_names_only(jedi: bool) -> None:
    completer = pytest.importorskip("IPython.core.completer")
    shell = completer.IPCompleter(namespace={"cs": cs}, use_jedi=jedi)
    with completer.provisionalcompleter():
        found = {one.text.lstrip(".") for one in shell.completions("cs.", 3)}
    assert found == set(cs.__all__)


def test_a_fit_is_one_line() -> None:
    latents = np.random.default_rng(0).normal(size=(40, 5))
    responses = np.stack([latents[:, 0], -latents[:, 1], np.zeros(40)], axis=1)  # two of them exact, one constant
    assert repr(cs.fit_readout(latents, responses)) == "ReadoutFit(3 neurons, 40 stimuli, 5 latents, median cv_r 1.000)"
    assert str(cs.fit_readout(latents, responses[:, 0])) == "ReadoutFit(1 neuron, 40 stimuli, 5 latents, cv_r 1.000)"
    assert str(cs.fit_readout(latents, responses[:, 2])).endswith(" cv_r unknown)")


def test_a_match_is_one_line() -> None:
    matcher = cs.ReferenceMatcher(torch.diag(torch.tensor([1.0, 2.0, 4.0])))
    weights = torch.ones(2, 3)
    assert str(matcher.match(torch.eye(3), weights)) == (
        "Match(2 neurons, 3 queries, the best of 3 images, similarity 1 to 4)"
    )
    assert str(matcher.match(torch.eye(3)[:1], weights[:1], k=2)) == (
        "Match(1 neuron, 1 query, the 2 best of 3 images, similarity 0 to 1)"
    )
    nothing = torch.zeros(0, 1)
    assert str(Match(nothing.long(), nothing, torch.zeros(3))) == "Match(0 queries, the best of 3 images)"


def test_drivers_and_pairs_are_one_line() -> None:
    numbers = np.arange(200)
    assert str(Drivers(numbers, numbers[:3], numbers)) == "Drivers(200 to explain, 3 candidates, 200 in all)"
    assert str(Pairs(numbers, numbers[:, None], numbers[:, None] / 2)) == (
        "Pairs(200 images, 1 reference each, similarity 0 to 99.5)"
    )
    assert str(Pairs(numbers[:0], numbers[:0, None], numbers[:0, None])) == "Pairs(0 images, 1 reference each)"
