"""Weights: no code in a file is run, all layouts load alike, and a damaged cache is rebuilt."""

from __future__ import annotations

import builtins
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from impasto.assets import catalogue
from impasto.errors import AssetUnavailable, BadRecipe, UnknownName
from impasto.networks import alexnet, weights

CHANNELS = (2, 3, 4, 5, 6)  # instead of 64 ... 512, so that a whole network is a few kilobytes


@pytest.fixture(autouse=True)
def small_networks(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if "network" not in request.keywords:
        monkeypatch.setattr(weights, "_CHANNELS", CHANNELS)
        monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
        (tmp_path / "cache").mkdir()


def convolutions(name: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    shapes = [shape for key, shape in weights._shapes(name).items() if key.startswith("conv")]
    made = [torch.randn(shape, generator=generator) for shape in shapes]
    return list(zip(made[::2], made[1::2], strict=True))


def torchvision_state(name: str) -> dict[str, torch.Tensor]:
    """torchvision numbers its layers with the ReLUs and pools in between."""
    state, number, pairs = {}, 0, iter(convolutions(name))
    for count in weights._BLOCKS[name]:
        for _ in range(count):
            state[f"features.{number}.weight"], state[f"features.{number}.bias"] = next(pairs)
            number += 2
        number += 1
    return state | {"classifier.0.weight": torch.zeros(4, 6), "classifier.0.bias": torch.zeros(4)}


INPUT = (
    torch.tensor([[0.0, 0, 255], [0, 255, 0], [255, 0, 0]]),
    torch.tensor([-103.939, -116.779, -123.68]),
)


def sequential_state() -> dict[str, torch.Tensor]:
    """The normalised VGG-19: numbers with gaps, and above 9, where text order and number order
    differ.
    """
    state = {"0.weight": INPUT[0].reshape(3, 3, 1, 1), "0.bias": INPUT[1]}
    for position, (weight, bias) in enumerate(convolutions("vgg19")):
        state[f"{2 + 3 * position}.weight"], state[f"{2 + 3 * position}.bias"] = weight, bias
    return dict(sorted(state.items()))


def flax_layers(name: str = "vgg16") -> dict[str, Any]:
    layers = {}
    for number, (weight, bias) in enumerate(convolutions(name)):
        layers[f"Conv_{number}"] = {
            "kernel": np.ascontiguousarray(weight.numpy().transpose(2, 3, 1, 0)),
            "bias": bias.numpy(),
        }
    return layers


def assert_is(name: str, tensors: dict[str, torch.Tensor]) -> None:
    """The tensors are the made-up network, under the right names and in the right order."""
    assert list(tensors) == list(weights._shapes(name))
    names = [
        key.removesuffix(".weight")
        for key in tensors
        if key.startswith("conv") and key.endswith(".weight")
    ]
    for layer, (weight, bias) in zip(names, convolutions(name), strict=True):
        torch.testing.assert_close(tensors[f"{layer}.weight"], weight, rtol=0, atol=0)
        torch.testing.assert_close(tensors[f"{layer}.bias"], bias, rtol=0, atol=0)
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in tensors.values())


def scaled(tensors: dict[str, torch.Tensor], pixel: list[float]) -> torch.Tensor:
    return tensors["input.weight"] @ torch.tensor(pixel) + tensors["input.bias"]


# ---- names ---------------------------------------------------------------------------------------


def test_layers_are_those_of_the_paper():
    """Simonyan and Zisserman 2014, table 1: 16 convolutions in configuration E, 13 in D."""
    for name, count, last in (("vgg19", 16, "conv5_4.bias"), ("vgg16", 13, "conv5_3.bias")):
        shapes = weights._shapes(name)
        assert sum(key.startswith("conv") and key.endswith("weight") for key in shapes) == count
        assert list(shapes)[:4] == ["input.weight", "input.bias", "conv1_1.weight", "conv1_1.bias"]
        assert list(shapes)[-1] == last


def test_an_unknown_network_is_refused():
    with pytest.raises(UnknownName, match="vgg19, vgg16"):
        weights.load("vgg11")  # type: ignore[arg-type]


# ---- reading a pickle without running it ---------------------------------------------------------


class Calls:
    """Pickles to a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_a_pickle_that_calls_anything_is_refused_and_nothing_happens(tmp_path: Path, protocol: int):
    victim = tmp_path / "made"
    for call in (
        Calls(os.system, f"touch {victim}"),
        Calls(os.mkdir, str(victim)),
        Calls(builtins.eval, f"__import__('os').mkdir({str(victim)!r})"),
        Calls(np.load, str(victim)),
        Calls(builtins.getattr, np.ndarray, "tofile"),
    ):
        content = pickle.dumps({"VGG16_0": {"Conv_0": {"kernel": call}}}, protocol=protocol)
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            weights.read_arrays(io.BytesIO(content))
        assert not victim.exists()


def test_a_pickle_of_arrays_is_read():
    layers = flax_layers()
    for old in (False, True):
        content = pickle.dumps({"VGG16_0": layers}, protocol=3)
        if old:  # as numpy 1 wrote it, and the published file has it
            content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        found = weights.read_arrays(io.BytesIO(content))
        np.testing.assert_array_equal(
            found["VGG16_0"]["Conv_7"]["kernel"], layers["Conv_7"]["kernel"]
        )
    with pytest.raises(pickle.UnpicklingError, match="list"):
        weights.read_arrays(io.BytesIO(pickle.dumps([1, 2])))


# ---- every layout, one form ----------------------------------------------------------------------


def test_flax_kernels_become_torch_kernels():
    layers = flax_layers()
    tensors = weights._from_flax("vgg16", layers)
    assert_is("vgg16", tensors)
    kernel = layers["Conv_1"]["kernel"]  # (row, column, in, out)
    assert tensors["conv1_2.weight"][1, 0, 2, 1] == kernel[2, 1, 0, 1]


def test_lpips_scales_minus_one_to_one():
    """Its own code: (x - shift) / scale for x in -1..1."""
    tensors = weights._from_flax("vgg16", flax_layers())
    pixel = [0.2, 0.5, 0.9]
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    expected = (torch.tensor(pixel) * 2 - 1 - shift) / scale
    torch.testing.assert_close(scaled(tensors, pixel), expected)


def test_torchvision_scales_by_the_mean_and_deviation_of_imagenet():
    tensors = weights._from_torchvision("vgg19", torchvision_state("vgg19"))
    assert_is("vgg19", tensors)
    expected = [(0.2 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.9 - 0.406) / 0.225]
    torch.testing.assert_close(scaled(tensors, [0.2, 0.5, 0.9]), torch.tensor(expected))


def test_the_normalised_network_keeps_its_own_input_step():
    tensors = weights._from_sequential("vgg19", sequential_state())
    assert_is("vgg19", tensors)
    expected = [0.9 * 255 - 103.939, 0.5 * 255 - 116.779, 0.2 * 255 - 123.68]
    torch.testing.assert_close(scaled(tensors, [0.2, 0.5, 0.9]), torch.tensor(expected))


# ---- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Stands in for the network: made-up files, and the names asked for."""
    asked: list[str] = []
    torch.save(sequential_state(), tmp_path / "vgg19-normalised")
    with (tmp_path / "vgg16-lpips").open("wb") as file:
        pickle.dump({"VGG16_0": flax_layers(), "NetLinLayer_0": {}}, file, protocol=3)

    def fetch(name: str, *, progress: Any = None, offline: bool = False) -> Path:
        asked.append(name)
        return tmp_path / name

    monkeypatch.setattr(catalogue, "fetch", fetch)
    return asked


@pytest.mark.parametrize(
    ("name", "asset"), [("vgg19", "vgg19-normalised"), ("vgg16", "vgg16-lpips")]
)
def test_a_network_is_fetched_and_converted_once(fetched: list[str], name: Any, asset: str):
    first = weights.load(name)
    second = weights.load(name)
    assert fetched == [asset]
    for tensors in (first, second):
        assert_is(name, {key: tensors[key] for key in weights._shapes(name)})
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert [path.name for path in catalogue.cache_dir().iterdir()] == [f"{name}.safetensors"]


def spoil_end(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_end,
        lambda content: content[:-10],
        lambda content: b"",
        lambda content: b"<html>",
        lambda content: b"\0" * 99,
    ],
    ids=["one bit", "cut off", "empty", "web page", "zeros"],
)
def test_a_damaged_cache_is_remade(fetched: list[str], spoil: Any):
    weights.load("vgg16")
    path = catalogue.cache_dir() / "vgg16.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    assert_is("vgg16", weights.load("vgg16"))
    assert fetched == ["vgg16-lpips"] * 2
    weights.load("vgg16")
    assert len(fetched) == 2, "the remade file is sound"


