"""Download checked files from package indexes and other addresses, and resume broken downloads."""

from __future__ import annotations

import configparser
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from impasto.errors import AssetUnavailable
from impasto.storage.files import atomic_file, file_sha256, publish, stream_sha256

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 16
_RETRIES = 4  # without a new byte; a slow connection that makes progress is never given up
_PAUSE = 0.5  # seconds before the first retry; doubled each time
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two packets

Report = Callable[[int, int], None]
"""Called with the bytes fetched so far and all bytes."""


class Target(NamedTuple):
    """A file to be fetched: its path, and the size and SHA-256 that it must have."""

    path: Path
    size: int
    sha256: str


class _SourceFailed(Exception):
    """A source cannot give the file, for the reason in the text; another one may."""


def from_indexes(project: str, target: Target, report: Report, failures: list[str]) -> bool:
    """Fetch a project's file, named as ``target``, from the first package index that has it.

    Returns whether that worked. The reasons of indexes that failed are added to ``failures``.
    """
    import requests

    with _session() as session:
        for index in _index_urls():
            public_url, session.auth = _without_login(index)
            try:
                url = _file_url(session, public_url, project, target.path.name, target.sha256)
                if urlsplit(url).netloc != urlsplit(public_url).netloc:
                    # A login is for the host it was given for, and for no other.
                    session.auth = None
                _download(session, url, target, report)
                return True
            except (_SourceFailed, requests.RequestException) as problem:
                failures.append(f"{public_url}: {_reason(problem)}")
    return False


def from_addresses(
    urls: Iterable[str], target: Target, report: Report, failures: list[str]
) -> bool:
    """Fetch a file from the first of these addresses that gives it.

    Returns whether that worked. The reasons of addresses that failed are added to ``failures``.
    """
    import requests

    with _session() as session:
        for url in urls:
            try:
                _download(session, url, target, report)
                return True
            except (_SourceFailed, requests.RequestException) as problem:
                failures.append(f"{url}: {_reason(problem)}")
    return False


def _file_url(session: requests.Session, index: str, project: str, file: str, sha256: str) -> str:
    """The address of a project's file on a package index."""
    from pypi_simple import NoSuchProjectError, PyPISimple

    if urlsplit(index).scheme not in ("http", "https"):
        raise _SourceFailed("only indexes over http and https are read")
    try:
        page = PyPISimple(index, session=session).get_project_page(project, timeout=_TIMEOUT)
    except NoSuchProjectError:
        raise _SourceFailed(f"it has no project {project}") from None
    except (ValueError, KeyError, TypeError) as problem:
        if isinstance(problem, OSError):  # requests' JSON error is both; the caller handles it
            raise
        raise _SourceFailed(f"its answer is no index page ({type(problem).__name__})") from problem
    for package in page.packages:
        if package.filename == file:
            if package.digests.get("sha256", sha256) != sha256:
                raise _SourceFailed(f"its {file} is another file of the same name")
            return package.url
    raise _SourceFailed(f"it does not list {file}")


def _download(session: requests.Session, url: str, target: Target, report: Report) -> None:
    """Download ``url`` to a ``.part`` file, check it, and rename it."""
    part = target.path.with_name(target.path.name + ".part")
    while True:
        is_resumed = part.exists()
        _append_download(session, url, part, target.size, report)
        problem = fault(target._replace(path=part))
        if not problem:
            publish(part, target.path)
            return
        part.unlink(missing_ok=True)
        # If the download was resumed, the old beginning may be damaged: try again from the start.
        if not is_resumed:
            raise _SourceFailed(f"the file was {problem}")


def _append_download(
    session: requests.Session, url: str, part: Path, size: int, report: Report
) -> None:
    """Append to ``part`` until it has ``size`` bytes; resume where the server allows it."""
    most, failures = 0, 0
    while _length(part) != size:
        problem = _append_response(session, url, part, size, report)
        length = _length(part)
        if length >= size or (length and _is_web_page(part)):
            return  # if it is too long or a web page, the caller's check says so
        failures = 0 if length > most else failures + 1
        most = max(most, length)
        if failures >= _RETRIES:
            raise _SourceFailed(
                f"{problem}, at {megabytes(length)} of {megabytes(size)}, {failures} times"
            )
        time.sleep(_PAUSE * 2**failures)


