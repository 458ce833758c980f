"""The benchmarks: the baseline has the same objective, and the table shows what was measured."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import __main__ as command
from benchmarks import baseline, loss, memory, program, quality, scene, speed, table
from benchmarks.scene import BaselineProcess, Options, Pairs, Scene, alternate, relative_difference
from benchmarks.table import Row
from impasto import images
from impasto.comparisons import scoring
from impasto.comparisons.scores import FIGURES, Scores
from impasto.geometry import Size
from impasto.inputs import read_inputs
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.optimize.problem import Problem
from impasto.planning import schedule
from impasto.recipe import loading
from impasto.sweeps import sweep
from tests.support.pictures import stub_museum
from tests.support.pocket_network import use_pocket_evaluators, use_pocket_network

LAYERS = ("input", "relu1_1", "relu2_1", "relu2_2", "relu3_1")
SETTINGS = {
    "size": 48,
    "single-scale": True,
    "content-layers": "relu2_1=0.5,relu2_2=1",
    "content-weight": 0.3,
    "style-layers": "relu1_1=0.5,relu2_1=0.3,relu3_1=0.2",
    "smooth-weight": 0.5,
    "style-octaves": 1,
    "protect": "none",
}


def pixels(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """A smooth picture with some grain."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / a + columns / b) for a, b in generator.uniform(2, 9, (3, 2))]
    made = 0.5 + 0.3 * np.stack(waves, -1) + generator.uniform(-0.2, 0.2, (height, width, 3))
    return np.clip(made, 0, 1).astype(np.float32)


@pytest.fixture
def pocket(network_of: Callable[..., Network]) -> Callable[..., Scene]:
    """A function: settings -> a scene of 36x48 px seen by the pocket network."""

    def make(**settings: object) -> Scene:
        recipe = loading.with_settings(
            loading.load(loading.DEFAULT_RECIPE), {**SETTINGS, **settings}
        )
        inputs = read_inputs(pixels(60, 80, 0), [pixels(70, 50, 1)], recipe)
        network = network_of(
            *LAYERS, padding=recipe.network.padding, pooling=recipe.network.pooling
        )
        paintings = tuple(painting.pixels for painting in inputs.paintings)
        photo = inputs.photo.pixels
        return Scene(inputs, Problem(inputs.recipe, inputs.plan, network, photo, paintings))

    return make


def plain(made: Scene, weights: dict[str, Tensor]) -> baseline.Baseline:
    """The baseline for a scene, in float64."""
    painting = made.inputs.paintings[0].pixels
    size = schedule.painting_size(
        Size(*painting.shape[:2]), made.size, made.inputs.recipe.style.scale
    )
    seen = images.to_tensor(images.resize(painting, size)).double()
    return baseline.Baseline(
        made.inputs.recipe, weights, made.photo.double(), seen, made.inputs.plan.content_factor
    )


# ---- the baseline -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statistics", ["gram-relative=1", "wasserstein=1", "gram-relative=0.3,wasserstein=0.7"]
)
@pytest.mark.parametrize(
    ("padding", "pooling"), [("reflect", "max"), ("zero", "average"), ("replicate", "max")]
)
def test_the_baseline_has_the_same_objective(
    pocket: Callable[..., Scene],
    weights_of: Callable[..., dict[str, Tensor]],
    statistics: str,
    padding: str,
    pooling: str,
):
    made = pocket(style_statistics=statistics, network_padding=padding, network_pooling=pooling)
    picture = made.noisy_photo.double()
    found = relative_difference(plain(made, weights_of())(picture), made.evaluation()(picture))
    assert found.loss < 1e-9
    assert found.gradient < 1e-6


