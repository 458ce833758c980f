"""Fetching, against a small package index on this machine: no test here leaves it."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from impasto.assets import catalogue, download
from impasto.assets.catalogue import Archive, Asset
from impasto.errors import AssetUnavailable, UnknownName

MEMBERS = {
    "toy-1.0/models/first.pth": bytes(range(256)) * 1200,
    "toy-1.0/models/second.pth": b"second" * 50,
    "toy-1.0/setup.py": b"raise SystemExit('the archive was run')",
}


def tarball() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), compresslevel=0, mtime=0)


ARCHIVE = tarball()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def table(upstream: str = "") -> dict[str, Asset]:
    """Two members of one archive, and an archive that is an asset itself."""
    archive = Archive("toy", "1.0", "toy-1.0.tar.gz", len(ARCHIVE), sha256(ARCHIVE), "MIT")
    made = []
    for name in ("first", "second"):
        content = MEMBERS[f"toy-1.0/models/{name}.pth"]
        made.append(
            Asset(
                name,
                f"{name}.pth",
                archive,
                f"toy-1.0/models/{name}.pth",
                len(content),
                sha256(content),
                "MIT",
                "made up",
                (upstream,) if upstream else (),
            )
        )
    wheel = replace(archive, file="toy-1.0.whl")
    made.append(Asset("whole", wheel.file, wheel, None, wheel.size, wheel.sha256, "CC0", "made up"))
    return {asset.name: asset for asset in made}


class Index(ThreadingHTTPServer):
    """A package index whose manners can be spoilt."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.content = ARCHIVE
        self.ranges = True
        # Bytes of each answer after which the line goes dead, while there are any.
        self.break_after: list[int] = []
        self.hang = False  # after break_after, keep the line open
        self.delay = 0.0
        self.status = 200
        self.login = ""
        self.as_html = False
        self.listed_sha256: str | None = sha256(ARCHIVE)
        self.files_at = "../.."
        self.asked: list[tuple[str, str]] = []  # (path, Range)
        self.logins: list[str] = []
        self.sent = 0  # bytes of files

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Index

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        index = self.server
        index.asked.append((self.path, self.headers.get("Range", "")))
        index.logins.append(self.headers.get("Authorization", ""))
        if index.login and self.headers.get("Authorization") != f"Basic {index.login}":
            self.answer(401, b"who are you?")
        elif self.path.startswith("/simple/toy/"):
            self.answer_page()
        elif self.path.startswith("/files/"):
            self.answer_file()
        else:
            self.answer(404, b"nothing here")

    def answer(self, status: int, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer_page(self) -> None:
        index = self.server
        names = ("toy-1.0.tar.gz", "toy-1.0.whl")
        if index.as_html:
            links = "".join(
                f'<a href="../../files/{n}#sha256={index.listed_sha256}">{n}</a>' for n in names
            )
            self.answer(
                200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html"
            )
            return
        hashes = {"sha256": index.listed_sha256} if index.listed_sha256 else {}
        files = [
            {"filename": n, "url": f"{index.files_at}/files/{n}", "hashes": hashes} for n in names
        ]
        page = {"meta": {"api-version": "1.0"}, "name": "toy", "files": files}
        self.answer(200, json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json")

    def answer_file(self) -> None:
        index = self.server
        if index.status != 200:
            self.answer(index.status, b"not now")
            return
        time.sleep(index.delay)
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and index.ranges:
            start = int(asked[1])
            if start >= len(index.content):
                self.answer(416, b"")
                return
            self.send_response(206)
            self.send_header(
                "Content-Range", f"bytes {start}-{len(index.content) - 1}/{len(index.content)}"
            )
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(index.content) - start))
        self.end_headers()
        body = index.content[start:]
        if index.break_after:
            self.wfile.write(body[: index.break_after.pop(0)])
            self.wfile.flush()
            if index.hang:
                time.sleep(30)
            self.close_connection = True
            return
        for start in range(0, len(body), 1 << 16):
            self.wfile.write(body[start : start + (1 << 16)])
            index.sent += 1 << 16


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    for name in list(os.environ):
        if name.upper().startswith(("PIP_", "UV_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    server = Index()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.setattr(catalogue, "ASSETS", table())
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def contents(folder: Path) -> list[str]:
    """The names of the files in the folder."""
    return sorted(path.name for path in folder.iterdir())


def files_asked(index: Index) -> list[str]:
    return [range_ for path, range_ in index.asked if path.startswith("/files/")]


# ---- the table and the cache ---------------------------------------------------------------------


def test_the_table_is_pinned_and_says_where_everything_comes_from():
    assert {"vgg19-normalised", "adain-decoder", "vgg16-lpips", "alexnet-lpips", "museum"} <= set(
        catalogue.ASSETS
    )
    for name, asset in catalogue.ASSETS.items():
        assert asset.name == name
        for pin in (asset.sha256, asset.archive.sha256):
            assert re.fullmatch(r"[0-9a-f]{64}", pin)
        assert asset.size > 0 and asset.archive.size > 0
        assert asset.licence and asset.archive.licence and asset.origin.endswith(".")
        assert asset.member is not None or (asset.file, asset.sha256) == (
            asset.archive.file,
            asset.archive.sha256,
        )
    assert len({asset.file for asset in catalogue.ASSETS.values()}) == len(catalogue.ASSETS)


def test_importing_is_quick_and_touches_nothing():
    heavy = "{'torch', 'requests', 'numpy', 'PIL'}"
    code = f"import sys, impasto.assets.museum; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "here"))
    assert catalogue.cache_dir() == tmp_path / "here"
    assert not (tmp_path / "here").exists()
    monkeypatch.delenv("IMPASTO_CACHE")
    # Windows puts "Cache" below the name.
    assert catalogue.cache_dir().name.lower() in ("impasto", "cache")


def test_an_unknown_name_is_refused_with_a_suggestion(index: Index):
    with pytest.raises(UnknownName, match="first, second, whole") as caught:
        catalogue.fetch("frist")
    assert "first" in caught.value.hint
    assert index.asked == []


# ---- good days -----------------------------------------------------------------------------------


@pytest.mark.parametrize("as_html", [False, True])
def test_fetch_takes_all_members_and_leaves_nothing_else(index: Index, as_html: bool):
    index.as_html = as_html
    seen: list[tuple[str, int, int]] = []
    assert not catalogue.is_fetched("first")
    path = catalogue.fetch("first", progress=lambda *state: seen.append(state))
    assert path.read_bytes() == MEMBERS["toy-1.0/models/first.pth"]
    assert contents(path.parent) == ["first.pth", "second.pth"]
    assert (
        catalogue.is_fetched("first")
        and catalogue.is_fetched("second")
        and not catalogue.is_fetched("whole")
    )
    assert seen[-1] == ("first", len(ARCHIVE), len(ARCHIVE))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen) and len(seen) > 2
    index.asked.clear()
    assert catalogue.fetch("first") == path
    catalogue.fetch("second", offline=True)
    assert index.asked == []


def test_an_archive_can_be_the_asset_itself(index: Index):
    path = catalogue.fetch("whole")
    assert path.read_bytes() == ARCHIVE
    assert contents(path.parent) == ["toy-1.0.whl"]


def test_fetch_all_into_a_folder_serves_a_machine_without_network(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    cached = catalogue.fetch("first")
    index.asked.clear()
    paths = catalogue.fetch_all(to=tmp_path / "stick")
    assert [path.parent for path in paths] == [tmp_path / "stick"] * 3
    assert len(files_asked(index)) == 1  # "whole"; the rest was copied from the cache
    assert contents(cached.parent) == ["first.pth", "second.pth"]
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "stick"))
    assert [catalogue.fetch(name, offline=True) for name in catalogue.ASSETS] == paths


