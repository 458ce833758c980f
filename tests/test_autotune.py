"""The choice: the fastest right method of every shape, the faster layout of all, and bfloat16 where
it is worth it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from impasto.networks import autotune, convolution
from impasto.networks.autotune import FastestKernels, time_kernels
from impasto.networks.convolution import METHODS, Kernel, Method

CPU = torch.device("cpu")
F32, BF16 = torch.float32, torch.bfloat16
Fault = Callable[[Tensor], Tensor]
Cost = Callable[[tuple[int, int, int]], float]


class Machine:
    """A machine on which methods take the seconds that one says, and give what conv2d gives unless
    told otherwise.

    A pocket network of three shapes is timed, so that nothing much is computed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.seconds: dict[tuple[str, torch.dtype], float | Cost] = {}
        self.faults: dict[str, Fault] = {}
        self.copying = 0.0
        self.ran: list[tuple[str, torch.dtype, tuple[int, int, int]]] = []
        self.methods = dict(METHODS)
        shapes = {(3, 4): 1, (4, 3): 1, (4, 4): 2}
        monkeypatch.setattr(autotune, "_PICTURE_SIDE", 16)
        monkeypatch.setattr(autotune, "_TIMED_SIDES", (8, 16))
        monkeypatch.setattr(autotune, "_REQUIRED_SIDE", 8)
        uses = {
            side: autotune.Counter({(*pair, side): count for pair, count in shapes.items()})
            for side in (8, 16)
        }
        monkeypatch.setattr(autotune, "_shapes", lambda picture: uses[picture])
        monkeypatch.setattr(
            autotune,
            "has_method",
            lambda name, device: any(name == method for method, _ in self.seconds),
        )
        monkeypatch.setattr(convolution, "has_method", lambda name, device: True)
        monkeypatch.setattr(
            autotune._Timer, "_copy", lambda timer, channels, side, last: self.copying
        )
        made = {name: self._method(name) for name in METHODS}
        for module in (convolution, autotune):
            monkeypatch.setattr(module, "METHODS", made)

    def _method(self, name: str) -> Method:
        def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: int, relu: bool) -> Tensor:
            shape = (weight.shape[1], weight.shape[0], x.shape[-1])
            self.ran.append((name, x.dtype, shape))
            cost = self.seconds.get((name, x.dtype))
            if cost is None:
                raise RuntimeError("there is no such thing here")
            self.now += cost(shape) if callable(cost) else cost
            y = (
                METHODS["conv2d"]
                .convolve(x.float(), weight.float(), bias.float(), padding, relu)
                .to(x.dtype)
            )
            return self.faults.get(name, torch.clone)(y)

        return replace(METHODS[name], convolve=convolve)

    def choose(self) -> FastestKernels:
        return time_kernels(CPU, clock=lambda: self.now)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def names(kernel: Kernel) -> set[str]:
    return set(kernel.methods.values())


def test_the_faster_layout_is_chosen_and_times_are_milliseconds_of_an_evaluation(machine: Machine):
    machine.seconds = {("conv2d", F32): 0.003, ("channels-last", F32): 0.001}
    machine.copying = 1.0
    chosen = machine.choose()
    assert chosen.float32.name == "channels-last" and names(chosen.float32) == {"channels-last"}
    assert chosen.milliseconds == {"conv2d": 12.0, "channels-last": 4.0}  # four convolutions
    machine.seconds["conv2d", F32] = 0.0005
    assert machine.choose().float32.name == "conv2d"


def test_every_shape_has_its_own_method(machine: Machine):
    machine.copying = 0.1
    machine.seconds = {
        ("conv2d", F32): 0.002,
        ("nnpack", F32): lambda shape: 0.001 if shape[2] > 8 else 0.003,
    }
    chosen = machine.choose().float32
    assert chosen.name == "nnpack" and not chosen.channels_last
    assert chosen.methods == {
        (into, out, side): "conv2d" if side == 8 else "nnpack"
        for into, out in ((3, 4), (4, 3), (4, 4))
        for side in (8, 16)
    }


