"""The command line run inside the test's process, and what it leaves in the working folder."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto import cli
from impasto.networks.features import Network


def run_command(*arguments: str) -> int:
    """Run a command; returns its exit code."""
    try:
        cli.main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def run_stylize(
    capsys: pytest.CaptureFixture[str], *arguments: str, quiet: bool = True, code: int = 0
) -> tuple[Path, str, str]:
    """Paint, which must end with ``code``; returns the path on the last line, stdout and stderr."""
    assert run_command("stylize", *arguments, *(["--quiet"] if quiet else [])) == code
    out, err = capsys.readouterr()
    return Path(out.splitlines()[-1]), out, err


def folder_contents() -> dict[str, bytes | None]:
    """Every file below the working folder with its bytes, and every folder with None."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, evaluations: tuple[int, ...]) -> None:
    """Press Ctrl-C during these evaluations of the network with a gradient, counted from 1."""
    call, calls = Network.__call__, [0]

    def pressed(self: Network, picture: torch.Tensor, **options: Any) -> dict[str, torch.Tensor]:
        calls[0] += picture.requires_grad
        for _ in range(evaluations.count(calls[0]) if picture.requires_grad else 0):
            signal.raise_signal(signal.SIGINT)
        return call(self, picture, **options)

    monkeypatch.setattr(Network, "__call__", pressed)
