"""LAMMPS' files, written and read: numpy, ase and jinja2 only, nothing of AiiDA or torch."""
