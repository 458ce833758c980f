"""Explanations: what is refused, what a tiny network gives, and what the real network must show."""

from __future__ import annotations

import base64
import json
import os
import re
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from impasto import events, images
from impasto.assets import museum
from impasto.errors import BadPicture, BadRecipe, BadRequest, CannotWrite, NotSaved, UnknownName
from impasto.explanations import output_folder
from impasto.explanations.explanation import run_experiments
from impasto.explanations.feature_visualization import Unit, maximize
from impasto.explanations.patches import patch_size
from impasto.explanations.request import read_request
from impasto.explanations.results import CONTENT_LAYERS, UNIT_LAYERS, UNITS_PER_LAYER
from impasto.geometry import Grid, Size
from impasto.networks.features import Network
from impasto.networks.vgg import STYLE_LAYERS
from impasto.objectives.activation import Activation
from impasto.optimize.tiling import value_and_gradient
from tests.support.pictures import save_random
from tests.support.pocket_network import use_pocket_network
from tests.support.program import run_command

SMALL: dict[str, Any] = {"size": 64, "iterations": 2}
QUICK = ("--size", "64", "--iterations", "2")


@pytest.fixture
def pocket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    use_pocket_network(monkeypatch, tmp_path)
    save_random("photo.png", 60, 80, 0)
    save_random("painting.png", 70, 60, 1)
    return tmp_path


# ---- a unit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["relu3_1:42", " conv5_4:511 "])
def test_a_unit_is_read_as_it_is_written(text: str):
    assert str(Unit.parse(text, "E")) == text.strip()


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("relu3_1:256", BadRequest, "relu3_1 has channels 0-255"),
        ("relu3_1:-1", BadRequest, "relu3_1 has channels 0-255"),
        ("relu3_1:x", BadRequest, "relu3_1 has channels 0-255"),
        ("relu3_1", BadRequest, "relu3_1 has channels 0-255"),
        ("relu31:4", UnknownName, "Did you mean relu3_1"),
        ("pool3:4", UnknownName, "The layers are relu1_1"),
        ("", UnknownName, "The layers are relu1_1"),
        ("relu5_4:4", UnknownName, "Did you mean"),  # of VGG-19 alone
    ],
)
def test_a_unit_that_is_not_there_is_refused(text: str, kind: type[BadRequest], words: str):
    with pytest.raises(kind) as error:
        Unit.parse(text, "D")
    assert words in str(error.value)


def test_activation_is_minus_the_mean_of_its_channel_and_adds_up_over_tiles(network_of, picture_of):
    network, picture = network_of("conv2_1"), picture_of(41, 50)
    objective = Activation("conv2_1", 2, 3)
    size = Size(41, 50)
    whole, gradient = value_and_gradient(picture, network, [objective], Grid(size))
    map_ = network(picture)["conv2_1"][0, 3]
    assert whole.total == pytest.approx(
        -float(torch.where(map_ > 0, map_, map_ / 10).mean()), rel=1e-12
    )
    grid = network.grid(size, 16)
    assert len(grid) > 1
    tiled, tiles = value_and_gradient(picture, network.encoder(size), [objective], grid)
    assert tiled.total == pytest.approx(whole.total, rel=1e-12)
    assert (tiles - gradient).norm() < 1e-12 * gradient.norm()


def test_gradient_ascent_activates_a_unit_more_and_the_same_seed_gives_the_same_picture(network_of):
    network = network_of("conv3_1", kernel="conv2d")
    unit, size = Unit("relu2_1", 1), Size(24, 32)

    def mean(picture: torch.Tensor) -> float:
        return float(network.with_outputs({"relu2_1"})(picture)["relu2_1"][0, 1].mean())

    ascents = [
        [picture for _, picture in maximize(network, unit, size, 60, seed)] for seed in (0, 0, 1)
    ]
    first, again, other = (ascent[-1] for ascent in ascents)
    assert mean(first) > 1.1 * mean(ascents[0][0]) > 0
    assert first.equal(again) and not first.equal(other)
    assert float(first.min()) >= 0 and float(first.max()) <= 1


def test_a_cut_network_gives_what_the_whole_one_gives(network_of, picture_of):
    network, picture = network_of("relu3_1", "relu1_1"), picture_of(20, 24)
    cut = network.with_outputs({"relu2_2", "input"})
    assert [layer.name for layer in cut.layers][-1] == "relu2_2"
    assert cut.convolutions["conv1_1"] is network.convolutions["conv1_1"]
    assert cut(picture)["relu2_2"].equal(network_of("relu2_2")(picture)["relu2_2"])
    assert set(network(picture)) == {"relu3_1", "relu1_1"}