@pytest.mark.parametrize("scaling", ["relative", "normalized"])
@pytest.mark.parametrize("octaves", [1, 2])
def test_the_baseline_has_the_same_content_and_scales(
    pocket: Callable[..., Scene],
    weights_of: Callable[..., dict[str, Tensor]],
    scaling: str,
    octaves: int,
):
    made = pocket(size=100, content_scaling=scaling, style_octaves=octaves)
    picture = made.noisy_photo.double()
    found = relative_difference(plain(made, weights_of())(picture), made.evaluation()(picture))
    # The photo and the painting are halved, and the photo's maps stored, in float32.
    assert found.loss < 1e-6
    assert found.gradient < 1e-5


def test_another_objective_is_told_apart(
    pocket: Callable[..., Scene], weights_of: Callable[..., dict[str, Tensor]]
):
    """Otherwise the test above could not fail."""
    picture = pocket().noisy_photo.double()
    one, other = (
        pocket(style_statistics="gram-relative=1"),
        pocket(style_statistics="gram-relative=1.1"),
    )
    assert (
        relative_difference(plain(one, weights_of())(picture), other.evaluation()(picture)).loss
        > 1e-3
    )


@pytest.mark.parametrize(
    "settings",
    [{"style_statistics": "gram=1"}, {"content_scaling": "mean"}, {"protect": "faces"}],
)
def test_the_baseline_refuses_what_it_does_not_know(
    pocket: Callable[..., Scene],
    weights_of: Callable[..., dict[str, Tensor]],
    settings: dict[str, str],
):
    with pytest.raises(ValueError, match="baseline supports"):
        plain(pocket(**settings), weights_of())


def test_it_looks_no_deeper_than_it_is_asked_to(
    pocket: Callable[..., Scene], weights_of: Callable[..., dict[str, Tensor]]
):
    shallow = plain(
        pocket(**{"style-layers": "relu1_1=1", "content-layers": "relu2_1=1"}), weights_of()
    )
    assert list(shallow.features(torch.zeros(1, 3, 36, 48, dtype=torch.float64))) == [
        "relu1_1",
        "relu2_1",
    ]


def test_what_it_needs_grows_with_the_picture(weights_of: Callable[..., dict[str, Tensor]]):
    recipe = loading.with_settings(loading.load(loading.DEFAULT_RECIPE), SETTINGS)
    one, two = (baseline.needs(recipe, weights_of(), count) for count in (1000, 2000))
    assert two == pytest.approx(2 * one, rel=1e-3)


def test_a_search_is_as_long_as_asked_and_keeps_the_best():
    target = torch.linspace(0, 1, 12).view(1, 3, 2, 2)
    seen: list[Tensor] = []

    def evaluate(picture: Tensor) -> tuple[float, Tensor]:
        seen.append(picture.clone())
        away = picture - target
        return float(away.square().sum()) + 1, 2 * away

    found = baseline.search(evaluate, torch.zeros(1, 3, 2, 2), 7)
    assert len(found.losses) == 7
    best = min(range(7), key=lambda index: found.losses[index])
    assert torch.equal(found.picture, seen[best])
    assert found.losses[-1] < found.losses[0]


# ---- side by side --------------------------------------------------------------------------------


def test_the_two_take_turns_and_the_ratio_is_that_of_pairs():
    order: list[str] = []
    times = {"a": iter([9.0, 2.0, 4.0, 30.0]), "b": iter([9.0, 1.0, 1.0, 10.0])}

    def side(name: str) -> Callable[[], float]:
        def turn() -> float:
            order.append(name)
            return next(times[name])

        return turn

    pairs = alternate(side("a"), side("b"), 3, lambda text: None)
    assert "".join(order) == "abababab"
    assert pairs == Pairs((2.0, 4.0, 30.0), (1.0, 1.0, 10.0))  # the first of each warms up
    assert pairs.ratio == 3.0
    assert pairs.medians == (4.0, 1.0)