def test_a_damaged_file_in_the_cache_is_fetched_again(index: Index):
    path = catalogue.fetch("first")
    path.write_bytes(b"x" * path.stat().st_size)
    assert catalogue.fetch("first").read_bytes() == MEMBERS["toy-1.0/models/first.pth"]


# ---- bad lines -----------------------------------------------------------------------------------


def test_a_broken_download_goes_on_where_it_was(index: Index):
    index.break_after = [100_000, 100_000]
    assert catalogue.fetch("first").read_bytes() == MEMBERS["toy-1.0/models/first.pth"]
    first, second, third = files_asked(index)
    assert first == "" and second == "bytes=100000-" and third == "bytes=200000-"


def test_a_line_that_moves_is_never_given_up(index: Index):
    index.break_after = [30_000] * 8
    catalogue.fetch("first")
    assert len(files_asked(index)) == 9


def test_without_range_it_starts_again_cleanly(index: Index):
    index.ranges = False
    index.break_after = [100_000, 200_000]
    assert catalogue.fetch("first").read_bytes() == MEMBERS["toy-1.0/models/first.pth"]
    assert len(files_asked(index)) == 3


def test_a_line_that_never_moves_is_given_up_and_kept_for_the_next_time(index: Index):
    index.break_after = [100_000] + [0] * 50
    with pytest.raises(AssetUnavailable, match=r"connection broke .* 0\.1 MB of 0\.3 MB"):
        catalogue.fetch("first")
    assert len(files_asked(index)) < 10
    assert contents(catalogue.cache_dir()) == ["toy-1.0.tar.gz.part"]
    index.break_after = []
    index.asked.clear()
    catalogue.fetch("first")
    assert files_asked(index) == ["bytes=100000-"]


