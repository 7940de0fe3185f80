"""The committee as a potential of LAMMPS: energy, forces and virial of one configuration with given neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_mlip_al.lmp_mace.arguments import ModelOptions
from aiida_mlip_al.lmp_mace.neighbours import Floats, Integers, Neighbours, VerletList
from aiida_mlip_al.lmp_mace.runner_modules import Committee

_CONVERTED = ('-mliap_lammps.pt', '-lammps.pt')


@dataclass
class Evaluation:
    """What K members say on n atoms: energies (K,) in eV, forces (K, n, 3) in eV/Å, virials (K, 3, 3) = -dE/dε in eV,
    the energies (n,) of the atoms in eV by the first of these members, and the descriptor (D,) by the lead model, or None
    if not asked for."""

    energies: Floats
    forces: Floats
    virials: Floats
    atom_energies: Floats
    descriptor: Floats | None = None


class Potential(Committee):  # type: ignore[misc]
    """A committee with a Verlet list, for one configuration that moves.

    :param paths: `.model` files; the first one is the lead model.
    :param options: precision, device, head and descriptors.
    :raises ValueError: if a file cannot be used or the models do not match.
    """

    def __init__(self, paths: Sequence[Path], options: ModelOptions) -> None:
        device = options.device
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        super().__init__(paths, options.dtype, device, options.head, options.descriptors)
        self.dtype, self.device = options.dtype, device
        self.neighbours = VerletList(self.r_max)

    def evaluate(
        self,
        tags: Integers,
        numbers: Integers,
        positions: Floats,
        cell: Floats,
        pbc: NDArray[np.bool_],
        members: Sequence[int] | None = None,
        descriptor: bool = False,
    ) -> Evaluation:
        """Evaluate members on one configuration.

        :param tags: (n,) names of the atoms.
        :param numbers: (n,) their atomic numbers.
        :param positions: (n, 3) in Å, with respect to the cell's origin along periodic directions.
        :param cell: (3, 3) lower triangular, in Å.
        :param pbc: (3,) periodic directions.
        :param members: indices of models; None for all.
        :param descriptor: also return the descriptor, which needs model 0 among the members.
        """
        members = range(len(self)) if members is None else members
        n_atoms = len(tags)
        energies, forces = np.zeros(len(members)), np.zeros((len(members), n_atoms, 3))
        virials, atom_energies = np.zeros((len(members), 3, 3)), np.zeros(n_atoms)
        described = None
        if n_atoms == 0:
            return Evaluation(energies, forces, virials, atom_energies)
        species = self._species[numbers]
        graph = self._configuration(self.neighbours.update(tags, positions, cell, pbc), species)
        offsets = np.array([0, n_atoms])
        for row, member in enumerate(members):
            output = self._forward(member, graph, stress=True)
            energies[row] = self._total_energies(member, output, species, offsets)[0]
            forces[row] = _array(output['forces'])
            virials[row] = _array(output['virials']).reshape(3, 3)
            if row == 0:
                atom_energies = _array(output['node_energy'])
            if descriptor and member == 0:
                described = self._descriptors(output, species, offsets)[0]
        return Evaluation(energies, forces, virials, atom_energies, described)

    def _configuration(self, neighbours: Neighbours, species: Integers) -> dict[str, torch.Tensor]:
        positions, cell = neighbours.positions, neighbours.cell
        n_atoms = len(positions)
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(species), len(self.elements))
        return {
            # Centred in float64: the model sees differences only, and they survive the cast to float32.
            'positions': self._tensor(positions - positions.mean(axis=0)),
            'node_attrs': one_hot.to(device=self._device, dtype=self._dtype),
            'edge_index': torch.from_numpy(neighbours.pairs).to(self._device),
            'shifts': self._tensor(neighbours.images @ cell),
            'unit_shifts': self._tensor(neighbours.images),
            'cell': self._tensor(cell),
            'batch': torch.zeros(n_atoms, dtype=torch.int64, device=self._device),
            'ptr': torch.tensor([0, n_atoms], device=self._device),
        }


def find_model(name: str, folder: Path) -> Path:
    """Return the model file that a script names.

    :param name: a path, relative to the script's folder or to the working directory. A file that mace_create_lammps_model
        made of X.model stands for X.model.
    :param folder: the script's folder.
    :raises ValueError: if there is no such file, or only the converted one.
    """
    wanted = name
    for ending in _CONVERTED:
        if name.endswith(ending):
            wanted = name.removesuffix(ending)
            break
    for path in (folder / wanted, Path(wanted)):
        if path.is_file():
            return path
    if wanted != name:
        raise ValueError(f'{name} is for a native LAMMPS: put the file {wanted} that it was made of beside it.')
    raise ValueError(
        f'The model {name} is neither in the folder of the script, {folder}, nor in the working directory.'
    )


def _array(tensor: torch.Tensor) -> Floats:
    return tensor.detach().to(device='cpu', dtype=torch.float64).numpy()
