"""What to make: frozen records, one for each room, and the only home of every default.

It knows names, units, ranges and texts (TOML and JSON; ``amounts`` reads what is typed). It refuses
to know how anything is made: no torch, no files but recipe files. Each field's help, unit and range
are written here once; the command line, its documentation and the checks are made from them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from impasto.recipe import values as amounts

Side = Literal["long", "short", "height", "width"]
Statistic = Literal[
    "wasserstein",
    "wasserstein-absolute",
    "gram",
    "gram-gatys",
    "gram-mean",
    "gram-relative",
    "gram-root",
    "mean-deviation",
    "mean-deviation-absolute",
]
Statistics = Annotated[
    dict[Statistic, amounts.Weight],
    BeforeValidator(amounts.weights),
    Field(min_length=1),
    AfterValidator(amounts.in_order),
]


def setting(default: Any, help: str, *, option: str = "", unit: str = "", **bounds: Any) -> Any:
    """A field: its default, what it means, its name on the command line if not the usual one, unit
    and range.
    """
    return Field(
        default, description=help, json_schema_extra={"option": option, "unit": unit}, **bounds
    )


class Record(BaseModel):
    """A frozen record that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(Record):
    """A picture that goes in: a file's path or a painting's name, and the hash of its bytes once
    they have been read.
    """

    path: amounts.FileName
    sha256: str = ""
    weight: float = Field(default=1.0, gt=0, le=1e9)


class Preparation(Record):
    """What is done to the photo before anything else."""

    median: Annotated[Literal[0, 3, 5, 7], BeforeValidator(amounts.whole)] = setting(
        0,
        "Side in px of the square whose median each pixel becomes, against noise; 0: none.",
        option="photo-median",
    )
    colours: float = setting(
        0.0,
        "Share of the way that colours go to the painting's.",
        option="photo-colours",
        ge=0,
        le=1,
    )


class NetworkChoice(Record):
    """The network that looks at the pictures."""

    name: Literal["vgg19", "vgg16"] = setting(
        "vgg19", "The network that looks at the pictures.", option="network"
    )
    pooling: Literal["max", "average"] = setting("max", "How the network halves its maps.")
    padding: Literal["zero", "reflect", "replicate"] = setting(
        "reflect", "What the network sees beyond the border; zero leaves a dark frame."
    )
    scale: Literal["fetched", "caffe", "torchvision"] = setting(
        "fetched",
        "Whose network's maps the fetched one's are made as large as: see docs/recipes.md.",
    )
    gain: float = setting(1.0, "Factor on every feature map.", gt=0, le=1000)
    weights: amounts.FileName = setting(
        "", "A file of weights to use in place of the fetched one.", option="weights"
    )
    weights_sha256: str = ""


class ContentTerm(Record):
    """What holds the photo in place."""

    weight: float = setting(
        0.12, "Weight of the content term at strength 50.", ge=0, le=amounts.HEAVIEST
    )
    layers: amounts.Weights = setting(
        {"relu3_1": 0.5, "relu4_2": 1.0}, "Layers compared with the photo, with their weights."
    )
    scaling: Literal["relative", "mean", "gatys", "sum", "root"] = setting(
        "relative", "What the sum of squared differences is divided by: see docs/recipes.md."
    )
    gain: float = setting(
        1.0, "Factor on the photo's maps: above 1 more contrast than it has.", gt=0, le=10
    )


class StyleTerm(Record):
    """What brings the painting in."""

    weight: float = setting(1.0, "Weight of the style term.", ge=0, le=amounts.HEAVIEST)
    layers: amounts.Weights = setting(
        {"relu1_1": 0.2, "relu2_1": 0.2, "relu3_1": 0.2, "relu4_1": 0.2, "relu5_1": 0.2},
        "Layers compared with the painting, with their weights.",
    )
    statistics: Statistics = setting(
        {"wasserstein": 1.0},
        f"What is compared, several are added: {', '.join(get_args(Statistic))}.",
    )
    scale: float = setting(
        1.0,
        "Size of the painting relative to the picture: above 1 for broader strokes.",
        gt=0.05,
        le=8,
    )
    sizing: Literal["area", "long", "short", "height", "width", "squash", "own"] = setting(
        "area",
        "What `style-scale` is relative to: the picture's area, a side of it, its very shape, or "
        "the painting's own size.",
    )
    enlarge: bool = setting(True, "Whether a painting that is smaller than that is enlarged.")
    gain: float = setting(
        1.0,
        "Factor on the painting's Gram matrices: above 1 more contrast than it has.",
        gt=0,
        le=10,
    )


