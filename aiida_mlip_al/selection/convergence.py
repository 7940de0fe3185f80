"""When to stop: the learning history in, a reason out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .settings import StopParameters
from .stop_rules import Finding, History, no_gain, spent, targets


class StopReason(str, Enum):
    """Why a run ended.

    ``converged``: the targets are met over successive iterations. ``no_candidates``: successive iterations gave nothing worth
    a label and yet the targets are not met: the other frames failed, were unphysical or repeat the training set.
    ``no_gain``: the labels that are left would hardly lower the error. ``pool_used_up``: every frame of the pool was chosen.
    The others: what the run may use is spent.
    """

    CONVERGED = 'converged'
    NO_CANDIDATES = 'no_candidates'
    NO_GAIN = 'no_gain'
    POOL_USED_UP = 'pool_used_up'
    MAX_LABELS = 'max_labels'
    MAX_CORE_HOURS = 'max_core_hours'
    MAX_HOURS = 'max_hours'
    MAX_ITERATIONS = 'max_iterations'

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Decision:
    """That the run ends.

    :param reason: in a word.
    :param sentence: with the numbers.
    """

    reason: StopReason
    sentence: str


def stop_decision(history: History, stop: StopParameters, hours: float = 0.0) -> Decision | None:
    """Decide whether the loop should end now.

    :param history: finished iterations, oldest first.
    :param stop: what is asked for and what may be used.
    :param hours: since the run began.
    :returns: the first that holds of converged, no_candidates, no_gain, pool_used_up, max_labels, max_core_hours, max_hours
        and max_iterations; None to go on.
    """
    if not history:
        return None
    rounds = [history[: len(history) - back] for back in range(min(stop.rounds, len(history)))]
    found = [targets(rows, stop) for rows in rounds]
    enough = len(rounds) == stop.rounds
    held = [name for name in found[0] if enough and all(findings[name].holds for findings in found)]
    if held and (stop.require == 'any' or len(held) == len(found[0])):
        texts = ', '.join(found[0][name].text for name in held)
        return Decision(
            StopReason.CONVERGED, f'{_lasting("The targets were met", stop.rounds)}; in the last one {texts}.'
        )
    missed = [finding.text for finding in found[0].values() if not finding.holds]
    if enough and all(rows[-1].n_candidates == 0 for rows in rounds):
        return Decision(
            StopReason.NO_CANDIDATES,
            _sentence(_lasting('No explored frame was worth a label', stop.rounds), missed),
        )
    gains = [no_gain(rows, stop) for rows in rounds]
    if enough and gains[0] is not None and all(_holds(gain) for gain in gains):
        return Decision(StopReason.NO_GAIN, _sentence(gains[0].text, missed))
    if history[-1].n_left == 0:
        return Decision(StopReason.POOL_USED_UP, _sentence('Every frame of the pool was chosen', missed))
    for name, limit in spent(history, stop, hours).items():
        if limit.holds:
            return Decision(StopReason(name), _sentence(limit.text, missed))
    return None


def _holds(finding: Finding | None) -> bool:
    return finding is not None and finding.holds


def _lasting(what: str, rounds: int) -> str:
    return f'{what} in an iteration' if rounds == 1 else f'{what} in {rounds} successive iterations'


def _sentence(text: str, missed: list[str]) -> str:
    return f'{text}; not met: {", ".join(missed)}.' if missed else f'{text}.'
