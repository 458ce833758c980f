"""Reading a run's log: repeated evaluations, lines that a kill cut short, unfinished runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from impasto import events
from impasto.errors import BadRequest
from impasto.events import Failed, Finished, Warned
from impasto.runs import folder as runs
from impasto.runs import history
from tests.support.run_logs import PLANNED, stepped, write_log


def test_a_run_without_a_break(tmp_path: Path):
    done = Finished(7, 0.5, {"content": 0.5}, 7.5)
    steps = [stepped(number, float(number), 10.0 - number) for number in range(1, 7)]
    found = history.read(write_log(tmp_path, PLANNED, *steps[:3], Warned("so"), *steps[3:], done))
    assert [one.evaluations for one in found.steps] == list(range(1, 7))
    assert (
        found.status == "finished after 6 of 6 evaluations"
        and found.seconds == 7.5
        and found.parts == 1
    )
    assert (
        found.notes == ((3, "so"),)
        and found.begun == 1e9
        and found.recipe is None
        and found.record == {}
    )
    assert [(stage.made, stage.seconds, stage.first, stage.last) for stage in found.stages] == [
        (3, 3.0, 1, 3),
        (3, 3.0, 4, 6),
    ]
    assert found.steps[0].layers == {"style": {"relu1_1": 2.25, "relu2_1": 2.25}}
    assert (
        found.lowest_loss(2) == 8.0
        and found.lowest_loss(4) == 6.0
        and math.isnan(found.lowest_loss(0))
    )


def test_of_two_evaluations_of_one_number_the_later_counts_and_time_goes_on(tmp_path: Path):
    """The run continues from the state of evaluation 2; the log goes on to 4."""
    first = [stepped(number, float(number), 9.0) for number in (1, 2, 3, 4)]
    again = [stepped(number, (number - 2) * 0.5, 5.0) for number in (3, 4, 5)]
    found = history.read(write_log(tmp_path, PLANNED, *first, PLANNED, *again))
    assert [(one.evaluations, one.loss) for one in found.steps] == [
        (1, 9.0),
        (2, 9.0),
        (3, 5.0),
        (4, 5.0),
        (5, 5.0),
    ]
    assert [one.seconds for one in found.steps] == [1.0, 2.0, 2.5, 3.0, 3.5]
    assert found.parts == 2 and found.status == "stopped after 5 of 6 evaluations"


def test_a_run_that_went_on_from_its_last_evaluation_keeps_its_time(tmp_path: Path):
    done = Finished(3, 0.5, {}, 1.5)
    found = history.read(
        write_log(tmp_path, PLANNED, stepped(1, 4.0), PLANNED, stepped(2, 1.0), done)
    )
    assert [one.seconds for one in found.steps] == [4.0, 5.0] and found.seconds == 5.5
    assert found.status == "finished early, after 2 of 6 evaluations"


def test_damaged_lines_are_passed_over(tmp_path: Path):
    cut = json.dumps(events.to_dict(stepped(2, 2.0)))[:40]
    found = history.read(
        write_log(
            tmp_path, PLANNED, "5\n[1]\nnull\n\n", '{"event": "Danced"}\n', stepped(1, 1.0), cut
        )
    )
    assert len(found.steps) == 1 and found.unreadable_lines == 5
    # The program that continues writes its first line at the end of the one that was cut.
    found = history.read(
        write_log(tmp_path, PLANNED, stepped(1, 1.0), cut, PLANNED, stepped(2, 0.5))
    )
    assert [one.seconds for one in found.steps] == [1.0, 1.5] and found.parts == 2


def test_status_of_a_run(tmp_path: Path):
    assert history.read(write_log(tmp_path, PLANNED)).status == "stopped after 0 of 6 evaluations"
    failed = history.read(write_log(tmp_path, PLANNED, stepped(1, 1.0), Failed("It rose.")))
    assert failed.status == "failed after 1 of 6 evaluations" and failed.failed is not None
    (tmp_path / runs.RECORD).write_text('{"seconds": 3}')
    assert "its time was up" in history.read(write_log(tmp_path, PLANNED, stepped(1, 1.0))).status


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(BadRequest, match="does not exist"):
        history.read(tmp_path / "nowhere")
    with pytest.raises(BadRequest, match="holds no log"):
        history.read(tmp_path)
    with pytest.raises(BadRequest, match="no plan"):
        history.read(write_log(tmp_path, "nonsense\n"))


def test_a_picture_stands_for_the_run_beside_it(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"")
    folder = write_log(tmp_path / "a.png.run", PLANNED)
    assert history.find_folder(tmp_path / "a.png") == history.find_folder(folder) == folder
