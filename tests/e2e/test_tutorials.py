"""The tutorials of the docs: every command of them, with the input files of the examples made smaller.

A page's output is that of the whole example. What comes here must have the same lines, numbers aside; ``…`` stands for anything.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.conftest import Installation
from helpers.markdown import blocks

ROOT = Path(__file__).parents[2]
PAGES = {page.stem: page for page in sorted((ROOT / 'docs' / 'tutorials').glob('*.md'))}
# What begins with the models of another tutorial.
AFTER = {'fine_tuning': 'ethanol'}

pytestmark = [pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(1500)]

AT_MOST = {'steps': 40, 'equilibration': 10, 'every': 10, 'copies': 2, 'walkers': 2, 'check_interval': 10}
AT_LEAST = {'fmax': 0.2}
TINY = yaml.safe_load("""
train:
  mace:
    members: 2
    gradient_steps: 20
    num_channels: 4
    max_ell: 1
    correlation: 1
    num_interactions: 1
    r_max: 3.0
    warm_start: {gradient_steps: 10}
    final: {gradient_steps: 20}
select: {tolerance: 0.05, max_labels: 4, upper: 50.0}
stop: {max_iterations: 1}
""")
# So little training knows nothing of hot molecules.
MILD = {'ase': {'temperature': [50, 100], 'steps': 40, 'walkers': 2, 'check_interval': 10, 'stride': 10}}

DURATION = r'(?:[\d.]+\sh\s?)?(?:\d+\smin\s?)?(?:[\d.]+\sm?s\b)?'
PIECE = re.compile(r'(?P<time>(?:[\d.]+\s(?:h|min|m?s)\b\s?)+)|(?P<number>\d+(?:\.\d+)?)|(?P<any>…)|(?P<space>\s+)')


def smaller(values: Any) -> Any:
    """Return an input file with fewer steps, copies and walkers."""
    if isinstance(values, list):
        return [smaller(value) for value in values]
    if not isinstance(values, dict):
        return values
    limited = {key: smaller(value) for key, value in values.items()}
    limited.update({key: min(value, AT_MOST[key]) for key, value in values.items() if key in AT_MOST})
    return {**limited, **{key: max(value, AT_LEAST[key]) for key, value in values.items() if key in AT_LEAST}}


def merged(values: Any, changes: Any) -> Any:
    """Return values with changes in their places."""
    if not isinstance(values, dict) or not isinstance(changes, dict):
        return changes
    return {**values, **{key: merged(values.get(key), change) for key, change in changes.items()}}


def pattern_of(line: str) -> re.Pattern[str]:
    """Return what a line of a page stands for: the same words, and any numbers, the integers in groups."""
    parts, end = [], 0
    for found in PIECE.finditer(line.strip()):
        parts.append(re.escape(line.strip()[end : found.start()]))
        kinds = {'time': DURATION, 'number': r'(\d+(?:\.\d+)?)', 'any': '.*', 'space': r'\s+'}
        parts.append(kinds[str(found.lastgroup)])
        end = found.end()
    return re.compile(r'\s*' + ''.join(parts) + re.escape(line.strip()[end:]) + r'\s*')


class Tutorial:
    """A page that is carried out.

    :param installation: where.
    :param page: its file.
    :param numbers: PKs of the pages before by what they are here.
    """

    def __init__(self, installation: Installation, page: Path, numbers: dict[str, str]) -> None:
        self.installation, self.page = installation, page
        self.numbers = dict(numbers)
        self.missing: list[str] = []
        self.n_commands = 0

    def run(self) -> Tutorial:
        """Run every command, and look for the lines of the page in what is printed."""
        printed = ''
        for block in blocks(self.page):
            if block.kind in ('shell', 'python'):
                text = re.sub(
                    r'(?<![\w.-])\d+(?![\w.])', lambda found: self.numbers.get(found[0], found[0]), block.text
                )
                program = ('bash', '-ec') if block.kind == 'shell' else ('python', '-c')
                printed = self.installation.run(*program, text)
                self.n_commands += 1
            elif block.kind == 'text':
                self.compare(block.text, printed, block.where)
        return self

    def compare(self, expected: str, printed: str, where: str) -> None:
        """Note the lines that did not come, and the PKs of those that did."""
        left = printed.splitlines()
        for line in expected.splitlines():
            if not line.strip(' …'):
                continue
            pattern = pattern_of(line)
            found = next((index for index, other in enumerate(left) if pattern.fullmatch(other)), None)
            if found is None:
                self.missing.append(f'{where}: `{line}` is not in\n{printed}')
                continue
            numbers = [piece['number'] for piece in PIECE.finditer(line.strip()) if piece['number']]
            matched = pattern.fullmatch(left.pop(found))
            assert matched is not None
            for here, there in zip(numbers, matched.groups(), strict=True):
                self.numbers.setdefault(here, there)


def chosen(session: pytest.Session) -> list[str]:
    """Return the tutorials whose tests are to run and those that they begin with, the longest way first."""
    calls = [getattr(item, 'callspec', None) for item in session.items if item.path == Path(__file__)]
    names = {call.params['name'] for call in calls if call is not None}
    names |= {AFTER[name] for name in names if name in AFTER}
    return sorted(names, key=lambda name: (name in AFTER, name not in AFTER.values(), name))


@pytest.fixture(scope='module')
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Tutorial]]]:
    """The tutorials by name, two carried out at a time."""
    made = Installation(tmp_path_factory.mktemp('tutorials'))
    shutil.copytree(ROOT / 'examples', made.folder / 'examples')
    for path in (made.folder / 'examples').rglob('*.yaml'):
        values = yaml.safe_load(path.read_text())
        if 'structures' in values:
            made_smaller = merged({'explore': MILD, **smaller(values)}, TINY)
            path.write_text(yaml.safe_dump(made_smaller, sort_keys=False))
    made.run('aiida-mlip-al', 'setup', 'profile')
    futures: dict[str, Future[Tutorial]] = {}

    def carry_out(name: str) -> Tutorial:
        numbers = futures[AFTER[name]].result().numbers if name in AFTER else {}
        return Tutorial(made, PAGES[name], numbers).run()

    with ThreadPoolExecutor(2) as pool:
        for name in chosen(request.session):
            futures[name] = pool.submit(carry_out, name)
        yield futures
    made.run('verdi', '-p', 'mlip-al', 'daemon', 'stop', check=False)


def test_a_line_of_a_page_stands_for_others_of_its_kind() -> None:
    """Numbers, durations and spaces may differ; words may not."""
    line = '  [1 min 4 s] iteration 1:  exploring; 10 labels, force MAE on test 175 meV/Å …'
    assert pattern_of(line).fullmatch(
        '[1\xa0min 2\xa0s] iteration 2: exploring; 4 labels, force MAE on test 1.5 meV/Å and more'
    )
    assert not pattern_of(line).fullmatch(
        '[12 s] iteration 2: training; 4 labels, force MAE on test 1.5 meV/Å and more'
    )
    found = pattern_of('dataset 546, 2.4 s, [a] -2.7').fullmatch('dataset 12, 3 min 1 s, [a] -0.1')
    assert found is not None
    assert found.groups() == ('12', '0.1')


@pytest.mark.parametrize('name', PAGES)
def test_commands_run_and_print_what_the_page_says(started: Any, name: str) -> None:
    tutorial = started[name].result()
    assert tutorial.n_commands > 0
    assert tutorial.missing == [], '\n'.join(tutorial.missing)