def test_a_wrong_beginning_left_from_earlier_is_dropped(index: Index):
    catalogue.cache_dir().mkdir()
    (catalogue.cache_dir() / "toy-1.0.tar.gz.part").write_bytes(b"x" * 1000)
    assert catalogue.fetch("first").read_bytes() == MEMBERS["toy-1.0/models/first.pth"]
    assert files_asked(index) == ["bytes=1000-", ""]


def test_a_killed_process_leaves_no_lock_and_its_bytes_are_used(index: Index):
    index.break_after, index.hang = [200_000], True
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(asdict(catalogue.ASSETS["first"]))]
    )
    part = catalogue.cache_dir() / "toy-1.0.tar.gz.part"
    wait_for(lambda: part.exists() and part.stat().st_size >= 131_072)
    process.kill()
    process.wait()
    index.asked.clear()
    assert catalogue.fetch("first").read_bytes() == MEMBERS["toy-1.0/models/first.pth"]
    assert len(files_asked(index)) == 1
    assert int(files_asked(index)[0][len("bytes=") : -1]) >= 131_072


CHILD = """
import json, sys
from impasto.assets import catalogue as assets
about = json.loads(sys.argv[1])
about["archive"] = assets.Archive(**about["archive"])
assets.ASSETS = {about["name"]: assets.Asset(**about)}
print(assets.fetch(about["name"]))
"""


def wait_for(happened, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@pytest.mark.slow
def test_two_processes_fetch_once(index: Index):
    index.delay = 1.0
    command = [sys.executable, "-c", CHILD, json.dumps(asdict(catalogue.ASSETS["first"]))]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=30)[0].strip() for process in processes]
    assert answers == [str(catalogue.cache_dir() / "first.pth")] * 2
    assert len(files_asked(index)) == 1
    assert contents(catalogue.cache_dir()) == ["first.pth"]


# ---- wrong files ---------------------------------------------------------------------------------


def test_another_file_is_deleted_and_said(index: Index):
    index.content = b"x" * len(ARCHIVE)
    with pytest.raises(AssetUnavailable, match="wrong sha256"):
        catalogue.fetch("first")
    assert contents(catalogue.cache_dir()) == []