@pytest.mark.parametrize("change", [("_FORMAT", "2"), ("_CHANNELS", (2, 3, 4, 5, 7))])
def test_a_cache_of_another_format_or_shape_is_remade(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch, change: tuple[str, Any], tmp_path: Path
):
    weights.load("vgg19")
    monkeypatch.setattr(weights, *change)
    torch.save(sequential_state(), tmp_path / "vgg19-normalised")
    assert weights.load("vgg19")["conv5_4.bias"].shape == (weights._CHANNELS[-1],)
    assert len(fetched) == 2
    weights.load("vgg19")
    assert len(fetched) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert weights.load("vgg16")["conv1_1.weight"].shape == (2, 3, 3, 3)
    assert len(fetched) == 2


@pytest.mark.parametrize(
    "content",
    [{"VGG16_0": {}}, {"other": {}}, {"VGG16_0": {"Conv_0": {"kernel": Calls(os.getcwd)}}}],
)
def test_a_fetched_file_that_is_something_else(fetched: list[str], tmp_path: Path, content: Any):
    (tmp_path / "vgg16-lpips").write_bytes(pickle.dumps(content))
    with pytest.raises(AssetUnavailable, match="does not hold the weights of vgg16"):
        weights.load("vgg16")
    assert list(catalogue.cache_dir().iterdir()) == []


