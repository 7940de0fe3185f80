"""Step ``phonon_displacements``: thermal displacements along normal modes.

Its force constants need labels, so it is a job; the sampling itself is here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import CopyParameters, Draw, Matrix, Positive, SeedResult, sample_copies, stream_seed
from aiida_mlip_al.sampling.checks import TOO_CLOSE, too_close
from aiida_mlip_al.sampling.force_constants import ForceConstantsParameters, HarmonicCrystal
from aiida_mlip_al.sampling.normal_modes import NormalModes, Statistics, normal_modes, thermal_amplitudes

NAME = 'phonon_displacements'
TOO_FAR = 'too_far'
DEFAULT_TIME_STEP_FS = 100.0

NotNegative = Annotated[float, Field(ge=0)]
Division = Annotated[int, Field(ge=1)]


class PhononParameters(CopyParameters):
    """Which modes are displaced, and how far."""

    copies: int = Field(default=20, ge=1, description='structures made from each incoming structure and temperature')
    temperature: NotNegative | Annotated[list[NotNegative], Field(min_length=1)] = Field(
        default=300.0, description='K; each of a list is sampled'
    )
    statistics: Statistics = Field(
        default='quantum', description='quantum (with zero-point motion) or classical oscillators'
    )
    scan: Literal['gaussian', 'uniform', 'time', 'equidistant'] = Field(
        default='gaussian',
        description='amplitudes: gaussian, the thermal distribution; uniform, between plus and minus its standard deviation '
        '(1/3 of the mean square displacement); time, all modes moving in phase from their largest displacement (1/2 of it); '
        'equidistant, along one mode from minus to plus its standard deviation',
    )
    time_step_fs: Positive | None = Field(
        default=None, description="time between two structures of scan 'time', fs; 100, and only with that scan"
    )
    frequency_window_THz: tuple[Positive, Positive | None] = Field(
        default=(0.1, None),
        description='modes from the first to below the second frequency, THz; no upper end without it',
    )
    modes: Annotated[list[Division], Field(min_length=1)] | None = Field(
        default=None,
        description='numbers of the modes of each q point, by frequency from 1; those outside the frequency window stay out',
    )
    mesh: Literal['commensurate', 'gamma'] | tuple[Division, Division, Division] = Field(
        default='commensurate',
        description='q points: all that fit into the supercell; gamma, where all cells move alike; or the divisions of a '
        'Γ-centred mesh. They stand for the whole zone: each counts more, the fewer they are',
    )
    max_distance: Positive | None = Field(default=None, description='reject when an atom is displaced farther, Å')
    allow_imaginary: bool = Field(
        default=False, description='leave imaginary modes undisplaced instead of refusing the structure'
    )

    @property
    def temperatures(self) -> list[float]:
        """Every temperature, K."""
        return self.temperature if isinstance(self.temperature, list) else [self.temperature]

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * len(self.temperatures) * self.copies

    @model_validator(mode='after')
    def _check_scan(self) -> PhononParameters:
        lower, upper = self.frequency_window_THz
        if upper is not None and upper <= lower:
            raise ValueError(f"'frequency_window_THz' must end above its beginning, got {lower:g} to {upper:g}")
        if self.statistics == 'classical' and 0 in self.temperatures:
            raise ValueError(
                "classical oscillators are at rest at 0 K; take statistics 'quantum' or another 'temperature'"
            )
        if self.time_step_fs is not None and self.scan != 'time':
            raise ValueError(f"'time_step_fs' goes with scan 'time', not with '{self.scan}'")
        return self


class PhononStep(PhononParameters, ForceConstantsParameters):
    """Force constants by finite displacements with the label engine or another calculator, then phonon displacements."""

    calculator: str | None = Field(
        default=None, description="ASE calculator as 'module:name'; left out, the engine that makes the labels"
    )
    arguments: dict[str, Any] | None = Field(default=None, description='keyword arguments of the calculator')

    @model_validator(mode='after')
    def _check_calculator(self) -> PhononStep:
        if self.calculator is not None and not re.fullmatch(r'[\w.]+:[\w.]+', self.calculator):
            raise ValueError(
                f"'calculator' must read 'module:name', such as 'tblite.ase:TBLite', got {self.calculator!r}"
            )
        if self.arguments is not None and self.calculator is None:
            raise ValueError("'arguments' need a 'calculator'")
        return self

    @property
    def force_constants(self) -> dict[str, Any]:
        """The part that fixes the force constants: settings of a ForceConstantsWorkChain."""
        return self.model_dump(mode='json', include=set(ForceConstantsParameters.model_fields), exclude_none=True)


def phonon_displacements(crystal: HarmonicCrystal, parameters: PhononParameters, seed: int) -> SeedResult:
    """Displace the atoms of a supercell along its normal modes.

    The mean square displacement of scan ``gaussian`` is the harmonic crystal's, of the modes and q points chosen; its
    frames depend on the force constants alone, not on signs or degenerate bases of eigenvectors.
    Temperatures follow each other, each with its copies; the record of a frame, with its one temperature and its seed,
    makes it again.

    :param crystal: equilibrium supercell and force constants.
    :param parameters: see the model.
    :param seed: of every random number; more copies or temperatures keep the first ones.
    :raises ValueError: an imaginary mode, a window without modes, a mode number or mesh that does not fit the crystal, or
        scan ``equidistant`` with more than one mode.
    :raises RejectionLimitError: atoms too close or too far displaced in every attempt.
    """
    modes = chosen_modes(crystal, parameters)
    equilibrium = crystal.supercell.positions
    random = parameters.scan in ('gaussian', 'uniform')

    def rejection(frame: Atoms) -> str | None:
        if parameters.max_distance is not None:
            farthest = np.linalg.norm(frame.positions - equilibrium, axis=1).max()
            if farthest > parameters.max_distance:
                return TOO_FAR
        return TOO_CLOSE if too_close(frame, parameters.min_distance_fraction) else None

    result = SeedResult([], [])
    for index, temperature in enumerate(parameters.temperatures):
        single = parameters.model_copy(update={'temperature': temperature})

        def displace(atoms: Atoms, draw: Draw, single: PhononParameters = single) -> tuple[Atoms, None]:
            atoms.positions += modes.displacements(coordinates(modes, single, draw.copy, draw.rng))
            return atoms, None

        sampled = sample_copies(
            NAME,
            [crystal.supercell],
            single,
            stream_seed(seed, NAME, index) if index else seed,
            displace,
            copies=parameters.copies,
            max_attempts=parameters.max_attempts if random else 1,
            rejection=rejection,
        )
        result.frames.extend(sampled.frames)
        result.records.extend(sampled.records)
        for reason, count in sampled.rejected.items():
            result.rejected[reason] = result.rejected.get(reason, 0) + count
    return result


def chosen_modes(crystal: HarmonicCrystal, parameters: PhononParameters) -> NormalModes:
    """Modes that are displaced.

    :param crystal: equilibrium supercell and force constants.
    :param parameters: see the model.
    :raises ValueError: as for :func:`phonon_displacements`.
    """
    lower, upper = parameters.frequency_window_THz
    # Stability is the crystal's, whichever of its q points are sampled.
    modes = normal_modes(crystal)
    lowest = float(modes.frequencies.min())
    if lowest < -lower and not parameters.allow_imaginary:
        q = np.round(modes.qpoints[np.argmin(modes.frequencies)], 4).tolist()
        msg = (
            f'{NAME}: the crystal has imaginary modes, the lowest of {-lowest:.2f}i THz at q {q}; relax it, or set '
            "'allow_imaginary' to leave them undisplaced"
        )
        raise ValueError(msg)
    if parameters.mesh != 'commensurate':
        modes = normal_modes(crystal, parameters.mesh)
    inside = (modes.frequencies >= lower) & (modes.frequencies < (np.inf if upper is None else upper))
    if parameters.modes is not None:
        n_bands = int(modes.bands.max())
        if max(parameters.modes) > n_bands:
            raise ValueError(f"{NAME}: 'modes' go from 1 to {n_bands} in this crystal, got {max(parameters.modes)}")
        inside &= np.isin(modes.bands, parameters.modes)
    n_modes = int(np.count_nonzero(inside))
    if n_modes == 0:
        msg = (
            f'{NAME}: no mode is left to displace, those of the chosen q points go from {modes.frequencies.min():.2f} to '
            f"{modes.frequencies.max():.2f} THz; change 'frequency_window_THz', 'modes' or 'mesh'"
        )
        raise ValueError(msg)
    if parameters.scan == 'equidistant' and n_modes > 1:
        msg = (
            f"{NAME}: scan 'equidistant' goes along one mode, but {n_modes} are chosen; narrow them by 'modes', "
            "'frequency_window_THz' and mesh 'gamma'"
        )
        raise ValueError(msg)
    return modes.select(inside)


def coordinates(modes: NormalModes, parameters: PhononParameters, copy: int, rng: np.random.Generator) -> Matrix:
    """Amplitude of each mode in one copy.

    :param modes: M modes.
    :param parameters: with a single temperature.
    :param copy: number of the copy.
    :param rng: random numbers of this attempt.
    :returns: (M,) Å amu^½.
    """
    (temperature,) = parameters.temperatures
    amplitudes = thermal_amplitudes(modes.frequencies, temperature, parameters.statistics)
    if parameters.scan == 'gaussian':
        # Normal numbers of the atoms' components, projected on the modes: free of the choice of eigenvectors.
        return np.asarray(amplitudes * (modes.vectors @ rng.normal(size=modes.vectors.shape[1])))
    if parameters.scan == 'uniform':
        return np.asarray(amplitudes * rng.uniform(-1.0, 1.0, size=len(amplitudes)))
    if parameters.scan == 'time':
        time_ps = copy * (parameters.time_step_fs or DEFAULT_TIME_STEP_FS) / 1000.0
        return np.asarray(amplitudes * np.cos(2 * np.pi * modes.frequencies * time_ps))
    return amplitudes * equidistant(parameters.copies)[copy]


def equidistant(copies: int) -> Matrix:
    """Points from -1 to 1; a single one is 1.

    :param copies: how many.
    """
    return np.linspace(-1.0, 1.0, copies) if copies > 1 else np.ones(1)
