"""Numbers and findings of a run in words, with sensible digits and units."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from aiida_mlip_al.report.summary import RunSummary

if TYPE_CHECKING:
    from aiida_mlip_al.report.reliability import Part, Round

NOT_KNOWN = '–'

#: What each verdict on an explored frame means, in the order of the stacked bars.
VERDICTS = {
    'accurate': 'below the lower level: taken as known, no label needed',
    'audit': 'called accurate, yet labelled to check that claim',
    'selected': 'between the levels and chosen: labelled and learned from',
    'candidate': 'between the levels, worth a label, not chosen',
    'duplicate': 'too similar to a chosen frame or to one already labelled',
    'over_budget': 'a candidate left out because the label budget was spent',
    'failed': 'beyond the upper level: too far from the known to be worth a label yet',
    'unphysical': 'atoms too close, absurd forces or cell, or not a number',
}
#: Verdicts that end in a label.
LABELLED = ('audit', 'selected')


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits, never fewer than its integer part has: 298, 61.2, 0.0123."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    if value == 0:
        return '0'
    if abs(value) < 1e-4:
        return f'{value:.{digits - 1}e}'
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f'{value:.{decimals}f}'


def milli(value: float | None, digits: int = 3) -> str:
    """Write a thousandfold: eV/Å as meV/Å."""
    return number(None if value is None else 1000 * value, digits)


def quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """Write a number with its unit, eV as meV: '61.2 meV/Å', '2.31 meV/atom', and '0.430' of a ratio."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    return f'{milli(value, digits)} m{unit}' if unit else number(value, digits)


def axis(title: str, unit: str) -> str:
    """Write what an axis shows: 'Largest force deviation (eV/Å)', 'Largest Mahalanobis distance (no unit)'."""
    return f'{heading(title)} ({unit or "no unit"})'


def heading(text: str) -> str:
    """Begin with a capital letter, and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def count(value: int | None) -> str:
    """Write a whole number, thousands set apart by a narrow space that does not break."""
    return NOT_KNOWN if value is None else f'{value:,}'.replace(',', '\u202f')


def percent(fraction: float | None) -> str:
    """Write a fraction as a percentage, whole if that tells it apart from 0 and 100."""
    if fraction is None or not math.isfinite(fraction):
        return NOT_KNOWN
    value = 100 * fraction
    near_an_end = 0 < value < 1 or 99 < value < 100
    return f'{value:.1f}\u00a0%' if near_an_end else f'{value:.0f}\u00a0%'


def duration(seconds: float | None) -> str:
    """Write a time with its two leading units: 42 s, 12 min 5 s, 3 h 12 min, 2 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return NOT_KNOWN
    if seconds < 10:
        return f'{seconds:.1f}\u00a0s'
    whole = round(seconds)
    units = (('d', 86400), ('h', 3600), ('min', 60), ('s', 1))
    first = next(i for i, (_, size) in enumerate(units) if whole >= size)
    parts: list[str] = []
    for name, size in units[first : first + 2]:
        amount, whole = divmod(whole, size)
        if amount or not parts:
            parts.append(f'{amount}\u00a0{name}')
    return ' '.join(parts)


def plural(amount: int, noun: str) -> str:
    """Write an amount with its noun: '1 label', '2 labels'."""
    return f'{count(amount)} {noun}{"" if amount == 1 else "s"}'


def formula(text: str) -> str:
    """Write a chemical formula with subscripts: C₂H₆O."""
    digits = str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉')
    return re.sub(r'(?<=[A-Za-z)])\d+', lambda match: match.group().translate(digits), text)


def listing(names: list[str], at_most: int = 4) -> str:
    """Write names side by side, the tail of a long list as its number: 'A, B, C, D and 3 more'."""
    more = len(names) - at_most
    return ', '.join(names[:at_most]) + (f' and {more} more' if more > 0 else '')