@pytest.mark.parametrize(
    ("copying", "expected"), [(0.0004, {"packed", "conv2d"}), (0.0011, {"conv2d"})]
)
def test_a_method_of_another_layout_pays_for_the_way_there_and_back(
    machine: Machine, copying: float, expected: set[str]
):
    machine.copying = copying
    machine.seconds = {
        ("conv2d", F32): lambda shape: 0.003 if shape[0] == 3 else 0.002,
        ("packed", F32): lambda shape: 0.001 if shape[0] == 3 else 0.01,
    }
    chosen = machine.choose().float32
    assert chosen.name == "conv2d" and names(chosen) == expected


@pytest.mark.parametrize(
    "fault",
    [
        lambda y: y * 1.001,
        lambda y: torch.full_like(y, float("nan")),
        lambda y: y + 0.01,
        lambda y: y @ torch.ones(0, 0),
    ],
    ids=["scale", "nan", "off", "error"],
)
def test_a_method_that_is_wrong_is_passed_over_however_fast(machine: Machine, fault: Fault):
    machine.seconds = {
        ("conv2d", F32): 3.0,
        ("channels-last", F32): 2.0,
        ("packed", F32): 1.0,
        ("nnpack", F32): 1.0,
    }
    machine.faults = {"packed": fault, "nnpack": fault}
    chosen = machine.choose()
    assert names(chosen.float32) == {"channels-last"} and "nnpack" not in chosen.milliseconds
    machine.faults["channels-last"] = fault
    assert names(machine.choose().float32) == {"conv2d"}


def test_a_method_that_is_wrong_for_one_shape_is_passed_over_for_that_one(machine: Machine):
    machine.seconds = {("conv2d", F32): 0.003, ("nnpack", F32): 0.001}
    machine.faults = {"nnpack": lambda y: y * 2 if y.shape[-1] == 16 and y.shape[1] == 3 else y}
    methods = machine.choose().float32.methods
    assert [shape for shape, method in methods.items() if method == "conv2d"] == [(4, 3, 16)]


def test_rounding_is_not_wrong(machine: Machine):
    machine.seconds = {("conv2d", F32): 0.003, ("nnpack", F32): 0.001}
    machine.faults = {"nnpack": lambda y: y * (1 + 1e-5)}
    assert names(machine.choose().float32) == {"nnpack"}


@pytest.mark.parametrize(
    ("half", "taken"),
    [(0.0010, True), (0.0015, True), (0.0016, False), (0.0021, False), (0.5, False)],
)
def test_bfloat16_is_taken_where_it_is_much_faster(machine: Machine, half: float, taken: bool):
    """The first convolutions use float32 in both: 2 x 2 ms, and 2 x 2 ms or 2 x ``half``."""
    machine.seconds = {
        ("channels-last", F32): lambda shape: 1e-9 if 3 in shape[:2] else 0.002,
        ("conv2d", F32): 1.0,
        ("channels-last", BF16): half,
    }
    chosen = machine.choose()
    assert chosen.auto is (chosen.bfloat16 if taken else chosen.float32)
    assert chosen.float32.name == "channels-last" and chosen.bfloat16.dtype == BF16
    assert ("bfloat16" in chosen.milliseconds) == (half < 0.1)


def test_pixels_are_never_rounded_to_bfloat16(machine: Machine):
    machine.seconds = {("conv2d", F32): 0.003, ("packed", F32): 0.002, ("packed", BF16): 0.0001}
    chosen = machine.choose()
    assert chosen.auto.name == "bfloat16" and names(chosen.auto) == {"packed"}
    assert {dtype for _, dtype, shape in machine.ran if 3 in shape[:2]} == {F32}
    assert any(dtype == BF16 for _, dtype, _ in machine.ran)


def test_bfloat16_that_is_emulated_is_given_up_at_once(machine: Machine):
    machine.seconds = {
        ("conv2d", F32): 0.02,
        ("channels-last", BF16): 0.1,
        ("channels-last", F32): 0.02,
    }
    chosen = machine.choose()
    assert "bfloat16" not in chosen.milliseconds and chosen.auto is chosen.float32
    assert {shape for _, dtype, shape in machine.ran if dtype == BF16} == {(4, 4, 8)}


def test_bfloat16_is_not_given_up_for_a_slow_start(machine: Machine):
    """The first calls of a shape are slow, and the smallest shape comes first."""
    machine.seconds = {
        ("conv2d", F32): 0.001,
        ("channels-last", F32): lambda shape: 0.001 if shape[2] == 8 else 0.01,
        ("channels-last", BF16): lambda shape: 0.01 if shape[2] == 8 else 0.0005,
    }
    chosen = machine.choose()
    assert chosen.auto is chosen.bfloat16