@pytest.mark.parametrize("side", [6, 12, 24])
def test_patch_size_is_the_side_of_the_copied_squares(side: int):
    """A mosaic of squares of the painting, wherever they lay in it."""
    random = np.random.default_rng(0)
    painting = images.resize(random.random((24, 32, 3)).astype(np.float32), Size(96, 128))
    mosaic = np.empty_like(painting)
    for top in range(0, 96, side):
        for left in range(0, 128, side):
            down, right = random.integers(0, 96 - side), random.integers(0, 128 - side)
            part = mosaic[top : top + side, left : left + side]
            part[:] = painting[down : down + side, right : right + side][
                : part.shape[0], : part.shape[1]
            ]
    assert 0.5 * side < patch_size(mosaic, painting) < 2.5 * side
    assert patch_size(painting, painting) == 64


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photo", "settings", "kind", "words"),
    [
        ("photo.png", {"units": ["relu9_1:3"]}, UnknownName, "Did you mean"),
        ("photo.png", {"units": ["relu1_1:4"]}, BadRequest, "channels 0-3"),
        ("photo.png", {"size": 63}, BadRequest, "64 to 1024"),
        ("photo.png", {"size": 2000}, BadRequest, "64 to 1024"),
        ("photo.png", {"iterations": 0}, BadRecipe, "iterations"),
        ("photo.png", {"seed": -1}, BadRecipe, "seed"),
        ("missing.png", {}, BadPicture, "missing.png"),
        ("tiny.png", {}, BadPicture, "too small"),
        ("thin.png", {}, BadPicture, "--size"),
        ("flat.png", {}, BadPicture, "flat colour"),
        ("photo.png", {"painting": "flat.png"}, BadPicture, "no style in it"),
        ("photo.png", {"painting": "no-such-painting"}, UnknownName, "no-such-painting"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_network_is_read(
    pocket: Path,
    monkeypatch: pytest.MonkeyPatch,
    photo: str,
    settings: dict[str, Any],
    kind: type[BadRequest],
    words: str,
):
    monkeypatch.setattr(Network, "__init__", lambda *_, **__: pytest.fail("a network was made"))
    save_random("tiny.png", 12, 40, 2)
    save_random("thin.png", 20, 400, 2)
    Image.new("RGB", (80, 60), (90, 20, 20)).save("flat.png")
    with pytest.raises(kind) as error:
        read_request(photo, settings.pop("painting", None), **{**SMALL, **settings})
    assert words in str(error.value)


def test_a_folder_that_cannot_be_used_is_refused(pocket: Path):
    Path("taken").write_text("mine")
    with pytest.raises(CannotWrite, match="is a file"):
        output_folder.check(Path("taken"))
    with pytest.raises(CannotWrite, match="is a file"):
        output_folder.check(Path("taken/deeper"))
    Path("site").mkdir()
    Path("site/index.html").write_text("mine")
    with pytest.raises(CannotWrite, match=r"holds index\.html and is no explanation"):
        output_folder.check(Path("site"))
    assert Path("site/index.html").read_text() == "mine"
    if os.geteuid() != 0:
        Path("locked").mkdir(mode=0o500)
        with pytest.raises(CannotWrite, match="cannot be written"):
            output_folder.check(Path("locked"))


def test_a_bad_request_ends_with_2_and_leaves_nothing(
    pocket: Path, capsys: pytest.CaptureFixture[str]
):
    assert run_command("explain", "photo.png", "-o", "out", "--unit", "relu3_1:900", *QUICK) == 2
    assert "relu3_1 has channels 0-7" in capsys.readouterr().err
    assert run_command("explain", "photo.png", "-o", "photo.png", *QUICK) == 2
    assert not Path("out").exists()


# ---- the results ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_photo_and_painting_give_a_poster_a_page_and_figures(
    pocket: Path, capsys: pytest.CaptureFixture[str]
):
    assert (
        run_command(
            "explain",
            "photo.png",
            "painting.png",
            "-o",
            "out",
            "--unit",
            "relu2_1:3",
            "--unit",
            "conv3_2:0",
            *QUICK,
        )
        == 0
    )
    assert Path(capsys.readouterr().out.strip()) == Path("out/index.html").absolute()
    figures = json.loads(Path("out/figures.json").read_text())
    assert [each["layer"] for each in figures["content"]] == list(CONTENT_LAYERS)
    assert [each["layers"] for each in figures["style"]] == [
        list(STYLE_LAYERS[:n]) for n in range(1, 6)
    ]
    assert [each["unit"] for each in figures["units"]] == ["relu2_1:3", "conv3_2:0"]
    assert figures["pictures"] == {"done": 13, "planned": 13} and len(figures["checks"]) == 3
    for layers in figures["distances"].values():
        assert sum(layer["share"] for layer in layers.values()) == pytest.approx(1, abs=1e-3)
    photo = np.asarray(Image.open("out/photo.png"), np.float32) / 255
    for each in figures["content"]:
        shown = np.asarray(Image.open(f"out/content-{each['layer']}.png"), np.float32) / 255
        assert np.sqrt(np.mean((shown - photo) ** 2)) == pytest.approx(
            each["pixel_error"], abs=2e-3
        )
    with Image.open("out/poster.png") as poster:
        assert poster.width > 1500 and poster.height > 1500
    page = Path("out/index.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|https?:""", page)
    for name in (
        "content-relu5_2",
        "style-relu5_1",
        "unit-conv3_2-0",
        "answer-relu2_1-3",
        "gram-painting-relu4_1",
    ):
        assert base64.b64encode(Path(f"out/{name}.png").read_bytes()).decode() in page


@pytest.mark.slow
def test_a_photo_alone_leaves_style_out_and_says_so(
    pocket: Path, capsys: pytest.CaptureFixture[str]
):
    assert run_command("explain", "photo.png", "-o", "out", "--json", *QUICK) == 0
    out, err = capsys.readouterr()
    assert (
        "Without a painting" in err and "Without a painting" in Path("out/index.html").read_text()
    )
    figures = json.loads(out)
    assert figures["style"] == [] and figures["distances"] == {} and figures["painting"] is None
    assert not list(Path("out").glob("style-*")) and not list(Path("out").glob("gram-painting-*"))
    units = [each["unit"] for each in figures["units"]]
    assert [unit.partition(":")[0] for unit in units] == [
        layer for layer in UNIT_LAYERS for _ in range(UNITS_PER_LAYER)
    ]
    assert len(set(units)) == len(units)


@pytest.mark.slow
def test_events_tell_of_every_picture_and_a_stop_leaves_the_finished_ones(pocket: Path):
    told: list[events.Event] = []
    steps = count()
    # Two pictures of two steps, and one step of the third.
    callbacks = events.Callbacks(told.append, cancel=lambda: next(steps) >= 5)
    request = read_request("photo.png", "painting.png", units=["relu1_1:0"], **SMALL)
    found = output_folder.write(
        run_experiments(request, callbacks), output_folder.check(Path("out"))
    )
    assert (found.done, found.planned) == (2, 12)
    planned = next(event for event in told if isinstance(event, events.Planned))
    assert len(planned.stages) == 12 and planned.seconds < 60
    started = [event.name for event in told if isinstance(event, events.Started)]
    assert started == ["content relu1_1", "content relu1_2", "content relu2_2"]
    assert isinstance(told[-1], events.Warned) and "2 of 12" in told[-1].message
    assert {path.name for path in Path("out").glob("content-*")} == {
        "content-relu1_1.png",
        "content-relu1_2.png",
    }
    assert "Only 2 of 12" in Path("out/index.html").read_text() and Path("out/poster.png").exists()


def test_the_same_request_gives_the_same_bytes_and_leaves_autograd_modes_alone(pocket: Path):
    def last() -> list[bytes]:
        request = read_request("photo.png", "painting.png", units=["relu2_1:1"], **SMALL)
        every = []
        with torch.inference_mode():
            for found in run_experiments(request):
                assert torch.is_inference_mode_enabled()
                every.append(found)
        end = every[-1]
        return [each.pixels.tobytes() for each in (*end.content, *end.style, *end.activations)]

    one, other = last(), last()
    assert one == other and len(one) == 12


def test_what_cannot_be_written_is_said_and_what_was_is_kept(
    pocket: Path, monkeypatch: pytest.MonkeyPatch
):
    request = read_request("photo.png", units=["relu1_1:0"], **SMALL)
    save = images.save

    def full(path: Path, pixels: np.ndarray) -> None:
        if "relu3_2" in path.name and "content" in path.name:
            raise CannotWrite(f"{path} was not saved: No space left on device.")
        save(path, pixels)

    monkeypatch.setattr(images, "save", full)
    with pytest.raises(NotSaved, match="No space left"):
        output_folder.write(run_experiments(request), output_folder.check(Path("out")))
    assert Path("out/content-relu2_2.png").exists()


def test_a_gram_matrix_is_drawn_with_similar_channels_side_by_side():
    from impasto.explanations.illustrations import _similarity_order

    group = np.array([0, 1, 0, 1, 1, 0])
    matrix = np.where(group[:, None] == group, 1.0, 0.1) + np.eye(6) * 0.2
    assert (np.diff(group[_similarity_order(matrix)]) != 0).sum() == 1


# ---- the real network ----------------------------------------------------------------------------


@pytest.mark.network
def test_pixel_errors_and_patch_sizes_grow_with_depth_and_units_activate_more_than_on_photos():
    photo, painting = (
        skimage.data.astronaut()[::4, ::4],
        museum.find("wheat-field-with-cypresses").read(),
    )
    request = read_request(
        photo, painting, units=["relu2_2:40", "relu4_2:55"], size=80, iterations=25
    )
    *_, found = run_experiments(request)
    errors = [each.pixel_error for each in found.content]
    assert errors == sorted(errors) and errors[-1] > 3 * errors[0]
    assert found.style[-1].patch_size > 1.1 * found.style[0].patch_size
    for each in found.activations:
        assert each.mean > 1.5 * each.sample_mean
    assert found.checks == dict.fromkeys(found.checks, True) and len(found.checks) == 3