def test_a_longer_file_is_not_read_to_its_end(index: Index):
    index.content = ARCHIVE + b"x" * 50_000_000
    with pytest.raises(AssetUnavailable, match="bytes long instead of"):
        catalogue.fetch("first")
    assert index.sent < 40_000_000
    assert contents(catalogue.cache_dir()) == []


def test_a_web_page_is_called_a_web_page(index: Index):
    index.content = b"\n<!DOCTYPE html>\n<html><body>Please log in</body></html>"
    with pytest.raises(AssetUnavailable, match=r"a web page \(0\.1 kB\)"):
        catalogue.fetch("first")
    assert contents(catalogue.cache_dir()) == []


def test_an_index_that_lists_another_sum_is_not_even_asked_for_the_file(index: Index):
    index.listed_sha256 = "0" * 64
    with pytest.raises(AssetUnavailable, match="another file of the same name"):
        catalogue.fetch("first")
    assert files_asked(index) == []


@pytest.mark.parametrize("change", [{"member": "toy-1.0/nothing.pth"}, {"sha256": "0" * 64}])
def test_a_member_that_is_missing_or_wrong(
    index: Index, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
):
    monkeypatch.setitem(catalogue.ASSETS, "first", replace(catalogue.ASSETS["first"], **change))
    with pytest.raises(
        AssetUnavailable, match=r"does not contain toy-1.0/nothing.pth|first.pth has sha256"
    ):
        catalogue.fetch("first")
    assert "first.pth" not in contents(catalogue.cache_dir())


# ---- no network, no room -------------------------------------------------------------------------


def test_offline_says_what_is_missing_and_how_to_bring_it(index: Index):
    with pytest.raises(AssetUnavailable) as caught:
        catalogue.fetch("first", offline=True)
    for part in ("first", "0.3 MB", "toy-1.0.tar.gz", "toy 1.0", "offline"):
        assert part in caught.value.message
    for part in (
        "pip download --no-deps --no-binary :all: toy==1.0",
        "toy-1.0.tar.gz",
        str(catalogue.cache_dir()),
    ):
        assert part in caught.value.hint
    assert index.asked == []


def test_an_archive_put_there_by_hand_is_used_without_network(index: Index):
    catalogue.cache_dir().mkdir()
    (catalogue.cache_dir() / "toy-1.0.tar.gz").write_bytes(ARCHIVE)
    assert (
        catalogue.fetch("second", offline=True).read_bytes() == MEMBERS["toy-1.0/models/second.pth"]
    )
    assert contents(catalogue.cache_dir()) == ["first.pth", "second.pth"]


def test_a_wrong_archive_put_there_by_hand_is_named(index: Index):
    catalogue.cache_dir().mkdir()
    (catalogue.cache_dir() / "toy-1.0.tar.gz").write_bytes(b"<html>403</html>")
    with pytest.raises(AssetUnavailable, match=r"toy-1.0.tar.gz was a web page"):
        catalogue.fetch("first", offline=True)
    assert contents(catalogue.cache_dir()) == []


def test_no_server_at_all(index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    with pytest.raises(AssetUnavailable, match=r"http://127.0.0.1:9/simple/: no connection"):
        catalogue.fetch("first")


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (503, 4)])
def test_refusals_are_final_and_hiccups_are_not(index: Index, status: int, tries: int):
    index.status = status
    with pytest.raises(AssetUnavailable, match=f"it answered {status}"):
        catalogue.fetch("first")
    assert len(files_asked(index)) == tries


def test_a_cache_that_cannot_be_made(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetUnavailable, match="could not be written") as caught:
        catalogue.fetch("first")
    assert "IMPASTO_CACHE" in caught.value.hint
    assert index.asked == []


def test_a_full_disk(index: Index, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AssetUnavailable, match=re.escape(os.strerror(errno.ENOSPC))) as caught:
        catalogue.fetch("first")
    assert "0.6 MB are needed" in caught.value.hint
    monkeypatch.undo()