def _append_response(
    session: requests.Session, url: str, part: Path, size: int, report: Report
) -> str:
    """Append what one request gives; return why it may have given too little."""
    from urllib3.exceptions import HTTPError as BrokenBody

    start = _length(part)
    headers = {"Accept-Encoding": "identity"}
    if 0 < start < size:
        headers["Range"] = f"bytes={start}-"
    with session.get(url, stream=True, timeout=_TIMEOUT, headers=headers) as response:
        if response.status_code == 416:  # the server's file is shorter than ``start``
            part.unlink(missing_ok=True)
            return "what it has is shorter than the pinned file"
        response.raise_for_status()
        content_range = response.headers.get("Content-Range", "")
        is_resumed = response.status_code == 206 and content_range.startswith(f"bytes {start}-")
        with part.open("ab" if is_resumed else "wb") as file:
            try:
                # Raw, because some servers label a .tar.gz as gzip-encoded; it must not be decoded.
                for block in response.raw.stream(_CHUNK, decode_content=False):
                    file.write(block)
                    report(min(file.tell(), size), size)
                    if file.tell() > size:
                        break
            except BrokenBody as error:
                return f"the connection broke ({type(error).__name__})"
    return "the connection ended early"


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _session() -> requests.Session:
    """A session with this machine's certificates and proxy, which retries failed requests."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    retry = Retry(
        total=_RETRIES - 1,
        backoff_factor=_PAUSE,
        status_forcelist=(408, 429, 500, 502, 503, 504),
        respect_retry_after_header=False,  # it may ask for an hour
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    # REQUESTS_CA_BUNDLE and the proxy variables are read by requests itself and win over these.
    certificate = _pip_setting("cert") or os.environ.get("SSL_CERT_FILE", "")
    if certificate and Path(certificate).exists():
        session.verify = certificate
    if proxy := _pip_setting("proxy"):
        session.proxies = {"http": proxy, "https": proxy}
    return session


def _reason(problem: Exception) -> str:
    """A network error in words; requests' own texts name sockets and pools."""
    import requests

    if isinstance(problem, requests.exceptions.SSLError):
        return (
            "its certificate is not trusted (behind a company proxy, set REQUESTS_CA_BUNDLE to "
            "the proxy's)"
        )
    if isinstance(problem, requests.exceptions.ProxyError):
        return "the proxy refused the connection"
    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return f"it answered {problem.response.status_code} {problem.response.reason}"
    if isinstance(problem, requests.Timeout):
        return "no answer in time"
    if isinstance(problem, requests.ConnectionError):
        return "no connection"
    return str(problem)


# ---- which package indexes this machine uses -----------------------------------------------------


def _index_urls() -> list[str]:
    """Addresses of the package indexes that pip or uv would use here, the main one first.

    A configured mirror replaces the default index, as with pip. Without any setting it is the
    client library's default.
    """
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    environ = os.environ
    main = (
        environ.get("PIP_INDEX_URL")
        or environ.get("UV_DEFAULT_INDEX")
        or environ.get("UV_INDEX_URL")
    )
    extra = [
        _pip_setting("extra-index-url"),
        environ.get("UV_INDEX", ""),
        environ.get("UV_EXTRA_INDEX_URL", ""),
    ]
    urls = [main or _pip_setting("index-url") or PYPI_SIMPLE_ENDPOINT, *" ".join(extra).split()]
    # uv writes NAME=URL. pip also accepts folders as further indexes; they are left out here.
    urls = [url.split("=", 1)[1] if "=" in url.split(":", 1)[0] else url for url in urls]
    return list(
        dict.fromkeys(url for i, url in enumerate(urls) if i == 0 or url.startswith("http"))
    )


def _without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address without name and password, and those two; messages must not show them."""
    from requests.utils import get_auth_from_url

    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), get_auth_from_url(
        url
    )


def _pip_setting(name: str) -> str:
    """A setting of pip, from its environment variable or else its configuration files; or ""."""
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"), "")
    for file in [] if value else _pip_files():
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, UnicodeError, configparser.Error):
            parser.read_string(file.read_text("utf-8"))
            for section in ("global", "download", "install"):
                for key in (name, name.replace("-", "_")):
                    value = parser.get(section, key, fallback=value)
    return value.strip()


def _pip_files() -> Iterator[Path]:
    """pip's configuration files in the order of its manual; later ones take precedence."""
    import platformdirs

    explicit = os.environ.get("PIP_CONFIG_FILE", "")
    if explicit == os.devnull:
        return
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    shared = platformdirs.site_config_dir("pip", appauthor=False, multipath=True)
    yield from (Path(folder) / name for folder in reversed(shared.split(os.pathsep)))
    if sys.platform != "win32":
        yield Path("/etc") / name
    yield Path.home() / ("pip" if sys.platform == "win32" else ".pip") / name
    if sys.platform == "darwin":
        yield Path.home() / ".config" / "pip" / name
    yield Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True)) / name
    yield Path(sys.prefix) / name
    if explicit:
        yield Path(explicit).expanduser()


# ---- files ---------------------------------------------------------------------------------------


def write_checked(source: IO[bytes], target: Target) -> None:
    """Write a stream to its file, in one atomic step, if its SHA-256 is right.

    Raises AssetUnavailable if it is not, and OSError.
    """
    with atomic_file(target.path) as file:
        shutil.copyfileobj(source, file, _CHUNK)
        file.seek(0)
        sha256 = stream_sha256(file)
        if sha256 != target.sha256:
            raise AssetUnavailable(
                f"{target.path.name} has sha256 {sha256} where {target.sha256} was expected."
            )


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    """The SHA-256 of a file, cached.

    ``size`` and ``changed`` are part of the key, so that a file that was changed is read again.
    """
    return file_sha256(path)


def fault(target: Target) -> str:
    """What is wrong with a file, in words that follow "was"; "" if nothing is."""
    path, size, sha256 = target
    try:
        status = path.stat()
        if status.st_size == size and _sha256(path, size, status.st_mtime_ns) == sha256:
            return ""
        if _is_web_page(path):
            page = f"a web page ({megabytes(status.st_size)}), not the file"
            return f"{page}: perhaps of a proxy or a login"
    except OSError:
        return "not there"
    if status.st_size != size:
        return f"{status.st_size:,} bytes long instead of {size:,}"
    return "of the right length with a wrong sha256"


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--"))


def megabytes(size: int) -> str:
    """A number of bytes as text, such as "58.9 MB" or "12.0 kB"."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