def flatten(settings: dict[str, Any], prefix: str = '') -> list[tuple[str, str]]:
    """Turn nested settings into (dotted key, value) rows, in the given order."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f'{prefix}{key}'
        if isinstance(value, dict) and value:
            rows += flatten(value, f'{name}.')
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for position, item in enumerate(value):
                rows += flatten(item, f'{name}[{position}].')
        else:
            rows.append((name, _setting(value)))
    return rows


def _setting(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: 'yes', False: 'no', None: 'not set'}[value]
    if isinstance(value, list | tuple):
        return ', '.join(_setting(item) for item in value) if value else 'none'
    return 'none' if value == {} else str(value)


def stop_clause(history: dict[str, Any]) -> str | None:
    """Say why a run stopped in words that follow "because", or None while it goes on.

    :param history: the learning history as the run records it.
    """
    sentence = history.get('stop_sentence')
    return sentence[0].lower() + sentence[1:].rstrip('.') if sentence else None


def interval(part: Part) -> str:
    """Write a share with its interval: '8 % (2 to 26 %)'."""
    low = percent(part.low).removesuffix('\u00a0%')
    return f'{percent(part.share)} ({low} to {percent(part.high)})'


def level_note(thresholds: dict[str, Any], unit: str = 'eV/Å') -> str:
    """Say how the lower level of an iteration was found.

    :param thresholds: as the selection records them.
    :param unit: of the measure.
    """
    method = str(thresholds.get('method', '')).replace('_', ' ')
    if method == 'conformal':
        if thresholds['factor'] is None:
            return 'conformal: no labelled frame to calibrate with, so that every frame is a candidate'
        per = {'eV/Å': '', '': ' eV/Å'}.get(unit, f' (eV/Å)/({unit})')
        found = f'conformal: factor {thresholds["factor"]:.3g}{per} from {plural(thresholds["n_pairs"], "pair")}'
        return found if thresholds.get('guaranteed') else f'{found}, too few for the coverage asked'
    if 'n_pairs' in thresholds:
        return f'{method}: from {plural(thresholds["n_pairs"], "pair")}'
    return f'{method}, frozen' if thresholds.get('frozen') else method


def promise(together: Round, confidence: float) -> str:
    """Say whether the errors of the new labels kept to the calibrated bound.

    :param together: all rounds of a run.
    :param confidence: of the interval.
    """
    within = together.within
    if within is None:
        return 'No new label has been held against a calibrated bound: the lower level does not come from one, or no label came.'
    asked = 'what each round promised' if together.promised is None else f'{percent(together.promised)} promised'
    text = (
        f'The errors of {count(within.hits)} of {plural(within.trials, "new label")} kept to the bound that the round had '
        f'calibrated before: {interval(within)}, at {percent(confidence)} confidence, against {asked}.'
    )
    if not together.guaranteed:
        text += ' Not every round had enough labelled frames to promise that.'
    if together.promised is None:
        return text
    if within.high < together.promised:
        return f'{text} That is less than promised: the bound was too low for the frames that were chosen.'
    return text if within.low > together.promised else f'{text} The two agree within the interval.'


def false_negative_clause(together: Round, tolerance: float | None, confidence: float) -> str:
    """Say how often frames called accurate were not.

    :param together: all rounds of a run.
    :param tolerance: accepted largest force error, eV/Å, or None.
    :param confidence: of the interval.
    """
    missed = together.missed
    if tolerance is None:
        return 'No tolerance is set, so nothing says when a frame that was called accurate is wrong.'
    if missed is None:
        return 'No frame that was called accurate has been labelled to check that, so the false-negative rate is not known.'
    return (
        f'Of {plural(missed.trials, "frame")} called accurate and labelled to check that, {count(missed.hits)} '
        f'{"was" if missed.hits == 1 else "were"} wrong (largest force error above {tolerance:g} eV/Å): a false-negative rate of '
        f'{interval(missed)}, at {percent(confidence)} confidence.'
    )


def finding(summary: RunSummary) -> str:
    """Say what was learned, from how many labels and how well."""
    subject = listing([formula(name) for name in summary.formulas]) or listing(summary.elements, 10) or 'This system'
    theory = f' at {summary.theory}' if summary.theory else ''
    in_hand = summary.labels_in_hand
    if not summary.n_labels:
        done = 'evaluated' if summary.models else 'trained'
        yet = ' yet' if summary.state == 'running' else ''
        return f'{subject}{theory}: {plural(in_hand, "label")}; no {summary.predictor} has been {done}{yet}.'
    learned = 'was learned' if summary.state == 'finished' else 'has been learned'
    part = f'{count(summary.n_labels)} of ' if summary.n_labels < in_hand else ''
    made = f'{subject}{theory} {learned} from {part}{plural(max(in_hand, summary.n_labels), "label")}'
    made += f' in {plural(len(summary.iterations), "iteration")}.'
    first, last = summary.first_errors, summary.last_errors
    if not (first and last):
        validated = summary.last_validation_errors
        known = f'; on validation frames it is {milli(validated.force_mae)} meV/Å' if validated else ''
        return f'{made} No test set has been evaluated, so there is no independent measure of its force error{known}.'
    if summary.n_committees_tested < 2:
        return f'{made} The force error on the test set is {milli(last.force_mae)} meV/Å (mean absolute).'
    verb = 'fell' if last.force_mae <= first.force_mae else 'rose'
    return (
        f'{made} The force error on the test set {verb} from {milli(first.force_mae)} to {milli(last.force_mae)} meV/Å '
        f'(mean absolute), {change(first.force_mae, last.force_mae)}.'
    )


def change(before: float, after: float) -> str:
    """Compare two positive numbers: '2.5 times smaller', or '4 % larger' where a factor would say nothing."""
    larger, smaller = max(before, after), max(min(before, after), 1e-12)
    much = f'{number(larger / smaller, 2)} times' if larger >= 1.1 * smaller else percent(abs(after - before) / before)
    return f'{much} {"smaller" if after <= before else "larger"}'


def ending(summary: RunSummary) -> str:
    """Say how the run stands: why it stopped, or that it still runs."""
    took = duration(summary.wall_s)
    if summary.state == 'running':
        return f'It is still running, after {took}; what follows is what it has so far.'
    message = f' Its message: {summary.message}' if summary.message else ''
    if summary.state == 'excepted':
        return f'It was ended by an error after {took}.{message}'
    if summary.state == 'killed':
        return f'It was killed after {took}.{message}'
    if summary.exit_status:
        return f'It failed with exit status {summary.exit_status} after {took}.{message}'
    reason = f' because {summary.stop_reason.rstrip(".")}' if summary.stop_reason else ''
    return f'It stopped{reason}, after {took}.'
