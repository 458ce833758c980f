"""Every kernel is torch's conv2d over a padded map, forward and backward, and the fastest one is also right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from impasto.networks import convolution
from impasto.networks.convolution import KERNELS, Convolution, Kernel, available, fastest

CPU = torch.device("cpu")
CANDIDATES = [*(kernel.name for kernel in available(CPU)), "float64", "bfloat16"]
TOLERANCES = {torch.float64: 1e-13, torch.float32: 3e-5, torch.bfloat16: 3e-2}
MODES = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}
# One position, one row, one column, the least that can be reflected, odd, and large enough for NNPACK.
SIZES = [(1, 1), (1, 6), (5, 1), (2, 2), (2, 5), (7, 3), (13, 10), (49, 53)]


def reference(x: Tensor, weight: Tensor, bias: Tensor, padding: str) -> Tensor:
    mode = "replicate" if padding == "reflect" and min(x.shape[-2:]) == 1 else MODES[padding]
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode), weight, bias)


def close(found: Tensor, expected: Tensor, kernel: Kernel) -> None:
    assert found.dtype == kernel.dtype
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= TOLERANCES[kernel.dtype] * expected.abs().max()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_kernel_is_conv2d_of_the_padded_map(name: str, padding: convolution.Padding, size: tuple[int, int]):
    kernel = KERNELS[name]
    generator = torch.Generator().manual_seed(5)
    weight, bias, x, gradient = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((7, 5, 3, 3), (7,), (1, 5, *size), (1, 7, *size))
    )
    x.requires_grad_()
    expected = reference(x, weight, bias, padding)
    (expected_gradient,) = torch.autograd.grad(expected, x, gradient)

    built = Convolution(weight, bias, kernel, padding)
    form = kernel.memory_format
    given = x.detach().to(kernel.dtype).contiguous(memory_format=form)
    kept = given.clone()
    close(built.forward(given, relu=False), expected, kernel)
    close(built.forward(given, relu=True), expected.relu(), kernel)
    assert torch.equal(given, kept)

    inward = gradient.to(kernel.dtype).contiguous(memory_format=form)
    kept = inward.clone()
    close(built.input_gradient(inward), expected_gradient, kernel)
    assert torch.equal(inward, kept)


def test_weights_given_are_not_changed():
    weight, bias = torch.rand(2, 2, 3, 3), torch.rand(2)
    kept = weight.clone()
    built = Convolution(weight, bias, KERNELS["conv2d"], "reflect")
    built.input_gradient(built.forward(torch.rand(1, 2, 5, 5), relu=True))
    assert torch.equal(weight, kept)


@pytest.mark.skipif(KERNELS["nnpack"] not in available(CPU), reason="this torch has no NNPACK here")
def test_nnpack_is_what_runs_on_large_maps_and_no_other(monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[int, ...]] = []
    kept = torch._nnpack_spatial_convolution

    def counted(x: Tensor, *rest: object, **named: object) -> Tensor:
        calls.append(tuple(x.shape[-2:]))
        return kept(x, *rest, **named)

    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", counted)
    built = Convolution(torch.rand(2, 2, 3, 3), torch.rand(2), KERNELS["nnpack"], "zero")
    built.forward(torch.rand(1, 2, 9, 9), relu=False)
    assert calls == []
    built.forward(torch.rand(1, 2, 60, 61), relu=False)
    assert calls == [(60, 61)]


NNPACK_HERE = pytest.mark.skipif(KERNELS["nnpack"] not in available(CPU), reason="this torch has no NNPACK here")


@NNPACK_HERE
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_nnpack_in_bands_of_rows_gives_the_bits_of_nnpack_at_once(
    monkeypatch: pytest.MonkeyPatch, padding: convolution.Padding
):
    generator = torch.Generator().manual_seed(0)
    built = Convolution(
        torch.rand(4, 3, 3, 3, generator=generator), torch.rand(4, generator=generator), KERNELS["nnpack"], padding
    )
    x = torch.rand(1, 3, 67, 61, generator=generator)
    whole = built.forward(x, relu=False)
    back = built.input_gradient(whole)
    calls: list[int] = []
    kept = torch._nnpack_spatial_convolution

    def counted(band: Tensor, *rest: object, **named: object) -> Tensor:
        calls.append(band.shape[-2])
        return kept(band, *rest, **named)

    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", counted)
    monkeypatch.setattr(convolution, "_WORKSPACE_BYTES", 60_000)
    assert torch.equal(built.forward(x, relu=False), whole)
    assert torch.equal(built.input_gradient(whole), back)
    assert len(calls) > 4 and max(calls) < 40


@NNPACK_HERE
def test_a_part_on_whole_blocks_has_the_bits_of_the_whole_and_is_computed_as_the_whole_is():
    generator = torch.Generator().manual_seed(0)
    kernel = KERNELS["nnpack"]
    weight = torch.rand(4, 3, 3, 3, generator=generator)
    built = Convolution(weight, torch.rand(4, generator=generator), kernel, "zero")
    x = torch.rand(1, 3, 66, 72, generator=generator)
    whole, block = built.forward(x, relu=False), kernel.block
    part = x[..., 2 * block : 6 * block, 3 * block :].contiguous()
    found = built.forward(part, relu=False, positions=66 * 72)
    inner = whole[..., 2 * block : 6 * block, 3 * block :]
    assert torch.equal(found[..., 1:-1, 1:], inner[..., 1:-1, 1:])  # but for the part's own border
    alone = built.forward(part, relu=False)  # too few positions for NNPACK
    assert not torch.equal(alone[..., 1:-1, 1:], inner[..., 1:-1, 1:])


# ---- the choice ----------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Kernel, dict[str, float]]]]:
    """A machine whose kernels take the seconds that one says and give what one says; it computes nothing."""

    def choose(seconds: dict[str, float], wrong: dict[str, Callable[[Tensor], Tensor]]) -> tuple[Kernel, dict[str, float]]:
        now = [0.0]

        def convolve(self: Convolution, x: Tensor, *rest: object) -> Tensor:
            now[0] += seconds[self.kernel.name]
            return wrong.get(self.kernel.name, torch.clone)(x)

        monkeypatch.setattr(convolution, "available", lambda device: [KERNELS[name] for name in seconds])
        monkeypatch.setattr(functional, "conv2d", lambda x, weight, bias, padding: x.clone())
        monkeypatch.setattr(Convolution, "_convolve", convolve)
        return fastest(CPU, clock=lambda: now[0])

    yield choose


def test_the_fastest_is_chosen_and_its_times_are_milliseconds(machine: Callable[..., tuple[Kernel, dict[str, float]]]):
    chosen, times = machine({"conv2d": 3.0, "channels-last": 1.0}, {})
    assert chosen.name == "channels-last"
    # Two shapes, forward and input gradient of each.
    assert times == pytest.approx({"conv2d": 12_000.0, "channels-last": 4000.0})
    assert machine({"conv2d": 1.0, "channels-last": 3.0}, {})[0].name == "conv2d"


@pytest.mark.parametrize(
    "fault",
    [lambda x: x * 1.001, lambda x: torch.full_like(x, float("nan")), lambda x: x + 0.01],
    ids=["scale", "nan", "off"],
)
def test_a_kernel_that_is_wrong_is_passed_over_however_fast(
    fault: Callable[[Tensor], Tensor], machine: Callable[..., tuple[Kernel, dict[str, float]]]
):
    chosen, times = machine({"conv2d": 3.0, "channels-last": 1.0}, {"channels-last": fault})
    assert chosen.name == "conv2d"
    assert times["channels-last"] == float("inf")


def test_a_kernel_that_is_wrong_for_one_shape_alone_is_passed_over(machine: Callable[..., tuple[Kernel, dict[str, float]]]):
    for side in (224, 56):
        fault = {"channels-last": lambda x, side=side: x * 2 if x.shape[-1] == side else x.clone()}
        assert machine({"conv2d": 3.0, "channels-last": 1.0}, fault)[0].name == "conv2d"


def test_rounding_is_not_wrong(machine: Callable[..., tuple[Kernel, dict[str, float]]]):
    assert machine({"conv2d": 3.0, "nnpack": 1.0}, {"nnpack": lambda x: x * (1 + 1e-5)})[0].name == "nnpack"


def test_half_precision_and_float64_are_never_chosen_by_timing(machine: Callable[..., tuple[Kernel, dict[str, float]]]):
    chosen, times = machine({"conv2d": 3.0, "bfloat16": 1.0, "float64": 0.5}, {})
    assert chosen.name == "conv2d"
    assert set(times) == {"conv2d"}
