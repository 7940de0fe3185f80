"""What an input file must not ask of its structures, found before anything is submitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from ase import Atoms

from aiida_mlip_al.config import ConfigError, RunConfig
from aiida_mlip_al.sampling.expected import chain_frames
from aiida_mlip_al.selection.properties import NEEDS


def check_elements(config: RunConfig, structures: Mapping[str, orm.StructureData]) -> None:
    """Refuse an element without a reference energy, if reference energies are given at all.

    :raises ConfigError: naming the element.
    """
    if config.reference_energies is None:
        return
    elements = {symbol for node in structures.values() for symbol in node.get_symbols_set()}
    missing = sorted(elements - set(config.reference_energies))
    if missing:
        raise ConfigError(
            f'The element {missing[0]} has no reference energy: add it to `reference_energies`, or leave all out to fit them.'
        )


def check_properties(config: RunConfig, structures: Mapping[str, orm.StructureData]) -> None:
    """Refuse a property to stop by that none of the structures has.

    :raises ConfigError: naming the property.
    """
    for name in config.stop.properties.tolerances if config.stop.properties is not None else ():
        n_atoms, n_periodic = NEEDS.get(name, (1, 0))
        if not any(len(node.sites) >= n_atoms and sum(node.pbc) >= n_periodic for node in structures.values()):
            kind = 'is periodic in three directions' if n_periodic else f'has {n_atoms} atoms'
            raise ConfigError(
                f'None of the `structures` {kind}, so that none has the property `{name}`: leave it out of `stop.properties`, or '
                'give a structure that has it.'
            )


def elements_of(frames: Iterable[Atoms]) -> set[str]:
    """Return the elements of frames."""
    return {symbol for frame in frames for symbol in frame.get_chemical_symbols()}


def check_periodic(config: RunConfig, structures: Mapping[str, orm.StructureData]) -> None:
    """Refuse a direction whose stress is to count, and in which no structure is periodic.

    :raises ConfigError: naming the direction.
    """
    ase = config.labels.ase
    for axis, claimed in enumerate((ase.periodic or ()) if ase is not None else ()):
        if claimed and not any(node.pbc[axis] for node in structures.values()):
            raise ConfigError(
                f'`labels.ase.periodic` counts the stress along cell vector {axis + 1}, and none of the `structures` is periodic '
                'there: say false, or give structures with a cell and its `pbc`.'
            )


def check_budget(config: RunConfig, n_structures: int) -> None:
    """Refuse more seeds than the run may have labels.

    :raises ConfigError: naming the budget.
    """
    budgets = {'select.label_budget': config.select.label_budget, 'stop.max_labels': config.stop.max_labels}
    seeds = sum(chain_frames(chain, n_structures)[0] for chain in (config.seed or {}).values())
    for name, budget in budgets.items():
        if budget is not None and budget < seeds:
            raise ConfigError(
                f'`{name}` ({budget}) counts the seeds, and `seed` makes {seeds}: raise it, or make fewer seeds.'
            )


def calculators_of(chains: Mapping[str, list[dict[str, Any]]]) -> set[str]:
    """Return the import paths of the calculators that steps name."""
    given = [parameters for chain in chains.values() for step in chain for parameters in step.values()]
    return {parameters['calculator'] for parameters in given if parameters and parameters.get('calculator')}
