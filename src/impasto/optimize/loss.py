"""The loss of a picture and its gradient, at one size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from impasto.geometry import Size
from impasto.objectives.base import Objective
from impasto.objectives.style import Style
from impasto.optimize.execution import Execution
from impasto.optimize.octaves import Evaluate, halved, sum_over_scales
from impasto.optimize.problem import Problem
from impasto.optimize.terms import make_objectives, objective_types, octaves_at, style_term
from impasto.optimize.tiling import (
    value_and_gradient,
)


def evaluation(size: Size, problem: Problem, execution: Execution) -> Evaluate:
    """Return the function that computes the loss and its gradient for a picture of this size."""
    return _evaluate(_terms_by_scale(size, problem, execution), size, problem, execution)


def term_evaluations(size: Size, problem: Problem, execution: Execution) -> dict[str, Evaluate]:
    """Return, by the name of each term of the loss, the same function for that term alone."""
    scales = _terms_by_scale(size, problem, execution)
    evaluations = {}
    for name in [term.name for term in scales[0]]:
        own = [[term for term in terms if term.name == name] for terms in scales]
        evaluations[name] = _evaluate(own, size, problem, execution)
    return evaluations


def _terms_by_scale(size: Size, problem: Problem, execution: Execution) -> list[list[Objective]]:
    """The terms of the loss for the picture, for the picture at half its size, and so on."""
    has_style = Style in objective_types(problem.recipe)
    coarser = range(1, octaves_at(size, problem) if has_style else 1)
    scales: list[list[Objective]] = [make_objectives(size, problem, execution)]
    scales += [[style_term(size, problem, execution, octave)] for octave in coarser]
    return scales


def _evaluate(
    scales: Sequence[Sequence[Objective]], size: Size, problem: Problem, execution: Execution
) -> Evaluate:
    evaluations: list[Evaluate] = []
    for objectives in scales:
        if objectives:
            encode, grid = problem.network.encoder(size), execution.grid(problem.network, size)
            evaluations.append(
                partial(
                    value_and_gradient,
                    encode=encode,
                    objectives=objectives,
                    grid=grid,
                    tiles_in_memory=execution.tiles_in_memory,
                )
            )
        size = halved(size)
    return sum_over_scales(evaluations)
