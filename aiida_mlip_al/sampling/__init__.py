"""How seed structures are made: pure functions on :class:`ase.Atoms`, chained as steps."""

from aiida_mlip_al.sampling.base import RejectionLimitError, Seeder, SeedRecord, SeedResult, StepParameters
from aiida_mlip_al.sampling.md import MdStep, Walker, evenly_spaced, md_walkers
from aiida_mlip_al.sampling.steps import (
    JOB_STEPS,
    SEEDERS,
    job_positions,
    parse_steps,
    run_steps,
    step_seeds,
    validate_steps,
)

__all__ = (
    'JOB_STEPS',
    'SEEDERS',
    'MdStep',
    'RejectionLimitError',
    'SeedRecord',
    'SeedResult',
    'Seeder',
    'StepParameters',
    'Walker',
    'evenly_spaced',
    'job_positions',
    'md_walkers',
    'parse_steps',
    'run_steps',
    'step_seeds',
    'validate_steps',
)
