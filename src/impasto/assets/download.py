"""Bytes over a bad line into a checked file: package indexes, plain addresses, resuming, sha256.

It knows which package indexes, certificates and proxy this machine is set up to use, and how to
tell a file from a web page that came in its stead. It refuses to know which files are wanted and
what they are for.
"""

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
_RETRIES = 4  # in a row without a single new byte; a slow line that moves is never given up
_PAUSE = 0.5  # seconds before the first new attempt; doubled each time
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two packets

Report = Callable[[int, int], None]
"""Called with the bytes fetched so far and the bytes in all."""


class Target(NamedTuple):
    """The file to be had: where it goes, and what it must be."""

    path: Path
    size: int
    sha256: str


class _NotHere(Exception):
    """This source cannot give the file, for the reason in the text; another may."""


def from_indexes(project: str, target: Target, report: Report, tried: list[str]) -> bool:
    """Fetch the project's file of that name from the first index that has it; reasons go to
    ``tried``.
    """
    import requests

    with _session() as session:
        for index in _indexes():
            bare, session.auth = _without_login(index)
            try:
                url = _address(session, bare, project, target.path.name, target.sha256)
                if urlsplit(url).netloc != urlsplit(bare).netloc:
                    # A login is for the host it was given for, and for no other.
                    session.auth = None
                _download(session, url, target, report)
                return True
            except (_NotHere, requests.RequestException) as problem:
                tried.append(f"{bare}: {_reason(problem)}")
    return False


def from_addresses(urls: Iterable[str], target: Target, report: Report, tried: list[str]) -> bool:
    """Fetch the file from the first of these addresses that gives it; reasons go to ``tried``."""
    import requests

    with _session() as session:
        for url in urls:
            try:
                _download(session, url, target, report)
                return True
            except (_NotHere, requests.RequestException) as problem:
                tried.append(f"{url}: {_reason(problem)}")
    return False


def _address(session: requests.Session, index: str, project: str, file: str, sha256: str) -> str:
    """Where this index keeps the archive."""
    from pypi_simple import NoSuchProjectError, PyPISimple

    if urlsplit(index).scheme not in ("http", "https"):
        raise _NotHere("only indexes over http and https are read")
    try:
        page = PyPISimple(index, session=session).get_project_page(project, timeout=_TIMEOUT)
    except NoSuchProjectError:
        raise _NotHere(f"it has no project {project}") from None
    except (ValueError, KeyError, TypeError) as problem:
        if isinstance(problem, OSError):  # requests' JSON error is both; the caller words it
            raise
        raise _NotHere(f"its answer is no index page ({type(problem).__name__})") from problem
    for package in page.packages:
        if package.filename == file:
            if package.digests.get("sha256", sha256) != sha256:
                raise _NotHere(f"its {file} is another file of the same name")
            return package.url
    raise _NotHere(f"it does not list {file}")


def _download(session: requests.Session, url: str, target: Target, report: Report) -> None:
    """Bring ``url`` to its place by way of a ``.part`` file, and check it there."""
    part = target.path.with_name(target.path.name + ".part")
    while True:
        continued = part.exists()
        _pull(session, url, part, target.size, report)
        wrong = fault(target._replace(path=part))
        if not wrong:
            publish(part, target.path)
            return
        part.unlink(missing_ok=True)
        # Otherwise the old beginning may be what is wrong: once more from the start.
        if not continued:
            raise _NotHere(f"what came was {wrong}")


def _pull(session: requests.Session, url: str, part: Path, size: int, report: Report) -> None:
    """Append to ``part`` until it is whole; a broken connection is taken up where the server allows
    it.
    """
    from urllib3.exceptions import HTTPError as BrokenBody

    furthest, failures = 0, 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have == size:
            return
        headers = {"Accept-Encoding": "identity"} | (
            {"Range": f"bytes={have}-"} if 0 < have < size else {}
        )
        why = "the connection ended early"
        with session.get(url, stream=True, timeout=_TIMEOUT, headers=headers) as answer:
            if answer.status_code == 416:  # it knows a shorter file than the one begun: begin anew
                part.unlink(missing_ok=True)
                why = "what it has is shorter than the pinned file"
            else:
                answer.raise_for_status()
                goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                with part.open("ab" if answer.status_code == 206 and goes_on else "wb") as file:
                    try:
                        # raw: some servers label a .tar.gz as gzip-encoded; it must not be decoded
                        # on the way
                        for block in answer.raw.stream(_CHUNK, decode_content=False):
                            file.write(block)
                            report(min(file.tell(), size), size)
                            if file.tell() > size:
                                return  # longer than it may be: the caller's check says so
                    except BrokenBody as problem:
                        why = f"the connection broke ({type(problem).__name__})"
        got = part.stat().st_size if part.exists() else 0
        if got >= size or (got and _is_web_page(part)):
            return
        failures = 0 if got > furthest else failures + 1
        furthest = max(furthest, got)
        if failures >= _RETRIES:
            raise _NotHere(f"{why}, at {megabytes(got)} of {megabytes(size)}, {failures} times")
        time.sleep(_PAUSE * 2**failures)


def _session() -> requests.Session:
    """A session with the machine's certificates and proxy, that asks again a few times before it
    gives up.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    again = Retry(
        total=_RETRIES - 1,
        backoff_factor=_PAUSE,
        status_forcelist=(408, 429, 500, 502, 503, 504),
        respect_retry_after_header=False,  # it may ask for an hour
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
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
        return "its certificate is not trusted (behind a company proxy, set REQUESTS_CA_BUNDLE to the proxy's)"
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


def _indexes() -> list[str]:
    """Addresses of the package indexes that pip or uv would ask here, the main one first.

    With no setting at all that is the client library's own. A configured mirror replaces it, as
    with pip.
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
    chosen = [main or _pip_setting("index-url") or PYPI_SIMPLE_ENDPOINT, *" ".join(extra).split()]
    # uv writes NAME=URL; a folder given as an index is for pip alone, and must not stand in the
    # way.
    chosen = [url.split("=", 1)[1] if "=" in url.split(":", 1)[0] else url for url in chosen]
    return list(
        dict.fromkeys(url for i, url in enumerate(chosen) if i == 0 or url.startswith("http"))
    )


def _without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """The address without name and password, and those two: messages must not show them."""
    from requests.utils import get_auth_from_url

    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), get_auth_from_url(
        url
    )


def _pip_setting(name: str) -> str:
    """A setting of pip as pip finds it: its environment variable, else the last file with it; or
    empty.
    """
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
    """pip's configuration files where its manual puts them, the weakest first."""
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
    """Digest of a file; size and time of change are there so that an altered file is read again."""
    return file_sha256(path)


def fault(target: Target) -> str:
    """What is wrong with the file there, as words that follow 'was'; empty if it is the right one."""
    path, size, sha256 = target
    try:
        found = path.stat()
        if found.st_size == size and _sha256(path, size, found.st_mtime_ns) == sha256:
            return ""
        if _is_web_page(path):
            return f"a web page ({megabytes(found.st_size)}), not the file: perhaps of a proxy or a login"
    except OSError:
        return "not there"
    if found.st_size != size:
        return f"{found.st_size:,} bytes long instead of {size:,}"
    return "of the right length with a wrong sha256"


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--"))


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
