"""A saved state of a run, and the error for one that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto.errors import CannotResume

if TYPE_CHECKING:  # torch is imported only when it is needed
    from impasto.storage.tensors import StoredTensor


@dataclass(frozen=True)
class Checkpoint:
    """A state as it was saved: named tensors, plain values, and the folder of its run."""

    tensors: Mapping[str, StoredTensor]
    values: Mapping[str, Any]
    folder: Path = Path()

    def rejected(self, reason: str) -> CannotResume:
        """The error that says why the run cannot be continued."""
        return cannot_resume(self.folder, reason)


def cannot_resume(folder: Path, reason: str) -> CannotResume:
    """The error for a run that cannot be continued for this reason."""
    return CannotResume(
        f"The run {folder} cannot be continued: {reason}.",
        "Give the command that started it again with --fresh, to start over. Until then nothing "
        "of it is lost.",
    )