class SmoothTerm(Record):
    """What holds noise back."""

    weight: float = setting(
        2.0, "Weight of the smoothness term (total variation).", ge=0, le=amounts.HEAVIEST
    )
    measure: Literal["squared", "absolute", "nine-point", "joint", "blur"] = setting(
        "squared", "How a pixel differs from its neighbours: see docs/recipes.md."
    )
    scaling: Literal["mean", "sum"] = setting(
        "mean", "Whether differences are averaged over the picture or added up."
    )


class BoundsTerm(Record):
    """What holds pixels within 0..1 where the solver lets them out."""

    weight: float = setting(
        0.0,
        "Weight of the mean distance by which pixels lie outside 0..1.",
        ge=0,
        le=amounts.HEAVIEST,
    )


class Solver(Record):
    """What searches for the pixels."""

    name: Literal["lbfgs", "adam", "sgd"] = setting(
        "lbfgs", "The method of the search.", option="solver"
    )
    rate: float = setting(
        1.0,
        "Step length: 1 suits lbfgs, 0.02 adam; sgd's is a factor on the gradient itself.",
        gt=0,
        le=1_000_000,
    )
    history: int = setting(10, "Steps that lbfgs remembers.", ge=1, le=1000)
    preconditioner: Literal["learned", "none"] = setting(
        "learned",
        "How far lbfgs goes for a gradient: learned by wave and place, or one number for all, as "
        "torch has it.",
    )
    line_search: Literal["none", "strong-wolfe"] = setting(
        "none", "Whether lbfgs tries how far each step is to go."
    )
    pixel_range: float = setting(
        1.0,
        "What white is to lbfgs without gains, whose steps are measured by it at first.",
        gt=0,
        le=65_535,
    )
    first_decay: float = setting(
        0.9, "What adam's mean gradient keeps of itself at each step.", ge=0, lt=1
    )
    second_decay: float = setting(
        0.99, "What adam's mean squared gradient keeps of itself.", ge=0, lt=1
    )
    epsilon: float = setting(
        1e-8, "What adam adds to the root of the mean squared gradient.", gt=0, le=1_000_000
    )
    rate_decay: float = setting(
        1.0, "Factor by which adam's and sgd's rate falls, bit by bit.", gt=0, le=1
    )
    rate_decay_steps: int = setting(
        100, "Steps in which the rate falls by its factor.", ge=1, le=1_000_000
    )
    clamp: Literal["auto", "yes", "no"] = setting(
        "auto", "Keep pixels in 0..1 after each step; auto: adam and sgd do."
    )
    average: float = setting(
        0.0,
        "Paint a running average of the steps that keeps so much of itself; 0: none.",
        ge=0,
        lt=1,
    )
    carry: bool = setting(False, "Begin a size with the moments that adam has of the one before.")

    @property
    def searches(self) -> bool:
        """Whether it tries how far to go."""
        return self.name == "lbfgs" and self.line_search != "none"


