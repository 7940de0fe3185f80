"""ASE calculators by import path, and what they tell about their convergence."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CONVERGENCE_HOLDERS = ('', 'mf', 'method', 'scf')
_UNCONVERGED_TEXTS = ('SCF run NOT converged', 'convergence NOT achieved')  # CP2K, Quantum ESPRESSO


def build(spec: Mapping[str, Any]) -> Any:
    """Make a calculator.

    :param spec: `calculator`, an import path `module:attribute` of a class or a factory function, and `arguments`, its
        keyword arguments.
    :returns: an ASE calculator.
    :raises ValueError: if the path is malformed, cannot be imported, or the call fails.
    """
    path, arguments = spec.get('calculator'), spec.get('arguments') or {}
    if not isinstance(path, str) or path.count(':') != 1 or not all(path.split(':')):
        raise ValueError(f'calculator must be an import path such as "tblite.ase:TBLite", not {path!r}.')
    module, _, attribute = path.partition(':')
    try:
        factory: Any = importlib.import_module(module)
        for part in attribute.split('.'):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f'The calculator {path} cannot be imported by this Python: {error}.') from error
    try:
        return factory(**arguments)
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        raise ValueError(f'{path} cannot be made with arguments {arguments}: {reason}') from error


def package_version(path: str) -> dict[str, str]:
    """Return the version of the package that a calculator comes from.

    :param path: import path `module:attribute` of an imported module.
    :returns: {package: version}, or {} if it cannot be told.
    """
    package = path.partition(':')[0].partition('.')[0]
    version = getattr(importlib.import_module(package), '__version__', None)
    if version is None:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return {}
    return {package: str(version)}


def offers_stress(calculator: Any) -> bool:
    """Tell whether a calculator has a stress to give.

    :param calculator: an ASE calculator.
    """
    return 'stress' in getattr(calculator, 'implemented_properties', ())


def free_energy(calculator: Any, energy: float) -> float:
    """Return the energy that the forces are derivatives of: the free energy where the calculator has one.

    :param calculator: an ASE calculator with results.
    :param energy: its potential energy in eV.
    :returns: energy in eV.
    """
    return float(getattr(calculator, 'results', {}).get('free_energy', energy))


class ConvergenceWatch:
    """Notices a calculation that has ended without convergence and without an exception.

    Make one before the calculation: text that CP2K and Quantum ESPRESSO had written earlier is then not looked at.

    :param calculator: an ASE calculator.
    """

    def __init__(self, calculator: Any) -> None:
        self._calculator = calculator
        self._sizes = {file: file.stat().st_size for file in _output_files(calculator)}

    def complaint(self) -> str | None:
        """Return None, or a sentence that says how the calculation failed to converge."""
        if getattr(self._calculator, 'results', {}).get('converged') is False:
            return 'the calculator reports converged = False.'
        for name in _CONVERGENCE_HOLDERS:
            holder = getattr(self._calculator, name, None) if name else self._calculator
            # bool() of a numpy.bool_; a method called `converged` says nothing before it is called
            flag = getattr(holder, 'converged', None)
            if flag is not None and not callable(flag) and not flag:
                return f'the calculator reports {name + "." if name else ""}converged = False.'
        for file in _output_files(self._calculator):
            begin = self._sizes.get(file, 0)
            with open(file, 'rb') as stream:
                stream.seek(begin if begin <= file.stat().st_size else 0)
                text = stream.read().decode(errors='replace')
            for pattern in _UNCONVERGED_TEXTS:
                if pattern in text:
                    return f'{file.name} says "{pattern}".'
        return None


def mentions_convergence(error: BaseException) -> bool:
    """Tell whether an exception is about convergence, by its type's name or its text.

    :param error: the exception a calculator raised.
    """
    return 'converge' in f'{type(error).__name__} {error}'.lower()


def _output_files(calculator: Any) -> list[Path]:
    candidates = []
    label = getattr(calculator, 'label', None)
    if isinstance(label, str) and label:
        candidates.append(Path(f'{label}.out'))
    template, directory = getattr(calculator, 'template', None), getattr(calculator, 'directory', None)
    if template is not None and directory is not None and getattr(template, 'outputname', None):
        candidates.append(Path(directory) / template.outputname)
    return [file for file in candidates if file.is_file()]
