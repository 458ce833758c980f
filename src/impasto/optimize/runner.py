"""Run the search loop with gradients, threads and memory set up for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import torch

from impasto.events import Event
from impasto.hardware import allocator
from impasto.hardware.contention import limit_spinning
from impasto.hardware.threads import use_threads
from impasto.optimize import loop
from impasto.optimize.execution import Execution
from impasto.optimize.problem import Problem
from impasto.optimize.state import State


def run_problem(
    problem: Problem,
    execution: Execution,
    state: State | None = None,
    first_events: Iterable[Event] = (),
) -> Iterator[tuple[Event, State]]:
    """Run ``optimize.loop.iterate`` with gradients, threads and memory set up for it.

    They are set while a step is computed and restored before it is yielded, so the consumer is not
    affected. ``first_events`` are yielded before the first step, with ``state``.
    """
    threads = problem.recipe.compute.threads
    with limit_spinning() as guard, allocator.reused_memory(execution.reuse_memory):
        if state is not None:
            for event in first_events:
                yield event, state
        with closing(loop.iterate(problem, execution, state)) as steps:  # type: ignore[type-var]
            while True:
                with autograd_enabled(), use_threads(threads):
                    guard.check()
                    step = next(steps, None)
                if step is None:
                    return
                yield step


@contextmanager
def autograd_enabled() -> Iterator[None]:
    """Compute gradients, also inside a caller's ``no_grad`` or ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
