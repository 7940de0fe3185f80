"""Input scripts of LAMMPS: their lines, and the pair_style and pair_coeff of MACE in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

RUNNING = ('run', 'minimize', 'rerun')
POTENTIAL = ('pair_style', 'pair_coeff')
_OURS = (*RUNNING, *POTENTIAL, 'include', 'quit', 'if', 'clear', 'run_style', 'neigh_modify', 'compute')
_QUOTED = re.compile(r'''"""(.*?)"""|"([^"]*)"|'([^']*)'|(\S+)''', re.DOTALL)
_NATIVE_FLAGS = ('no_domain_decomposition', 'no_mpi_message_passing')
_DEFAULT_CHECK_INTERVAL = 100
_OUT_FILE = 'model_devi.out'
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
    """The MACE potential as pair_style and pair_coeff describe it. `options` are those that the script sets, `out_file`
    and `records` are None where no such file is to be written."""

    models: list[str]
    elements: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    out_freq: int = _DEFAULT_CHECK_INTERVAL
    out_file: str | None = None
    records: str | None = None
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


@dataclass(frozen=True)
class Branch:
    """A condition of an `if`, as it is written, or None for `else`, and the commands that follow it."""

    condition: str | None
    commands: list[str]


def branches(statement: Statement) -> list[Branch]:
    """Return the branches of an `if … then … elif … else …`, or none if LAMMPS may carry it out by itself.

    :param statement: an `if`.
    """
    words = _quoted_words(statement)
    found: list[Branch] = []
    for (written, bare), (before, _) in zip(words, [('', ''), *words], strict=False):
        if before in ('if', 'elif'):
            found.append(Branch(written, []))
        elif written == 'else':
            found.append(Branch(None, []))
        elif written not in ('if', 'then', 'elif') and found:
            found[-1].commands.append(bare)
    needed = any(command.split()[:1] and command.split()[0] in _OURS for branch in found for command in branch.commands)
    return found if needed else []


def without_quit(block: Sequence[Statement], variable: str, label: str) -> str:
    """Return statements as the text of a file whose `quit` sets a variable and jumps to its end: LAMMPS' own would end the
    whole process.

    :param block: the statements.
    :param variable: gets the exit status.
    :param label: name of the end.
    """

    def leave(words: Sequence[str]) -> tuple[str, str]:
        return f'variable {variable} equal {words[1] if len(words) > 1 else 0}', f'jump SELF {label}'

    lines: list[str] = []
    for statement in block:
        if statement.command == 'quit':
            lines += leave(statement.words)
        elif statement.command == 'if' and 'quit' in statement.text:
            parts: list[str] = []
            for written, bare in _quoted_words(statement):
                words = bare.split()
                parts += [f'"{part}"' for part in leave(words)] if words[:1] == ['quit'] else [written]
            lines.append(' '.join(parts))
        else:
            lines.append(statement.text)
    return '\n'.join([*lines, f'label {label}', ''])


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
    return replace(style, models=models, elements=rest)


def _parse_mace(words: Sequence[str]) -> PairStyle:
    models: list[str] = []
    values: dict[str, str] = {}
    keywords = ('out_freq', 'out_file', 'records', 'descriptors', 'upper', 'dtype', 'device', 'head')
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
    if 'upper' in values and len(models) < 2:
        raise ValueError('pair_style mace: upper needs a committee: name two or more models before it.')
    if len(set(models)) < len(models):
        raise ValueError('pair_style mace names a model twice: a committee needs different members.')
    return PairStyle(
        models=models,
        options={name: values[name] for name in ('dtype', 'device', 'head', 'descriptors') if name in values},
        out_freq=_positive_integer('out_freq', values.get('out_freq', str(_DEFAULT_CHECK_INTERVAL))),
        out_file=values.get('out_file', _OUT_FILE if len(models) > 1 else None),
        records=values.get('records'),
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


def _quoted_words(statement: Statement) -> list[tuple[str, str]]:
    """Return the words of a command as they are written, and without their quotes."""
    line = _without_comment(statement.text)
    return [
        (found[0], next((group for group in found.groups() if group is not None), ''))
        for found in _QUOTED.finditer(line)
    ]


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
