"""VASP: what the input file says of a level of theory and of labels at it."""

from __future__ import annotations

from typing import Any

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from aiida_mlip_al.sampling.base import Axes, Positive

from .section import Section

# Tags that change how a result is reached, printed or stored, and not what it is.
PARALLEL_TAGS = {'kpar', 'lplane', 'lscalapack', 'lscalu', 'ncore', 'npar', 'nsim'}
OUTPUT_TAGS = {
    *('lcharg', 'lwave', 'lelf', 'lorbit', 'lvtot', 'lvhar', 'nwrite', 'system', 'lh5', 'nedos', 'emin', 'emax'),
    *('laechg', 'nblock', 'kblock', 'apaco', 'npaco'),
}
SCF_TAGS = {
    *('algo', 'ialgo', 'nelm', 'nelmin', 'nelmdl', 'amix', 'bmix', 'amin', 'amix_mag', 'bmix_mag', 'wc', 'inimix'),
    *('imix', 'maxmix', 'mixpre', 'time', 'istart', 'icharg', 'iniwav', 'lmaxmix', 'weimin', 'ldiag', 'isym', 'nbands'),
    'magmom',
}
DYNAMICS_TAGS = {
    *('nsw', 'ibrion', 'isif', 'potim', 'ediffg', 'tebeg', 'teend', 'mdalgo', 'smass', 'pmass', 'andersen_prob'),
    *('langevin_gamma', 'langevin_gamma_l', 'nhc_nchains', 'nhc_period', 'nhc_nrespa', 'nhc_ns', 'iwavpr'),
    *('lattice_constraints', 'random_seed', 'nfree', 'maxmix', 'velocity', 'csvr_period'),
}
NEUTRAL_TAGS = PARALLEL_TAGS | OUTPUT_TAGS | SCF_TAGS | DYNAMICS_TAGS
# What the input file says elsewhere, or what a label must not have.
REFUSED_TAGS = {
    'pstress': 'it would add to the energy and the stress',
    'kspacing': 'give `kpoint_spacing`',
    'kgamma': 'meshes are centred on the gamma point',
    'magmom': 'give `magnetic_moments`, by element',
    'ldau': 'give `hubbard`',
    'ldauu': 'give `hubbard`',
    'ldauj': 'give `hubbard`',
    'ldaul': 'give `hubbard`',
    'system': 'the structure node names the structure',
}


class VaspTheory(Section):
    """A level of theory: everything that fixes the numbers, besides the version of VASP."""

    theory: str | None = Field(default=None, description='name of the level of theory, for people')
    protocol: str | None = Field(
        default=None,
        description='where the tags come from that are not given: fast, balanced, stringent; left out: as the run',
    )
    incar: dict[str, Any] = Field(
        description='INCAR tags over those of the protocol, `null` takes one out; those of dynamics and output are ours'
    )
    kpoint_spacing: Positive | None = Field(
        default=None, description="spacing of the k-points, 1/Å, with 2π, as VASP's KSPACING; left out: one k-point"
    )
    potential_family: str = Field(
        min_length=1, description='name of the POTCAR family in the profile (`aiida-vasp potcar listfamilies`)'
    )
    potential_mapping: dict[str, str] = Field(
        default_factory=dict, description='POTCAR of each element, such as {Na: Na_pv}; left out: the plain one'
    )
    magnetic_moments: dict[str, float] = Field(
        default_factory=dict,
        description='initial moment of each element in μB, others 0.6, with ISPIN = 2; left out: no spin',
    )
    hubbard: dict[str, Any] = Field(
        default_factory=dict, description='`mapping: {Fe: [d, 4.0]}` (U in eV), and `utype`, as in aiida-vasp'
    )

    @model_validator(mode='before')
    @classmethod
    def _moments_need_spin(cls, values: Any) -> Any:
        if (
            not isinstance(values, dict)
            or not values.get('magnetic_moments')
            or not isinstance(values.get('incar'), dict)
        ):
            return values
        return {**values, 'incar': {**values['incar'], 'ispin': 2}}

    @field_validator('incar')
    @classmethod
    def _tags(cls, value: dict[str, Any]) -> dict[str, Any]:
        tags = {str(tag).lower(): setting for tag, setting in value.items() if setting is not None}
        for tag, reason in REFUSED_TAGS.items():
            if tag in tags:
                raise ValueError(f'the tag `{tag}` cannot stand here: {reason}')
        return tags

    @field_validator('potential_mapping', 'magnetic_moments')
    @classmethod
    def _elements(cls, value: dict[str, Any]) -> dict[str, Any]:
        wrong = sorted(set(value) - set(atomic_numbers))
        if wrong:
            raise ValueError(f'`{wrong[0]}` is not an element')
        return value


class VaspSettings(Section):
    """Which results of VASP count as labels, and what is tried where there is none."""

    max_iterations: int = Field(
        default=4, ge=1, description="runs of VASP that aiida-vasp's handlers may take for one structure"
    )
    retries: list[dict[str, Any]] = Field(
        default_factory=lambda: [{'algo': 'all', 'nelm': 300}],
        description='INCAR tags that a further attempt changes, one mapping for each; only such that do not change the theory',
    )
    max_force: Positive = Field(default=50.0, description='a label with a larger force is rejected, eV/Å')
    min_distance_fraction: Positive = Field(
        default=0.5, description='closer atoms are rejected, as part of the radii sum'
    )
    periodic: Axes | None = Field(
        default=None,
        description='directions whose stress counts, if the pbc of the structures claims too many; left out: their pbc',
    )
    reuse_wavefunctions: bool = Field(
        default=False, description='within a batch, begin with the WAVECAR of the frame before, of the same trajectory'
    )

    @field_validator('retries')
    @classmethod
    def _neutral(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        retries = [{str(tag).lower(): setting for tag, setting in retry.items()} for retry in value]
        for retry in retries:
            wrong = sorted(set(retry) - NEUTRAL_TAGS)
            if wrong:
                raise ValueError(f'`{wrong[0]}` belongs to the theory: a retry must not change it')
        return retries


class VaspLevel(VaspTheory):
    """A level of theory and the VASP that computes it."""

    code: str = Field(min_length=1, description='the code of VASP, such as `vasp_std@cluster`')


class VaspLabels(VaspSettings, VaspLevel):
    """Labels by VASP, through aiida-vasp."""

    batch_size: int = Field(
        default=1,
        ge=1,
        description='structures in one job, one after the other; what fails there is run by itself again',
    )

    @model_validator(mode='after')
    def _wavefunctions_in_batches(self) -> VaspLabels:
        if self.reuse_wavefunctions and self.batch_size == 1:
            raise ValueError('`reuse_wavefunctions` works within a batch: give a `batch_size` above 1')
        return self