@pytest.mark.parametrize(("nnpack", "expected"), [(0.00098, "channels-last"), (0.0009, "nnpack")])
def test_nnpack_must_be_worth_its_blocks(machine: Machine, nnpack: float, expected: str):
    machine.copying = 1.0
    machine.seconds = {
        ("conv2d", F32): 0.01,
        ("channels-last", F32): 0.001,
        ("nnpack", F32): nnpack,
    }
    assert machine.choose().float32.name == expected


def test_nnpack_is_for_its_own_layout(machine: Machine):
    machine.seconds = {
        ("conv2d", F32): 0.1,
        ("channels-last", F32): 0.001,
        ("nnpack", F32): 0.00099,
    }
    chosen = machine.choose().float32
    assert chosen.name == "channels-last" and "nnpack" not in names(chosen) and chosen.block == 1


def test_the_time_is_kept_to_and_every_pair_of_channels_is_timed(machine: Machine):
    machine.seconds = {("conv2d", F32): 2.0, ("nnpack", F32): 1.0}
    chosen = machine.choose().float32
    assert set(chosen.methods) == {(3, 4, 8), (4, 3, 8), (4, 4, 8)}  # the smallest of each
    assert chosen.method(4, 4, 512 * 512) == "nnpack"
    assert len(machine.ran) == 2 * 3  # and once


def test_methods_are_timed_in_turn_and_the_best_of_their_times_counts(machine: Machine):
    disturbed = iter([0.01, *[0.0] * 1000])
    machine.seconds = {("conv2d", F32): 1e-4, ("nnpack", F32): lambda shape: 1e-5 + next(disturbed)}
    assert names(machine.choose().float32) == {"nnpack"}
    order = [name for name, _, shape in machine.ran if shape == (4, 4, 16)]
    assert order == ["conv2d", "nnpack"] * (1 + autotune._ROUNDS)


def test_the_shapes_are_those_of_vgg():
    shapes = autotune._shapes(512)
    assert sum(shapes.values()) == 2 * 13  # up to relu5_1, forward and back
    assert (
        shapes[3, 64, 512] == shapes[64, 3, 512] == 1
        and shapes[64, 64, 512] == 2
        and shapes[512, 512, 64] == 6
    )
    timed = autotune._timed_shapes()
    assert len(timed) == len(set(timed)) and {shape[:2] for shape in timed} == {
        shape[:2] for shape in shapes
    }
    firsts = timed[: len({shape[:2] for shape in timed})]
    # Each pair, before any comes again.
    assert {shape[:2] for shape in firsts} == {shape[:2] for shape in timed}


@pytest.mark.slow
def test_this_machine_has_a_choice_that_is_right():
    """Whatever it is, it is of methods that are here, and a line that comes back."""
    chosen = time_kernels(CPU)
    for kernel in (chosen.float32, chosen.bfloat16):
        assert Kernel.parse(kernel.text) == kernel
        assert all(convolution.has_method(name, CPU) for name in names(kernel))
    assert chosen.float32.dtype == F32 and chosen.bfloat16.dtype == BF16
    least = min(taken for name, taken in chosen.milliseconds.items() if name != "bfloat16")
    assert chosen.milliseconds[chosen.float32.name] <= autotune._NNPACK_SPEEDUP * least


def test_the_maps_of_a_usual_picture_are_timed_however_slow_the_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    """Smaller maps tell wrong of larger ones: here another method is the faster on them."""
    machine.seconds = {
        ("conv2d", F32): lambda shape: 3.0 if shape[2] == 8 else 9.0,
        ("nnpack", F32): lambda shape: 4.0 if shape[2] == 8 else 5.0,
    }
    found = {}
    for always in (8, 16):
        monkeypatch.setattr(autotune, "_REQUIRED_SIDE", always)
        machine.ran.clear()
        chosen = machine.choose()
        found[always] = (
            chosen.float32.method(4, 4, 16 * 16),
            {shape[2] for *_, shape in machine.ran},
        )
    assert found == {8: ("conv2d", {8}), 16: ("nnpack", {8, 16})}