def test_a_run_ends_where_the_loss_is_reached(
    pocket: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        loss, "SCHEDULE", {"single_scale": False, "schedule_coarsest": 32, "iterations": (3,)}
    )
    monkeypatch.setattr(loss, "LAST", 9)
    made = pocket()

    def judged(picture: Tensor) -> float:
        return made.evaluation()(picture)[0]

    whole = loss.run_impasto(made, 0.0, judged, lambda text: None)
    assert not whole.reached
    assert whole.evaluations == 9
    assert whole.picture.shape == (1, 3, *made.size)
    target = whole.loss * 1.02
    asides: list[float] = []
    # Whose word counts.
    assert not loss.run_impasto(made, target, lambda picture: 2 * target, lambda text: None).reached
    found = loss.run_impasto(made, target, judged, lambda text: None, asides.append)
    assert asides == sorted(asides)
    assert 0 < asides[-1] <= found.seconds
    assert found.reached
    assert found.evaluations <= 9
    assert made.evaluation()(found.picture)[0] == pytest.approx(found.loss, rel=1e-5)
    assert found.loss <= target


def test_the_clock_looks_between_while_the_other_side_works():
    times = iter([5.0, 1.0, 3.0, 2.0])
    clock = loss.BaselineTimer(
        lambda: next(times)
    )  # the first look takes 5 s: the next is due after 10
    for spent in (3.0, 9.0, 11.0, 12.0, 20.0, 22.0):
        clock(spent)
    assert clock.count == 2
    clock.fill(3)
    assert clock.median == 2.0


# ---- the table -----------------------------------------------------------------------------------


def test_a_row_is_one_line_of_a_table():
    row = Row("step", "a | b\nc", "", "2.0x", True)
    assert str(row) == "| step | a / b c | – | 2.0x | yes |"
    assert str(Row("step", "", "1.8x", "1.2x", False)).endswith("| **no** |")
    text = table.markdown([row, table.failed("exact", ValueError("no\nnumbers"))])
    assert len(text.splitlines()) == 4
    assert {line.count("|") for line in text.splitlines()} == {6}
    assert "ValueError: no numbers" in text


def test_the_page_says_how_it_was_made_and_on_what(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        table.kernel_cache,
        "fastest_kernel",
        lambda precision, where: KERNELS["bfloat16" if precision == "auto" else "nnpack"],
    )
    page = table.page(
        [Row("start", "what", "asked", "measured")], "python -m benchmarks --quick", table.machine()
    )
    assert "`python -m benchmarks --quick`" in page
    for word in (
        "cores",
        "threads",
        "GB",
        torch.__version__,
        "kernel nnpack",
        "bfloat16",
        "baseline",
    ):
        assert word in page
    assert (
        max(len(line) for line in page.splitlines() if not line.startswith(("Machine", "|"))) <= 124
    )


@pytest.mark.parametrize(
    ("name", "holds", "status"),
    [
        ("step", False, 1),
        ("exact", False, 1),
        ("step", None, 0),
        ("step", True, 0),
        ("loss", False, 0),
        ("start", False, 0),
    ],
)
def test_the_exit_status_is_that_of_the_rows_that_gate(name: str, holds: bool | None, status: int):
    assert table.status([Row("tiles", "", "", "", True), Row(name, "", "", "", holds)]) == status


# ---- the command ---------------------------------------------------------------------------------


def good(options: Options) -> Iterator[Row]:
    options.say("working")
    yield Row("start", "good", "", "1", True)


def bad(options: Options) -> Iterator[Row]:
    yield Row("step", "before", "", "1", True)
    raise RuntimeError("broken")


