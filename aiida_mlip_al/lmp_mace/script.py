"""Input scripts of LAMMPS: their lines, and the pair_style and pair_coeff of MACE in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

RUNNING = ('run', 'minimize', 'rerun')
_NATIVE_FLAGS = ('no_domain_decomposition', 'no_mpi_message_passing')
_DEFAULT_CHECK_INTERVAL = 100
_REFUSED = {
    'clear': 'clear would remove the models: write one script for each system.',
    'run_style respa': 'run_style respa would leave out the forces of the models: use run_style verlet.',
    'neigh_modify .*exclude': 'neigh_modify exclude is unknown to the models: hold atoms by fix setforce instead.',
    r'compute \S+ \S+ (centroid/)?stress/atom': 'The models have no stress per atom: leave compute stress/atom out.',
    r'compute \S+ \S+ heat/flux': 'The models have no stress per atom: leave compute heat/flux out.',
}


@dataclass(frozen=True)
class Statement:
    """A command of the script with its continuation lines; `words` are without comment and not yet substituted."""

    text: str
    words: list[str]

    @property
    def command(self) -> str:
        """Its name; empty for a blank line or a comment."""
        return self.words[0] if self.words else ''


@dataclass(frozen=True)
class PairStyle:
    """The MACE potential as pair_style and pair_coeff describe it. `options` are those that the script sets."""

    models: list[str]
    elements: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    out_freq: int = _DEFAULT_CHECK_INTERVAL
    out_file: str = 'model_devi.out'
    upper: float | None = None


def statements(text: str) -> Iterator[Statement]:
    """Yield the commands of a script: lines joined at a trailing `&` and within triple quotes.

    :param text: the script.
    """
    gathered = ''
    for line in text.splitlines():
        gathered += line
        if gathered.count('"""') % 2:
            gathered += '\n'
        elif gathered.rstrip().endswith('&'):
            gathered = gathered.rstrip()[:-1]
        else:
            yield Statement(gathered, _without_comment(gathered).split())
            gathered = ''
    if gathered:
        yield Statement(gathered, _without_comment(gathered).split())


def refuse(statement: Statement) -> None:
    """Refuse commands that would silently give something else than what they say.

    :param statement: a command of the script.
    :raises ValueError: saying what to write instead.
    """
    line = ' '.join(statement.words)
    for pattern, sentence in _REFUSED.items():
        if re.match(rf'{pattern}( |$)', line):
            raise ValueError(sentence)


def jumps(block: Sequence[Statement]) -> bool:
    """Say whether statements need LAMMPS to read them as a file, because they go back or forth in it."""
    return any(re.search(r'\b(jump|label)\b', statement.text) for statement in block)


def parse_pair_style(words: Sequence[str]) -> PairStyle:
    """Read `pair_style …` of a native build, or with a committee.

    :param words: the command's words, variables substituted.
    :raises ValueError: if this is no MACE potential, or it is not described right.
    """
    style = words[1].removesuffix('/kk') if len(words) > 1 else ''
    if style.startswith('hybrid'):
        raise ValueError(f'lmp-mace cannot add other potentials to MACE: write pair_style mace without {style}.')
    if style == 'mliap':
        if len(words) not in (4, 5) or words[2] != 'unified' or (len(words) == 5 and words[4] not in ('0', '1')):
            raise ValueError('Write pair_style mliap unified MODEL 0: lmp-mace knows no other form of mliap.')
        return PairStyle(models=[words[3]])
    if style != 'mace':
        raise ValueError(f'pair_style {style} is not MACE: write pair_style mace or mliap unified, or use plain lmp.')
    return _parse_mace([word for word in words[2:] if word not in _NATIVE_FLAGS])


def parse_pair_coeff(style: PairStyle, words: Sequence[str]) -> PairStyle:
    """Read `pair_coeff * * [MODEL] ELEMENT …` and return the complete potential.

    :param style: what pair_style said.
    :param words: the command's words, variables substituted.
    :raises ValueError: if the line does not name a model and elements for all pairs of types.
    """
    if list(words[1:3]) != ['*', '*']:
        raise ValueError('pair_coeff of MACE must begin with * *: one line holds for all pairs of atom types.')
    rest = list(words[3:])
    models = style.models
    if not models:
        if not rest:
            raise ValueError('No model is named: write pair_coeff * * MODEL ELEMENT ..., or pair_style mace MODEL.')
        models, rest = rest[:1], rest[1:]
    return PairStyle(models, rest, style.options, style.out_freq, style.out_file, style.upper)


def _parse_mace(words: Sequence[str]) -> PairStyle:
    models: list[str] = []
    values: dict[str, str] = {}
    keywords = ('out_freq', 'out_file', 'upper', 'dtype', 'device', 'head')
    remaining = iter(words)
    for word in remaining:
        if word in keywords:
            value = next(remaining, None)
            if value is None:
                raise ValueError(f'pair_style mace: {word} needs a value.')
            values[word] = value
        elif values:
            raise ValueError(f'pair_style mace does not know {word}: after the models come {", ".join(keywords)}.')
        else:
            models.append(word)
    committee = [word for word in ('out_freq', 'out_file', 'upper') if word in values]
    if committee and len(models) < 2:
        raise ValueError(f'pair_style mace: {committee[0]} needs a committee: name two or more models before it.')
    if len(set(models)) < len(models):
        raise ValueError('pair_style mace names a model twice: a committee needs different members.')
    return PairStyle(
        models=models,
        options={name: values[name] for name in ('dtype', 'device', 'head') if name in values},
        out_freq=_positive_integer('out_freq', values.get('out_freq', str(_DEFAULT_CHECK_INTERVAL))),
        out_file=values.get('out_file', 'model_devi.out'),
        upper=_positive('upper', values['upper']) if 'upper' in values else None,
    )


def _positive_integer(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f'pair_style mace: {name} must be a positive integer, not {text}.')
    return int(text)


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float('inf'):
        raise ValueError(f'pair_style mace: {name} must be a positive number in eV/A, not {text}.')
    return value


def _without_comment(line: str) -> str:
    """Return a command up to the first `#` outside of quotes."""
    quote = ''
    for position, character in enumerate(line):
        if quote:
            quote = '' if character == quote else quote
        elif character in '\'"':
            quote = character
        elif character == '#':
            return line[:position]
    return line
