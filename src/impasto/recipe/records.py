"""The recipe: frozen records of every setting, with its default, help, unit and range.

The command line, its help, docs/settings.md and the checks are all made from these fields.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

import tomli_w
from pydantic import BeforeValidator, Field

from impasto.recipe.choices import (
    Clamp,
    DeviceChoice,
    LineSearch,
    NetworkName,
    NoiseCenter,
    NoiseKind,
    Padding,
    Pooling,
    Precision,
    Preconditioner,
    Scale,
    Side,
    SolverName,
)
from impasto.recipe.fields import Record, setting
from impasto.recipe.loss_terms import (
    BoundsTerm,
    ContentTerm,
    HistogramTerm,
    LaplacianTerm,
    NearestTerm,
    PaletteTerm,
    ProtectTerm,
    SmoothTerm,
    StyleTerm,
)
from impasto.recipe.values import Bytes, Counts, FileName, parse_integer


class Input(Record):
    """A picture to read: a file's path or a painting's name, and the SHA-256 of the file once it
    has been read.
    """

    path: FileName
    sha256: str = ""
    weight: float = Field(default=1.0, gt=0, le=1e9)


class Preparation(Record):
    """What is done to the photo before it is used."""

    median: Annotated[Literal[0, 3, 5, 7], BeforeValidator(parse_integer)] = setting(
        0,
        "Remove noise from the photo by a median filter of this side in pixels; 0 turns it off.",
        option="photo-median",
        published_only=True,
    )
    colours: float = setting(
        0.0,
        "Shift the photo's colors toward the painting's before painting: 0 not at all, 1 until "
        "their mean and deviation match.",
        option="photo-colours",
        published_only=True,
        ge=0,
        le=1,
    )


class NetworkChoice(Record):
    """The network whose feature maps are compared."""

    name: NetworkName = setting(
        "vgg19", "Pretrained network whose feature maps are compared.", option="network"
    )
    pooling: Pooling = setting(
        "max", "Pooling layers by which the network halves its feature maps."
    )
    padding: Padding = setting(
        "reflect", "Padding at the border of the picture; zero leaves a dark frame."
    )
    scale: Scale = setting(
        "fetched",
        "Rescale activations to match those of: fetched (the downloaded weights unchanged), caffe, "
        "torchvision.",
        published_only=True,
    )
    gain: float = setting(1.0, "Factor on every activation.", published_only=True, gt=0, le=1000)
    weights: FileName = setting(
        "", "File of network weights to use instead of the downloaded ones.", option="weights"
    )
    weights_sha256: str = ""


class Solver(Record):
    """The optimizer of the pixels."""

    name: SolverName = setting(
        "lbfgs",
        "Optimizer that changes the pixels.",
        option="solver",
        published_choices=("sgd",),
    )
    rate: float = setting(
        1.0,
        "Step size (learning rate): 1 suits lbfgs, 0.02 suits adam; for sgd it is the factor on "
        "the gradient.",
        gt=0,
        le=1_000_000,
    )
    history: int = setting(
        10, "Number of past steps from which lbfgs estimates the curvature.", ge=1, le=1000
    )
    preconditioner: Preconditioner = setting(
        "learned",
        "Scaling of the steps of lbfgs: learned has a factor for each frequency and position; none "
        "has one factor for all pixels, as in PyTorch.",
    )
    line_search: LineSearch = setting(
        "none", "Search for the length of each step of lbfgs; none takes the step as it is."
    )
    pixel_range: float = setting(
        1.0,
        "Pixel scale assumed for L-BFGS's first step (1 or 255); only without a preconditioner.",
        published_only=True,
        gt=0,
        le=65_535,
    )
    first_decay: float = setting(
        0.9, "Adam's beta 1, the decay rate of the mean gradient.", ge=0, lt=1
    )
    second_decay: float = setting(
        0.99, "Adam's beta 2, the decay rate of the mean squared gradient.", ge=0, lt=1
    )
    epsilon: float = setting(
        1e-8,
        "Adam's epsilon, added to the root of the mean squared gradient.",
        gt=0,
        le=1_000_000,
    )
    rate_decay: float = setting(
        1.0,
        "Factor by which the step size of adam and sgd falls over `solver-rate-decay-steps` steps.",
        published_only=True,
        gt=0,
        le=1,
    )
    rate_decay_steps: int = setting(
        100,
        "Number of steps over which the step size falls by `solver-rate-decay`.",
        published_only=True,
        ge=1,
        le=1_000_000,
    )
    clamp: Clamp = setting(
        "auto", "Clamp pixels to 0..1 after each step; auto does so for adam and sgd."
    )
    average: float = setting(
        0.0,
        "Paint the exponential moving average of the pictures after each step, with this decay "
        "rate; 0 paints the last picture.",
        published_only=True,
        ge=0,
        lt=1,
    )
    carry: bool = setting(
        False, "Keep adam's moments from one size to the next.", published_only=True
    )

    @property
    def uses_line_search(self) -> bool:
        """Whether the length of each step is searched for."""
        return self.name == "lbfgs" and self.line_search != "none"


class Schedule(Record):
    """The sizes at which the picture is painted, coarse to fine, and the evaluations at each."""

    iterations: Counts = setting(
        (40, 35, 30),
        "Evaluations of the loss and its gradient at each size, the coarsest first; the last "
        "number counts for all larger sizes.",
        option="iterations",
        common=True,
    )
    coarsest: int = setting(
        128,
        "First and coarsest size, measured along the same side as `size`. It is the nearest that "
        "`schedule-growth` leads to from `size`.",
        unit="px",
        ge=16,
        le=65_536,
    )
    growth: float = setting(2.0, "Factor from one size to the next.", gt=1.05, le=16)
    single: bool = setting(
        False, "Paint at the final size only, without coarser ones first.", option="single-scale"
    )
    patience: int = setting(
        50,
        "Compare the picture every so many evaluations, and end the size if nothing visible has "
        "changed; 0 never does. Sizes with fewer evaluations are not affected.",
        option="patience",
        ge=0,
    )
    start: FileName = setting(
        "content",
        "Picture to start from: content (the photo), noise, style (the painting), or a file.",
        option="init",
    )
    start_sha256: str = ""
    noise: float = setting(
        0.0, "Share of noise that is mixed into the picture to start from.", ge=0, le=1
    )
    noise_kind: NoiseKind = setting(
        "normal", "Distribution of the noise to start from.", published_only=True
    )
    noise_spread: float = setting(
        0.1,
        "Standard deviation of normal noise, half the width of uniform noise.",
        published_only=True,
        ge=0,
        le=1,
    )
    noise_centre: NoiseCenter = setting(
        "grey",
        "Mean of the noise: 0.5 (grey), or the network's mean color (mean).",
        published_only=True,
    )


class Compute(Record):
    """The device, and the limits on what it uses."""

    device: DeviceChoice = setting(
        "auto",
        "Device to compute on; auto takes a GPU if there is one.",
        option="device",
        common=True,
    )
    precision: Precision = setting(
        "auto",
        "Number format between layers; auto takes bfloat16 where the processor is made for it.",
        option="precision",
    )
    kernel: str = setting(
        "auto",
        "Convolution algorithm; auto takes the fastest. The record of a run names the one used.",
        option="kernel",
    )
    threads: int = setting(
        0, "Processor threads; 0 takes one for each core.", option="threads", ge=0, le=4096
    )
    tile: int = setting(
        0,
        "Largest side of a tile; 0 paints the whole picture at once where memory allows.",
        option="tile",
        unit="px",
        ge=0,
    )
    memory: Bytes = setting(
        0,
        "Most memory to use, such as 4GB; 0 takes what is free.",
        option="memory",
        unit="bytes",
        common=True,
        ge=0,
    )


class Output(Record):
    """The file of the picture."""

    bits: Annotated[Literal[8, 16], BeforeValidator(parse_integer)] = setting(
        8, "Bits of each color channel; 16 needs a PNG or TIFF file."
    )
    quality: int = setting(95, "Quality of JPEG and WebP files.", ge=1, le=100)


class Recipe(Record):
    """Everything that decides the picture: the same recipe gives the same bytes on one machine."""

    version: Literal[1] = 1
    name: str = "default"
    summary: str = "A picture to keep: a minute and a half at 512 px on two cores."
    source: str = ""  # of a published system's recipe
    photo: Input | None = None
    paintings: tuple[Input, ...] = ()
    size: int = setting(
        512,
        "Long side of the picture, or the side that `side` names; 0 takes the photo's own size.",
        unit="px",
        common=True,
        ge=0,
        le=65_536,
    )
    side: Side = setting(
        "long",
        "Side that `size` and `schedule-coarsest` measure; area is that of the square with as many "
        "pixels.",
    )
    enlarge: bool = setting(True, "Enlarge a photo that is smaller than `size`.")
    strength: float = setting(
        50.0,
        "How strongly the style shows, from a hint (10) to bold (90).",
        common=True,
        ge=0,
        le=100,
    )
    # JSON numbers are exact up to 2**53 in every reader.
    seed: int = setting(0, "Seed of every random choice.", common=True, ge=0, le=2**53 - 1)
    max_megapixels: float = setting(
        250.0, "Largest photo or painting that is read.", unit="MP", gt=0
    )
    preparation: Preparation = Preparation()
    network: NetworkChoice = NetworkChoice()
    content: ContentTerm = ContentTerm()
    style: StyleTerm = StyleTerm()
    protect: ProtectTerm = ProtectTerm()
    nearest: NearestTerm = NearestTerm()
    histogram: HistogramTerm = HistogramTerm()
    laplacian: LaplacianTerm = LaplacianTerm()
    palette: PaletteTerm = PaletteTerm()
    smooth: SmoothTerm = SmoothTerm()
    bounds: BoundsTerm = BoundsTerm()
    solver: Solver = Solver()
    schedule: Schedule = Schedule()
    compute: Compute = Compute()
    output: Output = Output()

    @property
    def used_layers(self) -> set[str]:
        """The names of the layers that the loss needs; "input" is the picture itself."""
        layers = set(self.content.layers) if self.content.weight > 0 else set()
        layers |= set(self.style.layers) if self.style.weight > 0 else set()
        layers |= set(self.nearest.layers) if self.nearest.weight > 0 else set()
        layers |= set(self.histogram.layers) if self.histogram.weight > 0 else set()
        of_pixels = (self.laplacian, self.palette, self.smooth, self.bounds)
        return layers | ({"input"} if any(term.weight > 0 for term in of_pixels) else set())

    def to_toml(self) -> str:
        """Return the whole recipe, defaults included, as TOML."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def to_json(self) -> str:
        """Return the whole recipe, defaults included, as one line of JSON with sorted keys."""
        return json.dumps(
            self.model_dump(mode="json", exclude_none=True), sort_keys=True, ensure_ascii=False
        )

    @property
    def sha256(self) -> str:
        """The hash of everything that decides the pixels.

        Files that have been read count by their bytes and not by their paths. Names, limits on
        memory and the output format do not count.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        for picture in (values.get("photo"), *values["paintings"]):
            if picture and picture["sha256"]:
                del picture["path"]
        for name in ("output", "max_megapixels", "name", "summary", "source"):
            del values[name]
        del values["compute"]["memory"]
        for record, name, sha256 in (
            ("schedule", "start", "start_sha256"),
            ("network", "weights", "weights_sha256"),
            ("protect", "regions", "mask_sha256"),
        ):
            if values[record][sha256]:
                del values[record][name]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