def stopped(options: Options) -> Iterator[Row]:
    yield Row("loss", "before", "", "1", True)
    raise KeyboardInterrupt


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Rows that only pretend; gives where the page would go."""
    monkeypatch.setattr(command, "ROWS", {"start": good, "step": bad, "loss": stopped})
    monkeypatch.setattr(command, "PAGE", tmp_path / "docs" / "page.md")
    monkeypatch.setattr(command, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before {table.BEGIN} old {table.END} after", "utf-8")
    monkeypatch.setattr(table, "machine", lambda: "A machine.")
    return tmp_path / "docs" / "page.md"


def test_a_row_that_fails_does_not_stop_the_others(rows: Path, capsys: pytest.CaptureFixture[str]):
    assert command.main(["--quick", "--only", "step,start"]) == 1
    said = capsys.readouterr()
    assert "RuntimeError: broken" in said.out
    assert "| start | good |" in said.out
    assert "start     working" in said.err
    assert not rows.exists()  # a part of the table does not replace the whole


def test_ctrl_c_prints_the_rows_so_far(rows: Path, capsys: pytest.CaptureFixture[str]):
    assert command.main(["--quick"]) == 130
    said = capsys.readouterr().out
    assert "| start | good |" in said
    assert "| loss | before |" in said
    assert not rows.exists()


def test_the_whole_table_is_kept_as_a_page(
    rows: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "ROWS", {"start": good})
    assert command.main(["--full"]) == 0
    assert rows.read_text("utf-8") == capsys.readouterr().out[:-1]
    readme = (tmp_path / "README.md").read_text("utf-8")
    assert (
        readme.startswith("before ")
        and readme.endswith(" after")
        and "| good |" in readme
        and "old" not in readme
    )
    assert command.main(["--full", "--only", "start", "--out", str(tmp_path / "other.md")]) == 0
    assert "| start | good |" in (tmp_path / "other.md").read_text("utf-8")


@pytest.mark.parametrize("arguments", [[], ["--quick", "--full"], ["--quick", "--only", "steps"]])
def test_what_cannot_be_meant_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        command.main(arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err


def test_each_row_has_its_name():
    assert set(command.ROWS) == {
        "step",
        "exact",
        "loss",
        "tiles",
        "memory",
        "growth",
        "overhead",
        "start",
    }
    assert set(command.ROWS) >= table.GATING


def test_starting_is_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program, "REPEATS", 1)
    found = list(program.start(Options()))
    assert [row.name for row in found] == ["start", "start"]
    assert all(row.met is not None for row in found)


def test_said_and_taken_are_compared():
    record = {"expected_memory_bytes": 2**30, "expected_seconds": 10.0, "seconds": 12.0}
    first, second = memory._prediction_rows("here", memory.MeasuredRun(record, int(1.1 * 2**30)))
    assert (first.met, second.met) == (True, False)
    assert "+10%" in first.measured
    assert "+20%" in second.measured


# ---- the real network ----------------------------------------------------------------------------


@pytest.mark.network
def test_the_baseline_is_impasto_on_the_real_network():
    made = scene.build_scene(
        96, style_statistics="gram-relative=0.5,wasserstein=0.5", protect="none"
    ).with_kernel("conv2d")
    with BaselineProcess(made) as process:
        process.set_picture(made.noisy_photo)
        found = relative_difference(made.evaluation()(made.noisy_photo), process.evaluate())
        assert process.seconds() > 0
        searched, seconds = process.search(3, lambda text: None)
    assert found.loss < scene.LOSS_TOLERANCE
    assert found.gradient < scene.GRADIENT_TOLERANCE
    assert len(searched.losses) == 3
    assert math.isfinite(seconds)


@pytest.mark.network
def test_the_rows_can_be_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Options, "pairs", 1)
    monkeypatch.setattr(speed, "STEP_SIDES", (96,))
    monkeypatch.setattr(speed, "STEP_SIDE", 96)
    monkeypatch.setattr(program, "OVERHEAD_SIDE", 64)
    monkeypatch.setattr(program, "QUICK_SHARE", 0.03)
    monkeypatch.setattr(loss, "QUICK_SIDE", 64)
    monkeypatch.setattr(loss, "QUICK_EVALUATIONS", 3)
    monkeypatch.setattr(
        loss, "SCHEDULE", {"single_scale": False, "schedule_coarsest": 32, "iterations": (2,)}
    )
    monkeypatch.setattr(loss, "LAST", 3)
    recorder = program.painting.Recorder
    for measure in (speed.step, program.overhead, loss.loss):
        found = list(measure(Options()))
        assert found
        assert all(row.measured and "NOT THE SAME" not in row.measured for row in found)
    assert program.painting.Recorder is recorder


@pytest.mark.network
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_of_a_run_is_its_own(tmp_path: Path):
    photo = tmp_path / "photo.png"
    images.save(photo, pixels(64, 80, 0))
    taken = memory.run(tmp_path, photo, "--size", "64", "--iterations", "1")
    assert 2e8 < taken.peak < 2e9
    assert taken.record["size"] == [64, 51]
    with pytest.raises(RuntimeError, match="impasto: "):
        memory.run(tmp_path, photo, "--size", "1")


# ---- quality -------------------------------------------------------------------------------------


def point(lpips: float, style: float, recipe: str = "draft", strength: str = "50") -> quality.Point:
    return quality.Point(recipe, strength, lpips, style, 1.0)


def test_the_front_is_what_no_other_point_is_ahead_of():
    gentle, bold, middle = point(0.1, 0.9), point(0.9, 0.1), point(0.4, 0.4)
    behind, beside = point(0.5, 0.5), point(0.4, 0.6)
    assert quality.pareto_front([bold, behind, gentle, beside, middle]) == [gentle, middle, bold]
    assert quality.pareto_front([middle, point(0.4, 0.4)]) == [middle, middle]  # a draw is no lead


def test_the_page_and_the_plane_show_every_point(tmp_path: Path):
    pytest.importorskip("matplotlib")
    found = [
        point(0.2, 0.8, strength="20"),
        point(0.6, 0.3, strength="80"),
        point(0.7, 0.7, recipe="best"),
    ]
    text = quality.page(found, quality.QUICK, "the command", "the machine")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        "photo itself", "draft", "draft", "best", "painting itself",
    ]  # fmt: skip
    assert [row.endswith("| yes |") for row in rows] == [False, True, True, False, False]
    assert "quality.png" in text
    quality.plot(found, tmp_path / "plane.png")
    assert images.read(tmp_path / "plane.png", max_megapixels=2).size.short_side > 500


@pytest.mark.slow
def test_quality_paints_every_pair_recipe_and_strength_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("matplotlib")
    use_pocket_network(monkeypatch, tmp_path)
    use_pocket_evaluators(monkeypatch)
    stub_museum(monkeypatch)
    small = quality.Extent(
        (("chelsea", "irises"), ("coffee", "irises")), 64, ("draft", "default"), "20,80"
    )
    monkeypatch.setattr(quality, "QUICK", small)
    assert quality.main(["--quick", "--out", "here"]) == 0
    page = Path("here/quality.md").read_text("utf-8")
    assert page.strip() == capsys.readouterr().out.strip()
    assert [
        row.split(" | ")[1] for row in page.splitlines() if row.startswith(("| draft", "| default"))
    ] == [
        "20",
        "80",
    ] * 2
    painted = {path: path.stat().st_mtime_ns for path in Path("here").rglob("strength-*.png")}
    assert len(painted) == 8
    assert quality.main(["--quick", "--out", "here"]) == 0
    assert {path: path.stat().st_mtime_ns for path in painted} == painted


def test_shares_lie_between_the_ends():
    def scores(lpips: float, style: float) -> Scores:
        return replace(Scores(*[0.0] * len(FIGURES)), lpips_alexnet=lpips, style=style)

    ends = [
        scoring.Row("", role, Size(1, 1), scores(*of))
        for role, of in (("photo", (0, 5)), ("painting", (0.8, 1)))
    ]
    for given, expected in (((0, 5), (0, 1)), ((0.8, 1), (1, 0)), ((0.4, 2), (0.5, 0.25))):
        result = sweep.Result({}, record={"seconds": 3}, scores=scores(*given))
        assert quality._relative_scores(result, ends) == pytest.approx((*expected, 3))
