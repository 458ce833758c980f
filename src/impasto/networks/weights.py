"""Load the weights of VGG-19, VGG-16 and AlexNet as float32 tensors under one set of names.

For RGB in 0..1: "input.weight" (3, 3) and "input.bias" (3,) transform each pixel by
x' = weight @ x + bias. Then come "conv1_1.weight" (64, 3, 3, 3) as (out, in, row, column),
"conv1_1.bias" (64,), and so on. Zero padding is applied to x', after the input transform. AlexNet's
convolutions are "conv1" to "conv5". No file is read in a way that could run code from it.
"""

from __future__ import annotations

import contextlib
import pickle
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from impasto.assets import catalogue
from impasto.errors import AssetUnavailable, BadRecipe, CannotWrite, UnknownName, did_you_mean
from impasto.networks import alexnet
from impasto.recipe.choices import NetworkName
from impasto.storage.files import replace_file
from impasto.storage.tensors import utf8_name

Tensors = dict[str, torch.Tensor]
LpipsName = Literal["vgg16", "alexnet"]  # the networks that LPIPS was trained for

_FORMAT = "1"  # of the cached safetensors files; a file of another format is replaced
_CHANNELS = (64, 128, 256, 512, 512)  # of the five blocks, in configurations D and E alike
_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions in each block
_ASSET = {"vgg16": "vgg16-lpips", "vgg19": "vgg19-normalised", "alexnet": "alexnet-lpips"}

# LPIPS normalizes pixels in -1..1, torchvision pixels in 0..1; both per channel R, G, B.
_LPIPS_SHIFT, _LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Convolution = tuple[torch.Tensor, torch.Tensor]  # weight (O, I, h, w) and bias (O,)