# ---- which index ---------------------------------------------------------------------------------


def test_the_publisher_is_asked_after_the_index(index: Index, monkeypatch: pytest.MonkeyPatch):
    content = MEMBERS["toy-1.0/models/first.pth"]
    monkeypatch.setattr(catalogue, "ASSETS", table(f"{index.url}/files/first.pth"))
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/elsewhere/")
    index.content = content
    assert catalogue.fetch("first").read_bytes() == content
    assert [path for path, _ in index.asked] == ["/elsewhere/toy/", "/files/first.pth"]
    assert contents(catalogue.cache_dir()) == ["first.pth"]


def test_a_login_is_used_for_its_host_and_never_shown(
    index: Index, monkeypatch: pytest.MonkeyPatch
):
    index.login = b64encode(b"me:s3cret").decode()
    host = index.url.removeprefix("http://")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:s3cret@{host}/simple/")
    catalogue.fetch("first")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:wrong@{host}/simple/")
    with pytest.raises(AssetUnavailable) as caught:
        catalogue.fetch("whole")
    assert "it answered 401" in caught.value.message
    assert "wrong" not in str(caught.value) and "me:" not in str(caught.value)


def test_a_login_is_not_sent_to_another_host(index: Index, monkeypatch: pytest.MonkeyPatch):
    index.files_at = index.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//me:s3cret@") + "/simple/")
    catalogue.fetch("first")
    assert index.logins == [f"Basic {b64encode(b'me:s3cret').decode()}", ""]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PIP_INDEX_URL": "http://a/simple"}, ["http://a/simple"]),
        ({"UV_INDEX_URL": "http://b/simple"}, ["http://b/simple"]),
        ({"UV_DEFAULT_INDEX": "corp=https://c/simple"}, ["https://c/simple"]),
        ({"UV_DEFAULT_INDEX": "https://c/simple?x=1"}, ["https://c/simple?x=1"]),
        (
            {"PIP_INDEX_URL": "http://a", "PIP_EXTRA_INDEX_URL": "file:///x http://d http://a"},
            ["http://a", "http://d"],
        ),
        (
            {"PIP_INDEX_URL": "http://a", "UV_INDEX": "more=http://e http://f"},
            ["http://a", "http://e", "http://f"],
        ),
        ({"PIP_INDEX_URL": "file:///x"}, ["file:///x"]),
    ],
)
def test_indexes_from_the_environment(
    index: Index, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: list[str]
):
    monkeypatch.delenv("PIP_INDEX_URL")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert download._index_urls() == expected


def test_with_no_setting_the_client_librarys_own_index_is_asked(
    index: Index, monkeypatch: pytest.MonkeyPatch
):
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    monkeypatch.delenv("PIP_INDEX_URL")
    assert download._index_urls() == [PYPI_SIMPLE_ENDPOINT]


def test_indexes_from_pips_own_files(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    settings = tmp_path / "pip.conf"
    settings.write_text(
        f"[global]\nindex-url = {index.url}/simple\nextra-index-url =\n    file:///nowhere/simple\n"
        "    http://127.0.0.1:9/simple\n[install]\nno-deps = true\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.delenv("PIP_INDEX_URL")
    assert download._index_urls() == [f"{index.url}/simple", "http://127.0.0.1:9/simple"]
    assert catalogue.fetch("first").exists()
    settings.write_text("this is no configuration")
    assert len(download._index_urls()) == 1


def test_pips_certificate_is_trusted(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ca.pem").write_text("")
    with download._session() as session:
        assert session.verify is True
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with download._session() as session:
        assert session.verify is True
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "ca.pem"))
    with download._session() as session:
        assert session.verify == str(tmp_path / "ca.pem")


# ---- the real index ------------------------------------------------------------------------------


@pytest.mark.network
def test_the_real_assets_are_what_the_table_says():
    for name, asset in catalogue.ASSETS.items():
        assert sha256(catalogue.fetch(name).read_bytes()) == asset.sha256
