"""Every kernel is torch's conv2d over a padded map, forward and backward, and takes for each shape
the method it names.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from impasto.networks import convolution
from impasto.networks.convolution import KERNELS, METHODS, Convolution, Kernel, has_method
from impasto.recipe.choices import Padding

CPU = torch.device("cpu")
# Every kernel by itself, and those whose maps one of the methods puts into another layout and back.
MIXED = {
    f"{base} by {method}": replace(KERNELS[base], default=method)
    for base, method in (
        ("conv2d", "packed"),
        ("channels-last", "packed"),
        ("channels-last", "nnpack"),
        ("bfloat16", "packed"),
    )
}
CANDIDATES = {**KERNELS, **MIXED}
TOLERANCES = {torch.float64: 1e-13, torch.float32: 3e-5, torch.bfloat16: 3e-2}
MODES = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}
# One position, one row, one column, the least that can be reflected, odd, and large enough for
# NNPACK.
SIZES = [(1, 1), (1, 6), (5, 1), (2, 2), (2, 5), (7, 3), (13, 10), (49, 53)]


def reference(x: Tensor, weight: Tensor, bias: Tensor, padding: str) -> Tensor:
    mode = "replicate" if padding == "reflect" and min(x.shape[-2:]) == 1 else MODES[padding]
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode), weight, bias)


def close(found: Tensor, expected: Tensor, kernel: Kernel) -> None:
    assert found.dtype == kernel.dtype
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= TOLERANCES[
        kernel.dtype
    ] * expected.abs().max()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_kernel_is_conv2d_of_the_padded_map(name: str, padding: Padding, size: tuple[int, int]):
    kernel = CANDIDATES[name]
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
    assert built.forward(given, relu=True).is_contiguous(memory_format=form)
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


NNPACK_HERE = pytest.mark.skipif(
    not has_method("nnpack", CPU), reason="this torch has no NNPACK here"
)
PACKED_HERE = pytest.mark.skipif(
    not has_method("packed", CPU), reason="this torch has no packed oneDNN convolutions here"
)


@NNPACK_HERE
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_nnpack_in_bands_of_rows_gives_the_bits_of_nnpack_at_once(
    monkeypatch: pytest.MonkeyPatch, padding: Padding
):
    generator = torch.Generator().manual_seed(0)
    built = Convolution(
        torch.rand(4, 3, 3, 3, generator=generator),
        torch.rand(4, generator=generator),
        KERNELS["nnpack"],
        padding,
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
    kernel = replace(KERNELS["conv2d"], methods={(3, 4, 32): "conv2d", (3, 4, 64): "nnpack"})
    weight = torch.rand(4, 3, 3, 3, generator=generator)
    built = Convolution(weight, torch.rand(4, generator=generator), kernel, "zero")
    x = torch.rand(1, 3, 66, 72, generator=generator)
    whole, block = built.forward(x, relu=False), kernel.block
    assert block == 6
    part = x[..., 2 * block : 6 * block, 3 * block :].contiguous()
    found = built.forward(part, relu=False, positions=66 * 72)
    inner = whole[..., 2 * block : 6 * block, 3 * block :]
    assert torch.equal(found[..., 1:-1, 1:], inner[..., 1:-1, 1:])  # but for the part's own border
    alone = built.forward(part, relu=False)  # as a map of its own it is nearer to 32 than to 64
    assert not torch.equal(alone[..., 1:-1, 1:], inner[..., 1:-1, 1:])


# ---- which method for which shape ----------------------------------------------------------------

SHAPES = {(2, 3, 8): "conv2d", (2, 3, 32): "nnpack", (3, 2, 8): "packed"}


@pytest.mark.parametrize(
    ("positions", "side"),
    [
        (1, 1),
        (2, 1),
        (3, 2),
        (64, 8),
        (127, 8),
        (129, 16),
        (500, 16),
        (524, 32),
        (32 * 24, 32),
        (64 * 48, 64),
        (0, 1),
    ],
)
def test_a_map_counts_as_the_square_it_is_nearest_to(positions: int, side: int):
    assert convolution.nominal_side(positions) == side


@pytest.mark.parametrize(
    ("channels", "positions", "method"),
    [
        ((2, 3), 64, "conv2d"),
        ((2, 3), 1, "conv2d"),
        ((2, 3), 32 * 32, "nnpack"),
        ((2, 3), 4000 * 3000, "nnpack"),
        ((3, 2), 4000 * 3000, "packed"),
        ((3, 3), 64, "channels-last"),  # never timed
    ],
)
def test_a_shape_goes_by_the_nearest_side_that_was_timed(
    channels: tuple[int, int], positions: int, method: str
):
    assert replace(KERNELS["channels-last"], methods=SHAPES).method(*channels, positions) == method


def test_each_way_of_each_shape_runs_by_its_own_method(monkeypatch: pytest.MonkeyPatch):
    ran: list[str] = []

    def watched(name: str) -> convolution.Method:
        def convolve(*given: object) -> Tensor:
            ran.append(name)
            return METHODS["conv2d"].convolve(*given)  # type: ignore[arg-type]

        return replace(METHODS["conv2d"], convolve=convolve)

    built = Convolution(
        torch.rand(3, 2, 3, 3), torch.rand(3), replace(KERNELS["conv2d"], methods=SHAPES), "reflect"
    )
    monkeypatch.setattr(convolution, "has_method", lambda name, device: True)
    monkeypatch.setattr(convolution, "METHODS", {name: watched(name) for name in METHODS})
    for side in (8, 32):
        built.input_gradient(built.forward(torch.rand(1, 2, side, side), relu=False))
    # A tile of a larger picture.
    built.forward(torch.rand(1, 2, 8, 8), relu=False, positions=32 * 32)
    assert ran == ["conv2d", "packed", "nnpack", "packed", "nnpack"]


@pytest.mark.parametrize("missing", ["nnpack", "packed"])
def test_a_method_that_is_missing_is_conv2d(monkeypatch: pytest.MonkeyPatch, missing: str):
    """As when a run is continued with another version of torch."""

    def fails(*given: object) -> Tensor:
        raise RuntimeError("it is not here")

    monkeypatch.setitem(METHODS, missing, replace(METHODS[missing], convolve=fails))
    monkeypatch.setattr(convolution, "has_method", lambda name, device: name != missing)
    weight, bias, x = torch.rand(3, 2, 3, 3), torch.rand(3), torch.rand(1, 2, 9, 8)
    for base in ("conv2d", "channels-last"):
        built = Convolution(weight, bias, replace(KERNELS[base], default=missing), "zero")
        assert torch.allclose(
            built.forward(x, relu=False), functional.conv2d(x, weight, bias, padding=1), atol=1e-5
        )


@PACKED_HERE
@pytest.mark.parametrize("part", ["_convolution_pointwise", "_is_available"])
def test_what_torch_does_not_have_is_not_here(monkeypatch: pytest.MonkeyPatch, part: str):
    assert not has_method("packed", torch.device("meta"))
    if part == "_is_available":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    else:
        monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    assert not has_method("packed", CPU)
    monkeypatch.setattr(torch, "_nnpack_available", lambda: False)
    assert (
        not has_method("nnpack", CPU)
        and has_method("conv2d", CPU)
        and has_method("channels-last", CPU)
    )


def test_blocks_matter_where_nnpack_is_among_the_methods():
    assert replace(KERNELS["conv2d"], methods=SHAPES).block == 6
    assert replace(KERNELS["conv2d"], methods={(3, 2, 8): "packed"}).block == 1
    assert KERNELS["nnpack"].block == 6 and KERNELS["bfloat16"].block == 1


def test_a_kernel_is_one_line_and_comes_back_from_it():
    kernel = replace(KERNELS["nnpack"], methods=SHAPES)
    assert kernel.text == "nnpack 2>3@8=conv2d 2>3@32=nnpack 3>2@8=packed"
    for each in (kernel, *KERNELS.values()):
        assert Kernel.parse(each.text) == each


@pytest.mark.parametrize(
    "text",
    ["", "abacus", "nnpack 2>3@8=abacus", "nnpack 2>3=packed", "nnpack 2>3@x=packed", "nnpack 2"],
)
def test_what_is_no_kernel_is_refused(text: str):
    with pytest.raises(ValueError):  # noqa: PT011 - numbers and pairs have messages of their own
        Kernel.parse(text)


def test_a_summary_names_the_sides_where_a_method_has_not_all():
    kernel = replace(KERNELS["nnpack"], methods={**SHAPES, (2, 3, 16): "conv2d"})
    assert kernel.summary() == "conv2d: 2>3 at 8/16; nnpack: 2>3 at 32; packed: 3>2"