def headed(backbone: dict[str, Any], heads: int = 5) -> dict[str, Any]:
    """The layout of the files of LPIPS: a network, and a linear head of one row for each of its
    maps.
    """
    rows = [np.arange(2 + number, dtype=np.float32).reshape(1, 1, -1, 1) for number in range(heads)]
    return {
        **backbone,
        **{f"NetLinLayer_{number}": {"Conv_0": {"kernel": row}} for number, row in enumerate(rows)},
    }


def alexnet_layers() -> dict[str, Any]:
    shapes = [
        (layer.window, layer.window, layer.channels_in, layer.channels) for layer in alexnet.LAYERS
    ]
    made = {
        f"Conv_{number}": {"kernel": np.zeros(shape, np.float32)}
        for number, shape in enumerate(shapes)
    }
    for layer, table in zip(made.values(), alexnet.LAYERS, strict=True):
        layer["bias"] = np.full(table.channels, table.window, np.float32)
    made["Conv_1"]["kernel"][3, 4, 5, 6] = 1  # row, column, in, out
    return {"AlexNet_0": made}


def test_alexnet_and_heads_are_read_out_of_one_file(fetched: list[str], tmp_path: Path):
    (tmp_path / "alexnet-lpips").write_bytes(pickle.dumps(headed(alexnet_layers())))
    tensors, heads = weights.load_alexnet(), weights.load_heads("alexnet")
    assert fetched == ["alexnet-lpips"] * 2
    assert tensors["conv2.weight"][6, 5, 3, 4] == tensors["conv2.weight"].sum() == 1
    assert [float(tensors[f"{layer.name}.bias"][0]) for layer in alexnet.LAYERS] == [11, 5, 3, 3, 3]
    assert all(tensor.dtype == torch.float32 for tensor in (*tensors.values(), *heads))
    assert [len(head) for head in heads] == [2, 3, 4, 5, 6]
    # LPIPS' input: 2 x - 1, less its shift, over its scale.
    x = tensors["input.weight"] @ torch.tensor([0.25, 0.5, 1.0]) + tensors["input.bias"]
    torch.testing.assert_close(
        x, torch.tensor([(-0.5 + 0.030) / 0.458, 0.088 / 0.448, (1 + 0.188) / 0.450])
    )


@pytest.mark.parametrize(
    "content",
    [
        {},
        headed({"AlexNet_0": {}}, heads=4),
        {
            **headed({"AlexNet_0": {}}),
            "NetLinLayer_2": {"Conv_0": {"kernel": np.zeros((2, 1, 4, 1), np.float32)}},
        },
        headed({"AlexNet_0": {**alexnet_layers()["AlexNet_0"], "Conv_3": flax_layers()["Conv_0"]}}),
        {"AlexNet_0": {"Conv_0": {"kernel": Calls(os.getcwd)}}},
    ],
    ids=["nothing", "too few heads", "a head of another shape", "another convolution", "a call"],
)
def test_a_file_of_heads_that_is_something_else(fetched: list[str], tmp_path: Path, content: Any):
    (tmp_path / "alexnet-lpips").write_bytes(pickle.dumps(content))

    def load_both() -> None:
        weights.load_heads("alexnet")
        weights.load_alexnet()

    with pytest.raises(AssetUnavailable, match="does not hold the weights of alexnet"):
        load_both()


# ---- a file that the user names ------------------------------------------------------------------


def test_a_safetensors_file_with_our_names(tmp_path: Path, fetched: list[str]):
    tensors = weights._from_torchvision("vgg16", torchvision_state("vgg16"))
    save_file(tensors, tmp_path / "mine.safetensors")
    loaded = weights.load("vgg16", file=tmp_path / "mine.safetensors")
    assert_is("vgg16", {key: loaded[key] for key in weights._shapes("vgg16")})
    save_file({key: value.half() for key, value in tensors.items()}, tmp_path / "half.bin")
    assert (
        weights.load("vgg16", file=tmp_path / "half.bin")["conv3_1.weight"].dtype == torch.float32
    )
    assert fetched == []


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_torchvisions_file(tmp_path: Path, name: Any):
    torch.save(torchvision_state(name), tmp_path / "vgg.pth")
    assert_is(name, weights.load(name, file=tmp_path / "vgg.pth"))