class Schedule(Record):
    """In which sizes the picture is painted, coarse to fine, and how long in each."""

    iterations: amounts.Counts = setting(
        (40, 35, 30), "Evaluations of each size, the coarsest first; the last number serves for "
                      "all larger sizes.",
        option="iterations",
    )  # fmt: skip
    coarsest: int = setting(
        128, "First and coarsest size, by the same side as `size`.", unit="px", ge=16, le=65_536
    )
    growth: float = setting(2.0, "Factor from one size to the next.", gt=1.05, le=16)
    single: bool = setting(False, "Paint in the final size alone.", option="single-scale")
    patience: int = setting(
        50,
        "Evaluations without a visible change after which a size is done; 0 for never.",
        option="patience",
        ge=0,
    )
    start: amounts.FileName = setting(
        "content", "Where to start: content, noise, style, or a picture file.", option="init"
    )
    start_sha256: str = ""
    noise: float = setting(
        0.0, "Share of noise in the picture that the search starts from.", ge=0, le=1
    )
    noise_kind: Literal["normal", "uniform"] = setting("normal", "How noise is spread.")
    noise_spread: float = setting(
        0.1, "Standard deviation of normal noise, half the width of uniform noise.", ge=0, le=1
    )
    noise_centre: Literal["grey", "mean"] = setting(
        "grey", "What noise is spread about: 0.5, or the network's mean colour."
    )


class Compute(Record):
    """On what it is computed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = setting(
        "auto", "Where to compute.", option="device"
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Numbers between layers; auto takes bfloat16 where the processor is made for it.",
        option="precision",
    )
    kernel: str = setting(
        "auto", "How to convolve; auto: the fastest. A run's record has its own.", option="kernel"
    )
    threads: int = setting(
        0, "Processor threads; 0: one for each core.", option="threads", ge=0, le=4096
    )
    tile: int = setting(
        0,
        "Largest side of a tile; 0: the whole picture, or what fits.",
        option="tile",
        unit="px",
        ge=0,
    )
    memory: amounts.Bytes = setting(
        0,
        "Most memory to use, such as 4GB; 0 for what is free.",
        option="memory",
        unit="bytes",
        ge=0,
    )


class Output(Record):
    """How the picture is written."""

    bits: Annotated[Literal[8, 16], BeforeValidator(amounts.whole)] = setting(
        8, "Bits of each colour channel (16: PNG and TIFF)."
    )
    quality: int = setting(95, "Quality of JPEG and WebP files.", ge=1, le=100)


class Recipe(Record):
    """Everything that decides the picture. Same recipe, same machine: same bytes."""

    version: Literal[1] = 1
    name: str = "default"
    summary: str = "A picture to keep: about a minute at 512 px on two cores."
    source: str = ""  # of a published system's recipe
    photo: Input | None = None
    paintings: tuple[Input, ...] = ()
    size: int = setting(
        512,
        "Long side of the picture, or the one that `side` names; 0 for the photo's own size.",
        unit="px",
        ge=0,
        le=65_536,
    )
    side: Side = setting(
        "long", "Which side of the picture `size` and `schedule-coarsest` measure."
    )
    enlarge: bool = setting(True, "Whether a photo that is smaller than `size` is enlarged.")
    strength: float = setting(
        50.0, "How strongly to paint, from a hint (10) to bold (90).", ge=0, le=100
    )
    # Exact in JSON everywhere.
    seed: int = setting(0, "Number that decides every random choice.", ge=0, le=2**53 - 1)
    max_megapixels: float = setting(
        250.0, "Largest photo or painting that is read.", unit="MP", gt=0
    )
    preparation: Preparation = Preparation()
    network: NetworkChoice = NetworkChoice()
    content: ContentTerm = ContentTerm()
    style: StyleTerm = StyleTerm()
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
        pixels = self.smooth.weight > 0 or self.bounds.weight > 0
        return layers | ({"input"} if pixels else set())

    def to_toml(self) -> str:
        """The whole recipe, defaults included, as TOML."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def to_json(self) -> str:
        """The whole recipe, defaults included, as one line of JSON with sorted keys."""
        return json.dumps(
            self.model_dump(mode="json", exclude_none=True), sort_keys=True, ensure_ascii=False
        )

    @property
    def sha256(self) -> str:
        """The hash of what decides the pixels: of pictures their bytes, and no limits, names, or
        ways to write the file.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        for given in (values.get("photo"), *values["paintings"]):
            if given and given["sha256"]:
                del given["path"]
        for name in ("output", "max_megapixels", "name", "summary", "source"):
            del values[name]
        del values["compute"]["memory"]
        for room, name in (("schedule", "start"), ("network", "weights")):
            if values[room][f"{name}_sha256"]:
                del values[room][name]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
