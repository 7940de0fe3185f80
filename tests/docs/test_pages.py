"""Every link of the pages leads somewhere, every command and input file in them is one that the code takes."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points, metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
import yaml
from helpers.markdown import Block, anchors, blocks, inline_code, links

from aiida_mlip_al import __version__
from aiida_mlip_al.config import ConfigError, make_config
from aiida_mlip_al.config.computer import ComputerConfig, make_computer_config
from aiida_mlip_al.config.input_table import input_table
from aiida_mlip_al.config.models import LammpsExplore, RunConfig
from aiida_mlip_al.config.protocol_table import protocol_table
from aiida_mlip_al.sampling import JOB_STEPS, SEEDERS
from aiida_mlip_al.sampling.walkers import AseExploreSettings
from aiida_mlip_al.selection.settings import SelectParameters
from aiida_mlip_al.workflows.exit_table import exit_table, processes

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / 'README.md', *sorted(ROOT.glob('examples/**/README.md')), *sorted(ROOT.glob('docs/**/*.md'))]
TUTORIALS = sorted((ROOT / 'docs' / 'tutorials').glob('*.md'))
pages = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))

STEP = {'calculator': 'ase.calculators.emt:EMT'}
# What a piece of an input file needs beside it.
BEGIN: dict[str, Any] = {'structures': ['a.xyz'], 'datasets': ['1']}
RUN = {**BEGIN, 'seed': [{'rattle': {}}], 'test': [{'rattle': {}}]}
RUN_OF_A_POOL = {**BEGIN, 'explore': {'pool': {'frames': ['2']}}}
LABELS = ({'ase': STEP}, {'vasp': {'code': 'vasp@cluster', 'potential_family': 'PBE.54'}})
PLACEHOLDER = re.compile(r'\b(N|PK|UUID|FILE|NAME|STAGE)\b|…')
# Where a piece without any key of the top stands.
PLACES: dict[tuple[str, ...], set[str]] = {
    ('select',): set(SelectParameters.model_fields),
    ('explore', 'ase'): set(AseExploreSettings.model_fields),
    ('explore', 'lammps'): set(LammpsExplore.model_fields),
}


@pages
def test_links(page: Path) -> None:
    """Files are there, and the headings within them."""
    for link in links(page):
        if re.match(r'[a-z]+://|mailto:', link):
            continue
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f'{link}: there is no {target}'
        assert not anchor or anchor in anchors(target), f'{link}: {target.name} has no such heading'


@pages
def test_blocks(page: Path) -> None:
    """Blocks of code are commands, input files and Python that the code takes."""
    checks = {'shell': check_shell, 'yaml': check_yaml, 'python': check_python}
    for block in blocks(page):
        try:
            checks.get(block.kind, lambda _: None)(block.text)
        except Exception as error:
            raise AssertionError(f'{block.where}: {error}\n\n{block.text}') from error


@pages
def test_inline_code(page: Path) -> None:
    """So are commands and sections of input files that stand in a line."""
    for code in inline_code(page):
        try:
            if code.startswith(('aiida-mlip-al ', 'verdi ')):
                check_shell(code)
            key, _, rest = code.partition(':')
            if key in RunConfig.model_fields and rest.strip() and not PLACEHOLDER.search(code):
                check_yaml(code)
        except Exception as error:
            raise AssertionError(f'{page.name}, `{code}`: {error}') from error


def test_tables_are_those_of_the_code() -> None:
    """They say how to write them again."""
    assert (ROOT / 'docs' / 'input.md').read_text() == input_table()
    assert (ROOT / 'docs' / 'protocols.md').read_text() == protocol_table()
    assert (ROOT / 'docs' / 'exit_codes.md').read_text() == exit_table()


def test_every_process_and_page_is_shown() -> None:
    """A new work chain or page is not forgotten."""
    shown = re.findall(
        r'^\.\. aiida-(\w+):: (\w+)\n   :module: ([\w.]+)', (ROOT / 'docs' / 'processes.md').read_text(), re.M
    )
    there = {(process.__module__, process.__name__) for process in processes().values()}
    assert {(module, name) for _, name, module in shown} == there
    docs = ROOT / 'docs'
    in_index = re.findall(r'^([\w/]+)$', (docs / 'index.md').read_text(), re.M)
    assert sorted(in_index) == sorted(
        {str(page.relative_to(docs).with_suffix('')) for page in docs.rglob('*.md')} - {'index'}
    )


def test_the_diagram_of_the_data_model_has_every_node() -> None:
    """And every verb that makes them."""
    drawing = ElementTree.parse(ROOT / 'docs' / 'data_model.svg').getroot()
    words = {text.text for text in drawing.iter('{http://www.w3.org/2000/svg}text')}
    classes = {
        point.value.split(':')[1] for point in entry_points(group='aiida.data') if point.name.startswith('mlip_al.')
    }
    assert classes | {'StructureData', 'TrajectoryData', 'seed', 'label', 'train', 'explore', 'select'} <= words


@pytest.mark.parametrize('page', TUTORIALS, ids=lambda page: page.stem)
def test_tutorials_show_the_input_files_of_the_examples(page: Path) -> None:
    """Every block is a part of one, to the letter."""
    inputs = [path.read_text() for path in ROOT.glob('examples/**/*.yaml')]
    shown = [block for block in blocks(page) if block.kind == 'yaml']
    assert shown
    for block in shown:
        assert any(block.text in text for text in inputs), f'{block.where} is not a part of an example:\n{block.text}'


def test_the_readme_says_how_to_cite() -> None:
    """What BibTeX needs, with the version and the licence that the package has."""
    (entry,) = re.findall(r'@software\{.*?\n    \}', (ROOT / 'README.md').read_text(), re.S)
    fields = dict(re.findall(r'(\w+) = \{+([^{}]+)\}+', entry))
    known = metadata('aiida-mlip-al')
    (holder,) = re.findall(r'^Copyright \(c\) (.+)$', (ROOT / 'LICENSE').read_text(), re.M)
    assert (fields['title'], fields['version']) == (known['Name'], __version__)
    assert fields['license'] == known['License-Expression']
    assert f'{fields["year"]} {fields["author"]}' == holder


def check_shell(text: str) -> None:
    """Parse every command of a block."""
    for line in text.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        program, arguments = words[0], words[1:]
        if program in ('aiida-mlip-al', 'verdi'):
            for alternative in alternatives(arguments):
                parse_command(click_command(program), alternative)
        elif program == 'bash':
            assert (ROOT / arguments[0]).is_file(), f'there is no {arguments[0]}'
        elif program == 'pip':
            check_extras(words[-1])


def alternatives(words: list[str]) -> Iterator[list[str]]:
    """Yield the commands that `seed|label FILE [--wait] …` stands for; several commands after `or` are none."""
    words = [word.strip('[]') for word in words]
    words = [word for word in words if word not in ('…', '...')]
    for position, word in enumerate(words):
        if '|' in word:
            for choice in word.split('|'):
                yield from alternatives([*words[:position], choice, *words[position + 1 :]])
            return
    yield words


def click_command(program: str) -> click.Command:
    """Return the group of a program."""
    if program == 'verdi':
        from aiida.cmdline.commands.cmd_verdi import verdi

        return verdi
    from aiida_mlip_al.cli import main

    return main


def parse_command(command: click.Command, arguments: list[str]) -> None:
    """Go down to the command that is meant, and parse its options.

    :raises click.UsageError: if a command or an option does not exist, or there are too many arguments.
    """
    if '--help' in arguments or '-h' in arguments:
        return
    context = click.Context(command, info_name=command.name, resilient_parsing=True, obj={})
    context.allow_interspersed_args = not isinstance(command, click.Group)
    _, left, _ = command.make_parser(context).parse_args(list(arguments))
    if not isinstance(command, click.Group):
        assert not left, f'`{command.name}` takes no further `{" ".join(left)}`'
        return
    if left:
        inner = command.get_command(context, left[0])
        assert inner is not None, f'`{command.name}` has no command `{left[0]}`'
        parse_command(inner, left[1:])


def check_extras(requirement: str) -> None:
    """Look for the extras that pip is to install."""
    known = metadata('aiida-mlip-al').get_all('Provides-Extra') or []
    extras = re.search(r'\[([\w,-]+)\]', requirement)
    assert set(extras[1].split(',') if extras else ()) <= set(known), f'{requirement}: an extra is unknown'


def check_yaml(text: str) -> None:
    """Check an input file, a piece of one, or the file of a computer."""
    values = yaml.safe_load(text)
    assert isinstance(values, dict)
    if set(values) <= set(RunConfig.model_fields):
        check_one_of([{**values, 'labels': labels} for labels in LABELS] if 'labels' not in values else [values])
    elif set(values) <= set(ComputerConfig.model_fields):
        make_computer_config({'work_dir': '/scratch', **values})
    else:
        paths = [path for path, known in PLACES.items() if set(values) <= known]
        assert paths, f'{", ".join(values)}: these keys stand nowhere'
        check_one_of([{**nested(path, values), 'labels': LABELS[0]} for path in paths])


def nested(path: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    """Return values in their place."""
    for section in reversed(path):
        values = {section: values}
    return values


def check_one_of(candidates: list[dict[str, Any]]) -> None:
    """Check that at least one of several input files is right."""
    for last, values in enumerate(candidates, 1):
        try:
            check_run(values)
            return
        except ConfigError:
            if last == len(candidates):
                raise


def check_run(values: dict[str, Any]) -> None:
    """Check an input file with what it leaves out: what must be there, and calculators that have only a name."""
    missing = dict.fromkeys(re.findall(r"'calculator': '(\w+)'", str(values)), STEP)
    beside = RUN_OF_A_POOL if 'pool' in (values.get('labels') or {}) else RUN
    make_config({**beside, **values, 'calculators': {**missing, **(values.get('calculators') or {})}})


def check_python(text: str) -> None:
    """Compile a script, and look for what it imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f'{node.module}.{name.name}')
        elif isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)


