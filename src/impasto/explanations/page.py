"""Write the HTML page of an explanation, with all pictures embedded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from impasto.explanations import illustrations
from impasto.explanations.results import SAMPLES, Explanation
from impasto.networks.vgg import STYLE_LAYERS
from impasto.storage import templates

_CHECKS = {
    "pixel_error_grows_with_depth": "The pixel error grows from layer to layer.",
    "style_pieces_grow_with_depth": "All layers together bring back larger patches of the "
    "painting than the first layer.",
    "units_answer_more_than_to_any_sample_photo": "Each channel activates more on its picture "
    "than on any sample photo.",
}


def html(explanation: Explanation, files: Mapping[str, bytes], chart: bytes | None) -> str:
    """The page as HTML; ``files`` are the pictures as PNG files by name, ``chart`` the bars."""
    request = explanation.request
    return templates.fill(
        "impasto.explanations",
        "explanation.html",
        explanation=explanation,
        photo=Path(request.photo.source).name,
        painting=Path(request.painting.source).name if request.painting is not None else "",
        network=explanation.network,
        layers=STYLE_LAYERS,
        roles=illustrations.ROLES,
        samples=", ".join(SAMPLES),
        names=illustrations,
        chart=_data_url(chart) if chart else "",
        source=lambda name: _data_url(files[name]),
        checks={_CHECKS[name]: passed for name, passed in explanation.checks.items()},
    )


def _data_url(png: bytes) -> str:
    return templates.data_url("image/png", png)