def test_the_normalised_file_by_hand(tmp_path: Path):
    torch.save(sequential_state(), tmp_path / "vgg.pth")
    assert_is("vgg19", weights.load("vgg19", file=tmp_path / "vgg.pth"))


def refused(tmp_path: Path, save: Any) -> str:
    path = tmp_path / "some.file"
    save(path)
    with pytest.raises(BadRecipe) as caught:
        weights.load("vgg19", file=path)
    assert "features.0.weight" in caught.value.hint and "conv1_1.weight" in caught.value.hint
    return caught.value.message


def test_other_files_are_refused_with_what_was_found(tmp_path: Path):
    ours = weights._from_torchvision("vgg19", torchvision_state("vgg19"))
    broken = ours | {"conv1_1.bias": torch.tensor([float("nan"), 0.0])}
    short = {key: value for key, value in ours.items() if key != "conv4_1.bias"}
    surplus = ours | {"fc6.weight": torch.zeros(2)}
    no_input = {key: value for key, value in sequential_state().items() if not key.startswith("0.")}
    for save, words in (
        (lambda path: None, "There is no weights file"),
        (lambda path: path.write_bytes(b""), "torch cannot read it"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "torch cannot read it"),
        (lambda path: path.write_bytes(b"\x10\0\0\0\0\0\0\0{not json at all"), "deserializ"),
        (
            lambda path: torch.save(torchvision_state("vgg16"), path),
            "13 convolutions instead of 16",
        ),
        (
            lambda path: torch.save({"layer1.weight": torch.zeros(2)}, path),
            "it holds layer1.weight",
        ),
        (lambda path: torch.save([torch.zeros(2)], path), "does not hold tensors by name"),
        (
            lambda path: torch.save({"conv1_1.weight": Calls(os.getcwd)}, path),
            "torch cannot read it",
        ),
        (lambda path: save_file(short, path), "such as conv4_1.bias"),
        (lambda path: save_file(surplus, path), "fc6.weight does not belong to vgg19"),
        (lambda path: save_file(broken, path), "conv1_1.bias holds numbers that are not finite"),
        (lambda path: torch.save(no_input | {"0.weight": torch.zeros(2)}, path), "cannot be used"),
    ):
        assert words in refused(tmp_path, save)
        (tmp_path / "some.file").unlink(missing_ok=True)


# ---- the real networks ---------------------------------------------------------------------------

# Mean and standard deviation of relu1_1 ... relu5_1 on scikit-image's astronaut, every second
# pixel, zero padding.
ASTRONAUT = {
    "vgg19": [
        (1.290283, 2.485182),
        (1.355856, 2.366015),
        (1.428322, 2.82994),
        (1.363793, 2.219429),
        (1.566329, 4.597019),
    ],
    "vgg16": [
        (0.3831815, 0.6802632),
        (1.035607, 2.043023),
        (1.871375, 4.174109),
        (1.679304, 5.204324),
        (0.9881583, 3.163047),
    ],
}


@pytest.mark.network
@pytest.mark.parametrize("name", ["vgg19", "vgg16"])
def test_the_real_networks_see_an_astronaut_as_they_did(name: Any):
    from skimage import data
    from torch.nn.functional import conv2d, max_pool2d, relu

    tensors = weights.load(name)
    pixels = torch.from_numpy(data.astronaut()[::2, ::2].copy()).float() / 255  # (256, 256, 3)
    x = (pixels @ tensors["input.weight"].T + tensors["input.bias"]).permute(2, 0, 1)[None]
    for block, expected in enumerate(ASTRONAUT[name], start=1):
        x = max_pool2d(x, 2) if block > 1 else x
        for layer in range(1, weights._BLOCKS[name][block - 1] + 1):
            convolution = f"conv{block}_{layer}"
            x = relu(
                conv2d(
                    x, tensors[f"{convolution}.weight"], tensors[f"{convolution}.bias"], padding=1
                )
            )
            if layer == 1:
                found = (x.double().mean().item(), x.double().std(correction=0).item())
                assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.network
def test_the_normalised_network_is_normalised():
    """Gatys et al. scaled every filter to a mean activation of one over pictures; one picture comes
    near it.
    """
    assert all(0.5 < mean < 2 for mean, _ in ASTRONAUT["vgg19"])
    tensors = weights.load("vgg19")
    assert tensors["input.weight"].tolist() == [[0, 0, 255], [0, 255, 0], [255, 0, 0]]
    assert torch.allclose(
        tensors["input.bias"], torch.tensor([-103.939, -116.779, -123.68]), atol=1e-3
    )