def load(
    name: NetworkName, *, progress: catalogue.Progress | None = None, file: Path | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of a VGG network, float32 on the CPU.

    Without ``file`` they are fetched, converted and cached once. ``file`` is a safetensors file or
    a ``.pth`` state dict with this module's names, torchvision's ("features.0.weight") or those of
    the normalized VGG-19 ("0.weight"). With torchvision's names the network is assumed to take
    torchvision's input. Weights converted from Caffe can have the same names and another input.

    Raises:
        BadRecipe: the file is none of these.
        AssetUnavailable: the weights could not be fetched.
    """
    if name not in _BLOCKS:
        raise UnknownName(
            f"There is no network {name!r}; there are {', '.join(_BLOCKS)}.",
            did_you_mean(name, _BLOCKS),
        )
    if file is not None:
        return _from_file(name, Path(file))
    source = catalogue.ASSETS[_ASSET[name]]
    cached = catalogue.cache_dir() / f"{name}.safetensors"
    tensors = _read_cached(cached, name, source.sha256)
    if tensors is None:
        tensors = _convert(name, catalogue.fetch(source.name, progress=progress))
        _write_cached(cached, tensors, source.sha256)
    return tensors


def load_alexnet(*, progress: catalogue.Progress | None = None) -> Tensors:
    """AlexNet's tensors, float32 on the CPU.

    Raises:
        AssetUnavailable: they could not be fetched.
    """
    scaling = dict(zip(("input.weight", "input.bias"), _lpips_scaling(), strict=True))
    tensors = {name: tensor.float() for name, tensor in scaling.items()}
    with _lpips_arrays("alexnet", progress) as arrays:
        for number, layer in enumerate(alexnet.LAYERS):
            weight, bias = _from_flax_layer(arrays["AlexNet_0"][f"Conv_{number}"])
            if tuple(weight.shape) != (
                layer.channels,
                layer.channels_in,
                layer.window,
                layer.window,
            ):
                raise ValueError(f"{layer.name}.weight is {tuple(weight.shape)}")
            tensors |= {f"{layer.name}.weight": weight, f"{layer.name}.bias": bias}
    return tensors


def load_heads(
    name: LpipsName, *, progress: catalogue.Progress | None = None
) -> tuple[torch.Tensor, ...]:
    """The linear heads of LPIPS 0.1: the channel weights (C,) of each of a network's five maps.

    Raises:
        AssetUnavailable: they could not be fetched.
    """
    with _lpips_arrays(name, progress) as arrays:
        kernels = [arrays[f"NetLinLayer_{number}"]["Conv_0"]["kernel"] for number in range(5)]
        if any(kernel.shape != (1, 1, kernel.size, 1) for kernel in kernels):
            raise ValueError(f"its heads are {[kernel.shape for kernel in kernels]}")
        return tuple(torch.from_numpy(kernel.reshape(-1).copy()) for kernel in kernels)


# ---- the cache -----------------------------------------------------------------------------------


def _read_cached(path: Path, name: str, source: str) -> Tensors | None:
    """The cached tensors, or None if the file is missing, outdated or damaged."""
    with contextlib.suppress(OSError, SafetensorError, ValueError), utf8_name(path) as readable:
        with safe_open(readable, framework="pt") as opened:
            about = opened.metadata() or {}
        if (about.get("format"), about.get("source_sha256")) != (_FORMAT, source):
            return None
        tensors = load_file(readable)
        if _mismatch(name, tensors) == "" and about.get("crc32") == _checksum(tensors):
            return tensors
    return None


def _write_cached(path: Path, tensors: Tensors, source: str) -> None:
    """Save the tensors for the next time. A cache that cannot be written only costs time."""
    about = {"format": _FORMAT, "source_sha256": source, "crc32": _checksum(tensors)}
    with contextlib.suppress(CannotWrite, OSError, SafetensorError):
        replace_file(path, save(tensors, metadata=about))


def _checksum(tensors: Tensors) -> str:
    """CRC-32 of all tensors, against damaged disks: safetensors only checks the header."""
    crc = 0
    for key in sorted(tensors):
        crc = zlib.crc32(tensors[key].numpy().data, crc)
    return f"{crc:08x}"


# ---- names and shapes ----------------------------------------------------------------------------


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a VGG network, in the order of its layers."""
    shapes: dict[str, tuple[int, ...]] = {"input.weight": (3, 3), "input.bias": (3,)}
    before = 3
    for block, (count, channels) in enumerate(zip(_BLOCKS[name], _CHANNELS, strict=True), start=1):
        for layer in range(1, count + 1):
            shapes[f"conv{block}_{layer}.weight"] = (channels, before, 3, 3)
            shapes[f"conv{block}_{layer}.bias"] = (channels,)
            before = channels
    return shapes


def _mismatch(name: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """How the tensors differ from a network's, in words; "" if they have its names and shapes."""
    shapes = _shapes(name)
    if missing := [key for key in shapes if key not in tensors]:
        return f"{len(missing)} of {len(shapes)} tensors are missing, such as {missing[0]}"
    if surplus := [key for key in tensors if key not in shapes]:
        return f"{surplus[0]} does not belong to {name}"
    for key, shape in shapes.items():
        if tuple(tensors[key].shape) != shape:
            return f"{key} is {tuple(tensors[key].shape)} instead of {shape}"
    return ""


def _named(
    name: str, weight: torch.Tensor, bias: torch.Tensor, convolutions: Sequence[Convolution]
) -> Tensors:
    """The input transform and the convolutions in the order of the layers, under their names."""
    pairs = [(weight.reshape(3, 3), bias.reshape(3)), *convolutions]
    values = [tensor.float().contiguous() for pair in pairs for tensor in pair]
    shapes = _shapes(name)
    if len(values) != len(shapes):
        raise ValueError(f"{len(convolutions)} convolutions instead of {len(shapes) // 2 - 1}")
    tensors = dict(zip(shapes, values, strict=True))
    if mismatch := _mismatch(name, tensors):
        raise ValueError(mismatch)
    return tensors


def _scaling(mean: Sequence[float], deviation: Sequence[float]) -> Convolution:
    """(x - mean) / deviation for each channel, as a matrix (3, 3) and an offset (3,)."""
    scale = 1.0 / torch.tensor(deviation, dtype=torch.float64)
    return torch.diag(scale), -scale * torch.tensor(mean, dtype=torch.float64)


# ---- the fetched files ---------------------------------------------------------------------------


def _convert(name: str, path: Path) -> Tensors:
    try:
        if name == "vgg19":
            return _from_sequential(name, _read_state_dict(path))
        with path.open("rb") as file:
            return _from_flax(name, read_arrays(file)["VGG16_0"])
    except _DAMAGED as problem:
        raise _damaged_file(path, name, problem) from problem


@contextlib.contextmanager
def _lpips_arrays(
    name: LpipsName, progress: catalogue.Progress | None
) -> Iterator[Mapping[str, Any]]:
    """The arrays of a network with LPIPS heads.

    An error inside the context that comes from wrong arrays is raised as ``AssetUnavailable``.
    """
    path = catalogue.fetch(_ASSET[name], progress=progress)
    try:
        with path.open("rb") as file:
            yield read_arrays(file)
    except _DAMAGED as problem:
        raise _damaged_file(path, name, problem) from problem


_DAMAGED = (ValueError, KeyError, pickle.UnpicklingError, AttributeError, EOFError)


def _damaged_file(path: Path, name: str, problem: Exception) -> AssetUnavailable:
    return AssetUnavailable(
        f"{path} does not hold the weights of {name}: {problem}.",
        "Remove that file; it is then fetched again.",
    )


def _read_state_dict(path: Path) -> Tensors:
    """The tensors of a ``.pth`` file by name; no code in the file is run.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as problem:
        raise ValueError(f"torch cannot read it ({type(problem).__name__})") from problem
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise ValueError("it does not hold tensors by name")
    return {str(key): value for key, value in state.items()}


def _pairs(state: Mapping[str, torch.Tensor], prefix: str = "") -> list[Convolution]:
    """The weights and biases named PREFIX<number>.weight and .bias, sorted by number."""
    middle = [key[len(prefix) : -len(".weight")] for key in state if key.endswith(".weight")]
    numbers = sorted(
        int(text) for text in middle if text.isdigit() and f"{prefix}{text}.weight" in state
    )
    return [
        (state[f"{prefix}{number}.weight"], state[f"{prefix}{number}.bias"]) for number in numbers
    ]


def _from_sequential(name: str, state: Mapping[str, torch.Tensor]) -> Tensors:
    """The layout of the normalized VGG-19.

    Its first layer, 1x1, converts RGB in 0..1 to BGR * 255 - mean.
    """
    pairs = _pairs(state)
    if not pairs or pairs[0][0].shape != (3, 3, 1, 1):
        raise ValueError("its first layer is not the 1x1 convolution that scales the input")
    return _named(name, *pairs[0], pairs[1:])


def _from_torchvision(name: str, state: Mapping[str, torch.Tensor]) -> Tensors:
    """torchvision's layout; a classifier in the file is ignored."""
    return _named(name, *_scaling(_IMAGENET_MEAN, _IMAGENET_STD), _pairs(state, "features."))


def _from_flax(name: str, layers: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> Tensors:
    convolutions = [_from_flax_layer(layers[f"Conv_{number}"]) for number in range(len(layers))]
    return _named(name, *_lpips_scaling(), convolutions)


def _from_flax_layer(layer: Mapping[str, np.ndarray[Any, Any]]) -> Convolution:
    """A convolution of flax, whose kernels are (row, column, in, out)."""
    kernel = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
    return torch.from_numpy(kernel), torch.from_numpy(layer["bias"].copy())


def _lpips_scaling() -> Convolution:
    """LPIPS's input transform for pixels in 0..1: 2 x - 1, normalized by its shift and scale."""
    mean = [(1 + shift) / 2 for shift in _LPIPS_SHIFT]
    deviation = [scale / 2 for scale in _LPIPS_SCALE]
    return _scaling(mean, deviation)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can create numpy arrays and plain values, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # A pickle can only call what is listed here. numpy 2 moved its constructor to _core.
        if (module, name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }:
            return np.empty(0).__reduce__()[0]
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")


def read_arrays(file: BinaryIO) -> dict[str, Any]:
    """The nested dicts of numpy arrays in a pickle; no code in it is run.

    Raises:
        pickle.UnpicklingError: it calls anything but numpy's array constructors.
    """
    arrays = _ArraysOnly(file).load()
    if not isinstance(arrays, dict):
        kind = type(arrays).__name__
        raise pickle.UnpicklingError(f"it holds a {kind} instead of arrays by name")
    return arrays


# ---- a user's file -------------------------------------------------------------------------------


def _from_file(name: str, path: Path) -> Tensors:
    accepted = (
        f"Accepted are a safetensors file or a .pth state dict of {name} with torchvision's names "
        f"(features.0.weight, ...) or Impasto's (conv1_1.weight, ...)."
    )
    if not path.is_file():
        raise BadRecipe(f"There is no weights file {path}.", accepted)
    try:
        return _recognized(name, _read_file(path))
    except (OSError, SafetensorError, ValueError, KeyError) as problem:
        raise BadRecipe(
            f"{path} cannot be used as the weights of {name}: {problem}.", accepted
        ) from problem


def _read_file(path: Path) -> Tensors:
    """The tensors of a safetensors or ``.pth`` file, under the names that they have there."""
    with path.open("rb") as opened:
        start = opened.read(9)
    # A safetensors file starts with the length of its header (8 bytes), which is JSON.
    with utf8_name(path) as readable:
        return load_file(readable) if start[8:] == b"{" else _read_state_dict(path)


def _recognized(name: str, state: Tensors) -> Tensors:
    """The tensors of one of the known layouts under this module's names.

    Raises:
        ValueError: the layout is unknown, or values are not finite.
    """
    if "conv1_1.weight" in state:
        tensors = {key: value.float().contiguous() for key, value in state.items()}
        if mismatch := _mismatch(name, tensors):
            raise ValueError(mismatch)
    elif "features.0.weight" in state:
        tensors = _from_torchvision(name, state)
    elif "0.weight" in state:
        tensors = _from_sequential(name, state)
    else:
        raise ValueError(f"it holds {', '.join(list(state)[:3]) or 'nothing'}")
    if bad := [key for key, value in tensors.items() if not bool(value.isfinite().all())]:
        raise ValueError(f"{bad[0]} holds numbers that are not finite")
    return tensors
