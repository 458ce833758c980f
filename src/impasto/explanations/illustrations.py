"""Make the pictures of an explanation, as pixels by name: reconstructions, activations, Gram
matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto import images
from impasto.explanations.feature_visualization import Unit
from impasto.explanations.results import Explanation, UnitActivation
from impasto.geometry import Size
from impasto.networks.vgg import STYLE_LAYERS

ROLES = ("photo", "painting")
_DARK = 0.12  # brightness of the photo where a unit does not activate
_WHITE_QUANTILE = 0.995  # a few entries are many times the rest: they are drawn as white
_GRAM_SIDE = 256  # px at least


def content(layer: str) -> str:
    """The name of a content reconstruction."""
    return f"content-{layer}"


def style(layer: str) -> str:
    """The name of the style reconstruction whose deepest layer is ``layer``."""
    return f"style-{layer}"


def unit(of: Unit) -> str:
    """The name of the picture that activates a unit most."""
    return f"unit-{of.layer}-{of.channel}"


def activation(of: Unit) -> str:
    """The name of the photo lit by a unit's map."""
    return f"answer-{of.layer}-{of.channel}"


def gram(role: str, layer: str) -> str:
    """The name of a Gram matrix; ``role`` is "photo" or "painting"."""
    return f"gram-{role}-{layer}"


def new_pictures(explanation: Explanation, known: Set[str]) -> dict[str, images.Pixels]:
    """The pictures whose names are not in ``known``, by name: (H, W, 3), 0..1."""
    return {name: make() for name, make in _makers(explanation) if name not in known}


def _makers(explanation: Explanation) -> Iterator[tuple[str, Callable[[], images.Pixels]]]:
    yield "photo", lambda: explanation.photo
    if explanation.painting is not None:
        yield "painting", partial(np.asarray, explanation.painting)
    for number, role in enumerate(ROLES[: len(explanation.moments)]):
        for layer in STYLE_LAYERS:
            yield gram(role, layer), partial(_gram, explanation, number, layer)
    for inverted in explanation.content:
        yield content(inverted.deepest), partial(np.asarray, inverted.pixels)
    for styled in explanation.style:
        yield style(styled.deepest), partial(np.asarray, styled.pixels)
    for each in explanation.activations:
        yield unit(each.unit), partial(np.asarray, each.pixels)
        yield activation(each.unit), partial(_lit, explanation.photo, each)


def _lit(photo: images.Pixels, activation: UnitActivation) -> images.Pixels:
    """The photo, bright where the unit activates and dark where it does not."""
    white = float(np.quantile(activation.map, _WHITE_QUANTILE))
    light = images.resize(_brightness(activation.map, white), Size(*photo.shape[:2]))
    return np.asarray(photo * (_DARK + (1 - _DARK) * light[..., None]), np.float32)


def _gram(explanation: Explanation, number: int, layer: str) -> images.Pixels:
    """A Gram matrix with similar channels side by side.

    Photo and painting share one order of channels and one scale of brightness.
    """
    import matplotlib

    matrices = [moments[layer].second.cpu().numpy() for moments in explanation.moments]
    order = _similarity_order(np.asarray(sum(matrices)))
    white = max(float(np.quantile(matrix, _WHITE_QUANTILE)) for matrix in matrices)
    entries = _brightness(matrices[number][np.ix_(order, order)], white)
    enlarged = np.kron(entries, np.ones((-(-_GRAM_SIDE // len(entries)),) * 2))
    return np.asarray(matplotlib.colormaps["magma"](enlarged)[..., :3], np.float32)


def _brightness(values: NDArray[Any], white: float) -> NDArray[np.float32]:
    """0..1; the square root, which also shows what is faint."""
    return np.asarray(np.sqrt((values / max(white, 1e-12)).clip(0, 1)), np.float32)


def _similarity_order(matrix: NDArray[np.float64]) -> NDArray[np.intp]:
    """The channels in the leaf order of a hierarchical clustering by cosine similarity.

    Channels that activate in the same places come to stand side by side.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    norm = np.sqrt(np.diagonal(matrix).clip(1e-12))
    distance = (1 - matrix / np.outer(norm, norm)).clip(0)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    return np.asarray(leaves_list(tree), np.intp)
