"""The VGG configurations as tables: which layers there are, in which order, how far each one sees.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(2014), table 1. It knows arithmetic on layer tables; it refuses to know weights, tensors and
pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from impasto.errors import UnknownName, did_you_mean

LayerKind = Literal["input", "conv", "relu", "pool"]

# The layers at which Gatys et al. (2015) compare the painting.
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

# Channels of the 3x3 convolutions, block by block; a 2x2 pooling of stride 2 ends each block.
# Configuration C is left out of the four: its 1x1 convolutions were published by nobody as weights
# that anyone uses.
CONFIGURATIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "B": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "D": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "E": ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}


# The layers at which Gatys et al. compare style.
CONFIGURATION_OF = {"vgg19": "E", "vgg16": "D"}  # the networks that there are weights for


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    ``stride``: picture pixels from one position of its map to the next. ``reach``: the width in
    picture pixels of the square that one position sees (the receptive field).
    ``channels_in``/``channels``: of its input and its output.
    """

    name: str
    kind: LayerKind
    channels_in: int
    channels: int
    stride: int
    reach: int


def layers(configuration: str) -> tuple[Layer, ...]:
    """All layers of a configuration, "input" first: input, conv1_1, relu1_1, conv1_2, ..., pool1,
    ..., pool5.
    """
    found = [Layer("input", "input", 3, 3, 1, 1)]
    stride, reach, channels = 1, 1, 3
    for block, widths in enumerate(CONFIGURATIONS[configuration], start=1):
        for index, width in enumerate(widths, start=1):
            reach += 2 * stride  # a 3x3 window sees one more position on each side
            found.append(Layer(f"conv{block}_{index}", "conv", channels, width, stride, reach))
            found.append(Layer(f"relu{block}_{index}", "relu", width, width, stride, reach))
            channels = width
        reach += stride  # a 2x2 window sees one position more
        stride *= 2
        found.append(Layer(f"pool{block}", "pool", channels, channels, stride, reach))
    return tuple(found)


def cut(configuration: str, wanted: Iterable[str]) -> tuple[Layer, ...]:
    """The layers up to the deepest one wanted.

    Raises:
        UnknownName: a wanted layer is not in the configuration.
    """
    table = layers(configuration)
    names = [layer.name for layer in table]
    deepest = 0
    for name in wanted:
        if name not in names:
            hint = did_you_mean(name, names) or f"Its layers are {', '.join(names)}."
            raise UnknownName(
                f"There is no layer {name!r} in VGG configuration {configuration}.", hint
            )
        deepest = max(deepest, names.index(name))
    return table[: deepest + 1]


def halo(table: Iterable[Layer]) -> int:
    """Pixels of true neighbours that a tile needs on each side: half of the widest reach, in whole
    coarsest strides.

    Rounded up to the stride so that the tile's first position lies where it lies in the whole
    picture.
    """
    table = tuple(table)
    stride = max(layer.stride for layer in table)
    half = max(layer.reach for layer in table) // 2
    return -(-half // stride) * stride
