"""A limit on memory is kept: measured by the system, in a process of its own, with the real
network.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from impasto.errors import DoesNotFit
from impasto.geometry import Size
from impasto.hardware import kernel_cache
from impasto.networks import vgg, weights
from impasto.networks.features import Network
from impasto.planning import memory, schedule
from impasto.recipe import loading, records

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="the system does not say what a process held"
    ),
]

PHOTO = Size(480, 640)
SETTINGS = {"size": 512, "iterations": 1, "single_scale": True, "device": "cpu"}

# The command line, and after it the most that its process held; another process cannot ask any more
# then.
PROGRAM = """
import sys
from impasto import cli
cli.main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def paint(folder: Path, *options: str) -> tuple[dict[str, Any], int]:
    """The record of a run, and the bytes that it held at its peak."""
    words = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in SETTINGS.items()
        if value is not True
    ]
    command = [
        "stylize",
        "photo.png",
        "irises",
        "-o",
        "out.png",
        "--overwrite",
        "--no-run",
        "--json",
        *words,
        "--single-scale",
        *options,
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record, peak = done.stdout.splitlines()[:2]
    return json.loads(record), int(peak.split()[1]) * 1024


def lowest_limit() -> str:
    """The limit that is said to be enough where too low a one is asked for."""
    recipe = loading.with_settings(records.Recipe(), SETTINGS)
    kernel = kernel_cache.fastest_kernel(recipe.compute.precision, torch.device("cpu"))
    network = Network(
        weights.load("vgg19"), "E", recipe.used_layers, padding="reflect", kernel=kernel
    )
    assert vgg.CONFIGURATION_OF["vgg19"] == "E"
    plan = schedule.make_plan(recipe, PHOTO)
    with pytest.raises(DoesNotFit) as found:
        memory.choose_execution(
            plan,
            recipe,
            network,
            memory.MemoryBudget(2**50, limit=1, disk=2**50, inputs=30_000_000),
        )
    return str(re.findall(r"--memory (\S+)\.$", found.value.hint)[0])


def test_a_limit_on_memory_is_kept_and_the_picture_is_the_same(tmp_path: Path):
    Image.fromarray(skimage.data.coffee()).resize(PHOTO[::-1]).save(tmp_path / "photo.png")
    advised = lowest_limit()
    limit = loading.with_settings(records.Recipe(), {"memory": advised}).compute.memory
    found = []
    for options in (("--memory", advised), ()):
        record, peak = paint(tmp_path, *options)
        assert record["size"] == [512, 384]
        with Image.open(tmp_path / "out.png") as image:
            found.append((peak, np.asarray(image).astype(int)))
    (limited, tiled), (free, whole) = found
    assert limited < limit < free  # so much it takes where nobody forbids it
    assert np.abs(tiled - whole).max() <= 1
