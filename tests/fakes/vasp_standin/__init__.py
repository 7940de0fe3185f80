"""A stand-in for the VASP executable: VASP's files in and out, an ASE calculator in between. There is no VASP code in it.

``vasp_std`` reads INCAR, POSCAR, KPOINTS, POTCAR and, if there, ICONST and WAVECAR in the current folder. It does single
points (NSW = 0) and molecular dynamics (IBRION = 0) and writes vasprun.xml, OUTCAR, OSZICAR, CONTCAR, WAVECAR and CHGCAR (dummies)
and what VASP prints. Everything else is said by the environment:

``VASP_STANDIN_PYTHON``
    the Python that runs it, with NumPy and ASE (default: ``python3``).
``VASP_STANDIN_CALCULATOR``, ``VASP_STANDIN_ARGUMENTS``
    import path ``module:attribute`` of an ASE calculator (default ``ase.calculators.emt:EMT``), its keyword arguments as JSON.
``VASP_STANDIN_LOG``
    a file that gets one line of JSON a call: see :func:`faults.describe`.
``VASP_STANDIN_FAULTS``
    a JSON file with a list of rules ``{"match": {...}, "fault": NAME, ...}``: see :mod:`faults`.
"""
