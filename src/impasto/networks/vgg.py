"""The VGG configurations as tables of layers, with strides and receptive fields.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(2014), table 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from impasto.errors import UnknownName, did_you_mean

LayerKind = Literal["input", "conv", "relu", "pool"]

# The layers at which Gatys et al. (2015) compare style.
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

# Channels of the 3x3 convolutions, block by block; 2x2 pooling with a stride of 2 ends each block.
# Configuration C is left out: there are no weights for it in common use.
CONFIGURATIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "B": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "D": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "E": ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}

CONFIGURATION_OF = {"vgg19": "E", "vgg16": "D"}  # the networks that there are weights for


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    ``channels_in``, ``channels``: of its input and its output. ``stride``: picture pixels between
    two positions of its map. ``receptive_field``: side in picture pixels of the square that one
    position depends on.
    """

    name: str
    kind: LayerKind
    channels_in: int
    channels: int
    stride: int
    receptive_field: int


def layers(configuration: str) -> tuple[Layer, ...]:
    """All layers of a configuration in order: input, conv1_1, relu1_1, ..., pool1, ..., pool5."""
    table = [Layer("input", "input", 3, 3, 1, 1)]
    stride, field, channels = 1, 1, 3
    for block, widths in enumerate(CONFIGURATIONS[configuration], start=1):
        for index, width in enumerate(widths, start=1):
            field += 2 * stride  # a 3x3 window reads one more position on each side
            table.append(Layer(f"conv{block}_{index}", "conv", channels, width, stride, field))
            table.append(Layer(f"relu{block}_{index}", "relu", width, width, stride, field))
            channels = width
        field += stride  # a 2x2 window reads one more position
        stride *= 2
        table.append(Layer(f"pool{block}", "pool", channels, channels, stride, field))
    return tuple(table)


def layers_up_to(configuration: str, names: Iterable[str]) -> tuple[Layer, ...]:
    """The layers from the input to the deepest of ``names``.

    Raises:
        UnknownName: a name is not in the configuration.
    """
    table = layers(configuration)
    known = [layer.name for layer in table]
    deepest = 0
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"Its layers are {', '.join(known)}."
            raise UnknownName(
                f"There is no layer {name!r} in VGG configuration {configuration}.", hint
            )
        deepest = max(deepest, known.index(name))
    return table[: deepest + 1]


def halo(table: Iterable[Layer]) -> int:
    """Pixels around a tile that its own positions depend on, on each side.

    This is half of the largest receptive field, rounded up to the largest stride. So the positions
    of a tile coincide with positions of the whole picture.
    """
    table = tuple(table)
    stride = max(layer.stride for layer in table)
    half = max(layer.receptive_field for layer in table) // 2
    return -(-half // stride) * stride
