"""``doctor``: what is missing is named with its remedy, and what is there is not reported."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impasto import cli
from impasto.assets import catalogue
from impasto.cli import diagnosis
from impasto.hardware import kernel_cache, system_memory
from impasto.networks.autotune import FastestKernels
from impasto.networks.convolution import KERNELS


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def choose(where: torch.device) -> FastestKernels:
        methods = {(3, 64, 128): "packed", (64, 64, 16): "conv2d", (64, 64, 64): "nnpack"}
        return FastestKernels(
            replace(KERNELS["nnpack"], methods=methods),
            KERNELS["bfloat16"],
            {"conv2d": 30.0, "nnpack": 12.0},
        )

    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_cache, "time_kernels", choose)
    return tmp_path / "cache"


def findings() -> dict[str, diagnosis.Finding]:
    found = diagnosis.examine()
    assert len({finding.subject for finding in found}) == len(found)
    for finding in found:
        assert finding.text and bool(finding.remedy) == (not finding.good)
    return {finding.subject: finding for finding in found}


def test_an_empty_cache_is_said_with_the_command_that_fills_it(cache: Path):
    found = findings()
    for name in catalogue.ASSETS:
        assert found[name] == diagnosis.Finding(name, "not fetched yet", False, "impasto fetch")
    assert found["cache"].good and str(cache) in found["cache"].text
    assert not cache.exists() or {path.name for path in cache.iterdir()} == {"kernel.json"}


def test_what_was_fetched_is_well(cache: Path):
    cache.mkdir()
    for name in ("museum", "vgg19-normalised"):
        with (cache / catalogue.ASSETS[name].file).open("wb") as file:
            file.truncate(catalogue.ASSETS[name].size)
    found = findings()
    assert found["museum"] == diagnosis.Finding("museum", "fetched")
    assert found["vgg19-normalised"].good and not found["adain-decoder"].good


def test_the_machine_is_named():
    found = findings()
    assert found["python"].good and found["torch"].text == torch.__version__
    assert "the first of cuda, mps, cpu" in found["device"].text
    assert (
        found["kernel"].text.startswith("nnpack (")
        and ": nnpack 12 ms, conv2d 30 ms; cached in " in found["kernel"].text
    )
    assert found["float32"].text == "conv2d: 64>64 at 16; nnpack: 64>64 at 64; packed: 3>64"
    assert "bfloat16" not in found


def test_where_bfloat16_is_taken_both_are_shown(monkeypatch: pytest.MonkeyPatch):
    def choose(where: torch.device) -> FastestKernels:
        kernels = (
            replace(KERNELS[name], methods={(3, 64, 8): "packed"})
            for name in ("nnpack", "bfloat16")
        )
        return FastestKernels(*kernels, {"nnpack": 30.0, "bfloat16": 12.0})  # type: ignore[misc]

    monkeypatch.setattr(kernel_cache, "time_kernels", choose)
    found = findings()
    assert found["kernel"].text.startswith("bfloat16 (")
    assert found["bfloat16"].text == found["float32"].text == "packed: 3>64"


@pytest.mark.parametrize(("free", "good"), [(2**30, False), (2**33, True)])
def test_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, free: int, good: bool):
    monkeypatch.setattr(system_memory, "free_memory", lambda where: free)
    monkeypatch.setattr(system_memory, "total_memory", lambda: 2**34)
    finding = findings()["memory"]
    assert finding.good is good
    assert re.fullmatch(r"[\d.]+ GB free of 17\.2 GB", finding.text)


@pytest.mark.parametrize(
    ("driver", "build", "said"), [(1, None, True), (0, None, False), (1, "12.8", False)]
)
def test_a_driver_without_a_torch_for_it_is_said(
    monkeypatch: pytest.MonkeyPatch, driver: int, build: str | None, said: bool
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi" if driver else None)
    assert ("gpu" in findings()) is said


@pytest.mark.parametrize("here", [True, False])
def test_an_extra_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, here: bool):
    monkeypatch.setattr(
        diagnosis.importlib.util, "find_spec", lambda name: object() if here else None
    )
    found = findings()["heif"]
    assert found.good is here and found.remedy == ("" if here else "pip install 'impasto[heif]'")


def test_the_command_prints_every_finding_and_every_remedy(capsys: pytest.CaptureFixture[str]):
    cli.main(["doctor"])
    out, err = capsys.readouterr()
    found = findings()
    assert err == "" and out.count("impasto fetch") == len(catalogue.ASSETS)
    for subject, finding in found.items():
        line = next(line for line in out.splitlines() if line.split()[1:2] == [subject])
        assert line.startswith("ok " if finding.good else "-- ")
