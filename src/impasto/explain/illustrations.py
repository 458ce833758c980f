"""Each thing that is shown, as pixels with a name: pictures that were found, photos lit by a map,
Gram matrices.

It knows colours and sizes. It refuses to know files and where a picture hangs.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto import images
from impasto.explain.feature_visualization import Unit
from impasto.explain.results import STYLE_LAYERS, Answer, Explanation
from impasto.geometry import Size

_DARK = 0.12  # of the light where a unit does not answer
_BRIGHT = 0.995  # of all entries that are not the brightest: a few are many times the rest
_GRAM_SIDE = 256  # px at least


def content(layer: str) -> str:
    """The name of a content reconstruction."""
    return f"content-{layer}"


def style(layer: str) -> str:
    """The name of the style reconstruction whose deepest layer this is."""
    return f"style-{layer}"


def unit(which: Unit) -> str:
    return f"unit-{which.layer}-{which.channel}"


def answer(which: Unit) -> str:
    """The name of the photo lit by a unit's map."""
    return f"answer-{which.layer}-{which.channel}"


def gram(of: str, layer: str) -> str:
    """The name of a Gram matrix; ``of`` is "photo" or "painting"."""
    return f"gram-{of}-{layer}"


def pictures(found: Explanation, known: Set[str]) -> dict[str, images.Pixels]:
    """By name, what there is beyond the ``known``: (H, W, 3), 0..1."""
    return {name: make() for name, make in _makers(found) if name not in known}


def _makers(found: Explanation) -> Iterator[tuple[str, partial[images.Pixels]]]:
    yield "photo", partial(lambda: found.photo)
    if found.painting is not None:
        yield "painting", partial(np.asarray, found.painting)
    for of, number in zip(("photo", "painting"), range(len(found.moments)), strict=False):
        for layer in STYLE_LAYERS:
            yield gram(of, layer), partial(_gram, found, number, layer)
    for each in found.content:
        yield content(each.layers[-1]), partial(np.asarray, each.pixels)
    for each in found.style:
        yield style(each.layers[-1]), partial(np.asarray, each.pixels)
    for one in found.answers:
        yield unit(one.unit), partial(np.asarray, one.pixels)
        yield answer(one.unit), partial(_lit, found.photo, one)


def _lit(photo: images.Pixels, found: Answer) -> images.Pixels:
    """The photo, in the light where the unit answers and in the dark where it does not."""
    light = images.resize(
        _brightness(found.map, float(np.quantile(found.map, _BRIGHT))), Size(*photo.shape[:2])
    )
    return np.asarray(photo * (_DARK + (1 - _DARK) * light[..., None]), np.float32)


def _gram(found: Explanation, number: int, layer: str) -> images.Pixels:
    """A Gram matrix with alike channels side by side, the same order and brightness for photo and
    painting.
    """
    import matplotlib

    matrices = [moments[layer].second.cpu().numpy() for moments in found.moments]
    order = _order(np.asarray(sum(matrices)))
    brightest = max(float(np.quantile(matrix, _BRIGHT)) for matrix in matrices)
    drawn = _brightness(matrices[number][np.ix_(order, order)], brightest)
    enlarged = np.kron(drawn, np.ones((-(-_GRAM_SIDE // len(drawn)),) * 2))
    return np.asarray(matplotlib.colormaps["magma"](enlarged)[..., :3], np.float32)


def _brightness(values: NDArray[Any], brightest: float) -> NDArray[np.float32]:
    """0..1: the root, which shows what is faint as well."""
    return np.asarray(np.sqrt((values / max(brightest, 1e-12)).clip(0, 1)), np.float32)


def _order(matrix: NDArray[np.float64]) -> NDArray[np.intp]:
    """Channels in the order of a tree that joins the most alike first: those that fire in the same
    places.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    power = np.sqrt(np.diagonal(matrix).clip(1e-12))
    apart = (1 - matrix / np.outer(power, power)).clip(0)
    np.fill_diagonal(apart, 0)
    return np.asarray(leaves_list(linkage(squareform(apart, checks=False), "average")), np.intp)
