"""The settings of the explorers as tables: ``python -m aiida_mlip_al.config.explore_table > docs/exploring.md``."""

from __future__ import annotations

import inspect

from aiida_mlip_al.lammps.settings import Minimize, Swap
from aiida_mlip_al.sampling.base import StepParameters
from aiida_mlip_al.sampling.table import section
from aiida_mlip_al.sampling.walkers import AseExploreSettings, Bias, DistanceLimit, UncertaintyBias

from .models import LammpsExplore

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.config.explore_table > docs/exploring.md`. -->

# Settings of an exploration

`explore: {ase: {…}}` or `explore: {lammps: {…}}`, and beside it `max_concurrent`, the jobs in flight at the same time.
What is left out comes from the protocol, whichever the engine. [How LAMMPS explores](lammps.md).
"""
MODELS: dict[str, type[StepParameters]] = {
    'ase': AseExploreSettings,
    'lammps': LammpsExplore,
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
