"""All keys of an input file as tables: ``python -m aiida_mlip_al.config.input_table > docs/input.md``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from aiida_mlip_al.sampling.table import section
from aiida_mlip_al.sampling.walkers import AseExploreSettings
from aiida_mlip_al.selection.settings import SelectParameters, StopParameters

from .models import LammpsExplore, RunConfig

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.config.input_table > docs/input.md`. -->

# The input file

Every key, its type and what is taken where neither the file nor its [protocol](protocols.md) says anything.
`aiida-mlip-al launch FILE --dry-run` prints all settings in force and where each came from. An unknown key is an error.

Elsewhere: the steps of [`seed` and `test`](seeders.md), the settings of [`explore`](exploring.md), [`select`](selecting.md) and
[`stop`](stopping.md), the [levels of theory of VASP](vasp_levels.md), the [file of a computer](clusters.md).
"""
ELSEWHERE = (AseExploreSettings, LammpsExplore, SelectParameters, StopParameters)


def input_table() -> str:
    """Return the page as Markdown."""
    top = section('', RunConfig, inspect.getdoc(RunConfig) or '', '').replace('## ``', '## The file', 1)
    parts = [section(name, model, inspect.getdoc(model) or '', '') for name, model in sections(RunConfig)]
    return '\n'.join([INTRODUCTION, top, *parts]).rstrip('\n') + '\n'


def sections(model: type[BaseModel], path: str = '') -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the sections within a section, and those within them, by their dotted keys.

    :param path: what the keys begin with.
    """
    for name, field in model.model_fields.items():
        for key, inner in _models(field.annotation, f'{path}{name}'):
            if inner not in ELSEWHERE:
                yield key, inner
                yield from sections(inner, f'{key}.')


def _models(annotation: Any, key: str) -> Iterator[tuple[str, type[BaseModel]]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield key, annotation
    inner = f'{key}.NAME' if get_origin(annotation) is dict else key
    for argument in get_args(annotation):
        yield from _models(argument, inner)


if __name__ == '__main__':
    print(input_table(), end='')
