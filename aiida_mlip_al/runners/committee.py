"""A committee of MACE models: loading, batched evaluation, deviations and descriptors."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mace  # noqa: F401  (lets torch.load open e3nn's own constants)
import numpy as np
import torch
from ase import Atoms
from descriptors import make_descriptor
from neighbours import neighbour_list
from tensors import to_numpy

_DTYPES = {'float32': torch.float32, 'float64': torch.float64}
_NO_CELL = np.eye(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_INT = 2**31 - 1
PERCENTILE = 95.0
RELATIVE_LEVEL = 0.2  # eV/Å


@dataclass
class Prediction:
    """What K members say on B structures with N atoms in all. Units eV, eV/Å, eV/Å³ (ASE's sign, Voigt order).

    energies (K, B); forces (K, N, 3); stresses (K, B, 6), NaN where a structure is not periodic in three directions,
    or None if not asked for; descriptors (B, D), of model 0, or None if not asked for; offsets (B + 1): the atoms of
    structure b are offsets[b]:offsets[b + 1]; mahalanobis (B,), of one model with an uncertainty: how far the features of
    an atom are from the training data, the largest over the atoms, dimensionless. All float64.
    """

    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray | None
    descriptors: np.ndarray | None
    offsets: np.ndarray
    mahalanobis: np.ndarray | None = None

    def forces_of(self, structure: int) -> np.ndarray:
        """Return the forces (K, n, 3) on one structure of the batch.

        :param structure: its position in the batch.
        """
        return self.forces[:, self.offsets[structure] : self.offsets[structure + 1]]


@dataclass
class Deviation:
    """How much the members disagree on one structure: eV/Å, eV/atom for the energy, a ratio for the relative one.

    The stress (eV/Å³) is None where it was not asked for, NaN where the structure is not periodic in three directions.
    """

    max_force: float
    mean_force: float
    min_force: float
    percentile_force: float
    relative_force: float
    energy_per_atom: float
    stress: float | None = None


def deviation(energies: np.ndarray, forces: np.ndarray, stresses: np.ndarray | None = None) -> Deviation:
    """Return the committee's deviation on one structure.

    Atom i has eps_i = sqrt(<|F_i^k - <F_i>|^2>), the mean over members k (DeePMD's model deviation; Zhang et al.,
    Phys. Rev. Mater. 3, 023804 (2019)): a vector norm and the population variance. The percentile is the 95th of eps_i; the
    relative deviation is the largest eps_i / (|<F_i>| + 0.2 eV/Å), with the level of MACE's own script of active learning. That
    of the stress is the largest standard deviation of a component.

    :param energies: (K,) in eV.
    :param forces: (K, n, 3) in eV/Å.
    :param stresses: (K, 6) in eV/Å³.
    """
    mean = forces.mean(axis=0)
    difference = forces - mean
    per_atom = np.sqrt(np.einsum('kij,kij->i', difference, difference) / len(forces))
    return Deviation(
        max_force=float(per_atom.max()),
        mean_force=float(per_atom.mean()),
        min_force=float(per_atom.min()),
        percentile_force=float(np.percentile(per_atom, PERCENTILE)),
        relative_force=float((per_atom / (np.linalg.norm(mean, axis=1) + RELATIVE_LEVEL)).max()),
        energy_per_atom=float(energies.std()) / forces.shape[1],
        stress=None if stresses is None else float(stresses.std(axis=0).max()),
    )


class Committee:
    """Models with the same elements and cutoff, evaluated on many structures at once.

    Energies are summed in float64 from the isolated atoms' energies and the interaction energy, so that float32 models
    do not lose digits to large total energies.

    :param paths: `.model` files, as mace-torch saves them; the first one is the lead model. They are pickles:
        opening one runs code.
    :param dtype: 'float32' or 'float64'.
    :param device: 'cpu', 'cuda' or 'cuda:<index>'.
    :param head: name of the head; None takes the only one, or the one called Default.
    :param descriptors: what the lead model describes structures by: 'features', the atoms' features averaged for each
        element, or 'gradient', that of the energy with respect to the weights of the last layers.
    :raises ValueError: if a file cannot be used or the models do not match.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        dtype: str = 'float32',
        device: str = 'cpu',
        head: str | None = None,
        descriptors: str = 'features',
    ) -> None:
        if not paths:
            raise ValueError('models must name at least one model file.')
        if dtype not in _DTYPES:
            raise ValueError(f'dtype must be float32 or float64, not {dtype!r}.')
        if device.startswith('cuda') and not torch.cuda.is_available():
            raise ValueError(f'device is {device}, but this Python sees no GPU: choose cpu or another computer.')
        if device == 'cpu':
            torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS') or 1))
            _keep_freed_memory()
        self._dtype, self._device = _DTYPES[dtype], torch.device(device)
        torch.set_default_dtype(self._dtype)
        loaded = [_load(path) for path in paths]
        lead = loaded[0]
        self.elements = [int(number) for number in lead.atomic_numbers]
        self.r_max = float(lead.r_max)
        for path, model in zip(paths, loaded, strict=True):
            _check(path, model, self.elements, self.r_max)
        heads = [_head_index(path, model, head) for path, model in zip(paths, loaded, strict=True)]
        self._heads = heads
        self._atomic_energies = [_atomic_energies(model, index) for model, index in zip(loaded, heads, strict=True)]
        self._models = [_prepare(model, self._dtype, self._device) for model in loaded]
        self._descriptors = make_descriptor(descriptors, self._models[0], heads[0])
        self._species = np.full(max(self.elements) + 1, -1)
        self._species[self.elements] = np.arange(len(self.elements))

    def __len__(self) -> int:
        return len(self._models)

    def check_elements(self, structures: Sequence[Atoms]) -> None:
        """Refuse structures with elements that the models do not know.

        :param structures: any number of structures.
        :raises ValueError: naming the unknown elements.
        """
        unknown = {
            symbol
            for atoms in structures
            for symbol, number in zip(atoms.get_chemical_symbols(), atoms.numbers, strict=True)
            if number not in self.elements
        }
        if unknown:
            names = ', '.join(sorted(unknown))
            raise ValueError(f'The models do not know {names}: train them on data with these elements.')

    def predict(
        self,
        structures: Sequence[Atoms],
        members: Sequence[int] | None = None,
        stress: bool = False,
        descriptors: bool = False,
    ) -> Prediction:
        """Evaluate members on structures in one batch; neighbour lists are made once.

        :param structures: B structures; positions in Å.
        :param members: K indices of models; None for all.
        :param stress: also return stresses.
        :param descriptors: also return the descriptors, which needs model 0 among the members.
        """
        members = range(len(self)) if members is None else members
        graph, species, offsets = self._graph(structures)
        periodic = np.array([atoms.pbc.all() for atoms in structures])
        n_structures = len(structures)
        energies = np.empty((len(members), n_structures))
        forces = np.empty((len(members), offsets[-1], 3))
        stresses = np.full((len(members), n_structures, 6), np.nan) if stress else None
        described = None
        for row, member in enumerate(members):
            output = self._forward(member, graph, stress and bool(periodic.any()))
            energies[row] = self._total_energies(member, output, species, offsets)
            forces[row] = to_numpy(output['forces'])
            if stresses is not None and periodic.any():
                full = to_numpy(output['stress'])[periodic]
                stresses[row, periodic] = full[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            if descriptors and member == 0:
                described = self._descriptors(output, species, offsets)
        return Prediction(energies, forces, stresses, described, offsets)

    def _forward(self, member: int, graph: dict[str, torch.Tensor], stress: bool) -> dict[str, Any]:
        # The model replaces entries and differentiates by the positions: give it a dictionary and a leaf of its own.
        inputs = dict(graph)
        inputs['positions'] = graph['positions'].detach().clone()
        inputs['head'] = torch.full_like(graph['ptr'][1:], self._heads[member])
        # On a CPU the TorchScript optimiser gains nothing and costs a second for each model and new shape.
        with torch.jit.optimized_execution(self._device.type != 'cpu'):
            return self._models[member](inputs, training=False, compute_force=True, compute_stress=stress)

    def _total_energies(
        self, member: int, output: dict[str, Any], species: np.ndarray, offsets: np.ndarray
    ) -> np.ndarray:
        if 'interaction_energy' not in output:
            return to_numpy(output['energy'])
        isolated = np.add.reduceat(self._atomic_energies[member][species], offsets[:-1])
        return isolated + to_numpy(output['interaction_energy'])

    def _graph(self, structures: Sequence[Atoms]) -> tuple[dict[str, torch.Tensor], np.ndarray, np.ndarray]:
        """Return the models' input, the element index of every atom and the atom offsets of the structures."""
        offsets = np.cumsum([0, *(len(atoms) for atoms in structures)])
        positions, cells, edges, unit_shifts, shifts = [], [], [], [], []
        for atoms, offset in zip(structures, offsets[:-1], strict=True):
            # Centred in float64: the model sees differences only, and they survive the cast to float32.
            centred = atoms.positions - atoms.positions.mean(axis=0)
            pbc = atoms.pbc
            cell = np.where(pbc[:, None], atoms.cell.array, _NO_CELL) if pbc.any() else _NO_CELL
            pairs, images = neighbour_list(centred, cell, pbc, self.r_max)
            positions.append(centred)
            cells.append(cell)
            edges.append(pairs + offset)
            unit_shifts.append(images)
            shifts.append(images @ cell)
        species = self._species[np.concatenate([atoms.numbers for atoms in structures])]
        batch = np.repeat(np.arange(len(structures)), np.diff(offsets))
        one_hot = torch.zeros((len(species), len(self.elements)), dtype=self._dtype, device=self._device)
        one_hot[torch.arange(len(species)), torch.from_numpy(species)] = 1
        graph = {
            'positions': self._tensor(np.concatenate(positions)),
            'node_attrs': one_hot,
            'edge_index': torch.from_numpy(np.concatenate(edges, axis=1)).to(self._device),
            'shifts': self._tensor(np.concatenate(shifts)),
            'unit_shifts': self._tensor(np.concatenate(unit_shifts)),
            'cell': self._tensor(np.concatenate(cells)),
            'batch': torch.from_numpy(batch).to(self._device),
            'ptr': torch.from_numpy(offsets).to(self._device),
        }
        return graph, species, offsets

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device=self._device, dtype=self._dtype)


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones.

    By default it gives large blocks back to the system, and every pass of a model faults them in again: a fourth of the
    time of 512 atoms. The peak of memory stays what it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def _load(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise ValueError(f'The model file {path} does not exist.')
    try:
        model = torch.load(path, map_location='cpu', weights_only=False)
    except Exception as error:
        raise ValueError(f'{path} cannot be opened as a MACE model: {type(error).__name__}: {error}') from error
    if not (hasattr(model, 'atomic_numbers') and hasattr(model, 'r_max')):
        raise ValueError(f'{path} is not a MACE model: it has no elements or no cutoff.')
    return model


def _check(path: str | Path, model: Any, elements: list[int], r_max: float) -> None:
    mine = [int(number) for number in model.atomic_numbers]
    if mine != elements:
        raise ValueError(f'{path} has elements {mine}, the first model {elements}: they must agree.')
    if float(model.r_max) != r_max:
        raise ValueError(f'{path} has r_max {float(model.r_max):g} Å, the first model {r_max:g} Å: they must agree.')
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        raise ValueError(f'{path} has weights that are not finite: its training diverged, leave it out.')


def _head_index(path: str | Path, model: Any, head: str | None) -> int:
    heads = list(getattr(model, 'heads', None) or ['Default'])
    if head is not None:
        if head not in heads:
            raise ValueError(f'{path} has no head {head!r}: choose one of {", ".join(heads)}.')
        return heads.index(head)
    if len(heads) == 1:
        return 0
    defaults = [index for index, name in enumerate(heads) if name.lower() == 'default']
    if not defaults:
        raise ValueError(f'{path} has several heads: set head to one of {", ".join(heads)}.')
    return defaults[0]


def _atomic_energies(model: Any, head: int) -> np.ndarray:
    energies = model.atomic_energies_fn.atomic_energies.detach().double().cpu().numpy()
    return np.atleast_2d(energies)[head]


def _prepare(model: torch.nn.Module, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    model = model.to(dtype=dtype, device=device).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model
