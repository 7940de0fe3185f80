"""Mistakes in an input file, said in one sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

# With lists and constraints, what pydantic puts into the path of a mistake for a branch of a union.
SCALARS = ('bool', 'float', 'int', 'str')


class ConfigError(ValueError):
    """Bad input; the text is one sentence that says what to change."""


def sentence(model: type[BaseModel], error: ValidationError) -> str:
    """Return one sentence on the first mistake that pydantic found.

    :param model: the model that was validated.
    :param error: what it raised.
    """
    first = _first(error.errors(include_url=False))
    path = [str(part) for part in first['loc']]
    where = '.'.join(part for part in path if not _is_branch(part))
    message = first['msg'].removeprefix('Value error, ')
    if first['type'] == 'extra_forbidden':
        known = sorted(_known_keys(model, path[:-1]))
        close = get_close_matches(path[-1], known, n=1)
        hint = f'did you mean `{close[0]}`?' if close else f'known here: {", ".join(known)}.'
        return f'`{where}` is not a known key; {hint}'
    if first['type'] == 'missing':
        return f'`{where}` is missing: {_description(model, path)}.'
    if not where:
        return f'{message}.'
    given = (
        ''
        if isinstance(first['input'], dict | list) and first['type'] == 'value_error'
        else f', got {first["input"]!r}'
    )
    return f'`{where}`: {message[:1].lower()}{message[1:]}{given}.'


def _first(errors: Sequence[Any]) -> Any:
    """Return an unknown key if there is one, else the first mistake; of a union's, that of the branch which was meant."""
    field = list(takewhile(lambda part: not _is_branch(str(part)), errors[0]['loc']))
    of_field = [error for error in errors if list(error['loc'][: len(field)]) == field]
    meant = (error for error in of_field if not error['type'].endswith(('_type', 'literal_error')))
    return next((error for error in errors if error['type'] == 'extra_forbidden'), next(meant, errors[0]))


def _is_branch(part: str) -> bool:
    return part in SCALARS or part.startswith(('function-', 'list[', 'literal[', 'constrained'))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _descend(model: type[BaseModel] | None, path: Sequence[str]) -> type[BaseModel] | None:
    for key in path:
        if model is None or key not in model.model_fields:
            return model
        model = _model_in(model.model_fields[key].annotation)
    return model


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    found = _descend(model, path)
    return list(found.model_fields) if found is not None else []


def _description(model: type[BaseModel], path: Sequence[str]) -> str:
    found = _descend(model, path[:-1])
    field = found.model_fields.get(path[-1]) if found is not None else None
    return (field.description if field is not None and field.description else 'it is required').rstrip('.')
