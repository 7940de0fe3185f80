"""The settings of the explorers as tables: ``python -m aiida_mlip_al.config.explore_table > docs/exploring.md``."""

from __future__ import annotations

import inspect

from aiida_mlip_al.lammps.settings import Minimize, Swap
from aiida_mlip_al.sampling.base import StepParameters
from aiida_mlip_al.sampling.table import section
from aiida_mlip_al.sampling.walkers import AseExploreSettings, Bias, DistanceLimit, UncertaintyBias

from .models import LammpsExplore, PoolExplore

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.config.explore_table > docs/exploring.md`. -->

# Settings of an exploration

`explore: {ase: {…}}`, `explore: {lammps: {…}}` or `explore: {pool: {…}}`, and beside it `max_concurrent`, the jobs in flight at
the same time. What is left out comes from the protocol, whichever the engine that moves atoms. [How LAMMPS explores](lammps.md);
[a pool of frames that exist](pools.md).

## Several systems

A run may have several structures, and one potential for all of them. `systems` says what differs for those of one composition:

    structures: [ethanol.xyz, copper.cif]
    explore:
      ase:
        temperature: [300, 500, 700]
        walkers: 6
        systems:
          Cu: {ensemble: npt, pressure: 0, temperature: [300, 1200], timestep_fs: 2.0, walkers: 4}

Here six walkers are of ethanol and four of copper. The key is a formula, of which only the composition counts: a cell and its
supercells are one system, and so are two phases of the same atoms. Structures that no key names share the common settings and
the common number of walkers. How many labels each system gets: `max_per_system` and `max_per_composition` in
[Choosing frames](selecting.md).
"""
MODELS: dict[str, type[StepParameters]] = {
    'ase': AseExploreSettings,
    'lammps': LammpsExplore,
    'pool': PoolExplore,
    'distance_limits': DistanceLimit,
    'bias': Bias,
    'uncertainty_bias': UncertaintyBias,
    'minimize': Minimize,
    'swaps': Swap,
}


def explore_table() -> str:
    """Return the page as Markdown."""
    return '\n'.join(
        [INTRODUCTION, *(section(name, model, inspect.getdoc(model) or '', '') for name, model in MODELS.items())]
    )


if __name__ == '__main__':
    print(explore_table(), end='')