@pytest.mark.parametrize(
    ('kind', 'text'),
    [
        ('shell', 'aiida-mlip-al launch FILE --dry'),
        ('shell', 'aiida-mlip-al lunch FILE'),
        ('shell', 'aiida-mlip-al report PK MORE'),
        ('shell', 'aiida-mlip-al dataset list|shows PK'),
        ('shell', 'verdi -p mlip-al archive creates -N PK'),
        ('shell', 'bash examples/nowhere.sh'),
        ('shell', "pip install 'aiida-mlip-al[lamps]'"),
        ('yaml', 'select: {tolerence: 0.1}'),
        ('yaml', 'label: [a'),
        ('yaml', 'walkers: 3\ncolour: blue'),
        ('yaml', f'seed: [{{{next(iter(SEEDERS))}x: {{}}}}]'),
        ('yaml', f'seed: [{{{next(iter(JOB_STEPS))}: {{stepps: 3}}}}]'),
        ('python', 'from aiida_mlip_al.data import Nothing'),
        ('python', 'import aiida_mlip_al.nothing'),
    ],
)
def test_mistakes_are_found(kind: str, text: str) -> None:
    """The checks of these pages would see a key, an option or a name that is not there."""
    with pytest.raises((AssertionError, click.UsageError, ValueError, yaml.YAMLError, ImportError, AttributeError)):
        {'shell': check_shell, 'yaml': check_yaml, 'python': check_python}[kind](text)


def test_kinds_of_blocks(tmp_path: Path) -> None:
    """A block without a language is cut at empty lines, and each piece is taken for what it is."""
    page = tmp_path / 'page.md'
    text = '# A `b` C\n\n    label: a\n    seed: []\n\n    aiida-mlip-al status 1\n\n    import os\n'
    page.write_text(f'{text}\n```{{toctree}}\na\n```\n\n```bash\nls\n```\n')
    assert [(block.kind, block.text.split()[0]) for block in blocks(page)] == [
        ('yaml', 'label:'),
        ('shell', 'aiida-mlip-al'),
        ('python', 'import'),
        ('shell', 'ls'),
    ]
    assert Block('page.md:3, piece 1', 'yaml', 'label: a\nseed: []') == next(iter(blocks(page)))
    assert anchors(page) == {'a-b-c'}
