"""A stand-in for VASP: the same files in, the same files out, an ASE calculator instead of density-functional theory.

It reads INCAR, POSCAR, KPOINTS and POTCAR of the current folder, and writes OUTCAR, vasprun.xml, OSZICAR, CONTCAR and the
standard output as aiida-vasp and ASE read them: single points, relaxations (IBRION 1, 2, 3 with ISIF 2 or 3) and molecular
dynamics (IBRION 0: NVE, Nosé-Hoover, Langevin; NPT with Langevin). Run ``tests/fakes/vasp`` where one would run ``vasp_std``.
Its numbers are the calculator's, whatever cutoff, k-points and functional the INCAR asks for.

Environment variables (AiiDA: the ``prepend_text`` of the code or of the job):

``VASP_STANDIN_CALCULATOR``  import path ``module:attribute`` of an ASE calculator (``ase.calculators.emt:EMT``)
``VASP_STANDIN_ARGUMENTS``   its keyword arguments in JSON (``{}``)
``VASP_STANDIN_MODE``        what happens (``ok``), see below
``VASP_STANDIN_NEED``        electronic steps that a calculation needs
``VASP_STANDIN_FRAMES``      whole ionic steps before a run is killed (3)
``VASP_STANDIN_EVERY``       unconverged are only the ionic steps whose number is a multiple of this (1)
``VASP_STANDIN_SLEEP``       seconds that an ionic step takes
``VASP_STANDIN_SHARE``       the trouble befalls this share of the structures only, always the same ones (1.0)
``VASP_STANDIN_ONCE``        1: the trouble befalls a structure only the first time that the log sees it
``VASP_STANDIN_LOG``         file that gets a line of JSON for each run

Modes:

``ok``           everything converges, in about twelve electronic steps
``unconverged``  100 electronic steps are needed; a smaller AMIX or ALGO=All or Damped lowers the number
``never``        no electronic self-consistency, whatever is changed
``error``        finishes, and says BRMIX: very serious problems
``crash``        a segmentation fault before any file is written
``killed``       killed in the middle of the ionic step after ``VASP_STANDIN_FRAMES``: files end in the middle of a line
``slow``         an ionic step takes a second

Numbers of an unconverged ionic step are wrong, by more than anyone could overlook. One structure of many gets into trouble by a
word in the comment line of its POSCAR (aiida-vasp writes the structure's label there), or in the INCAR's SYSTEM, which has
precedence over the environment: ``standin:never``, ``standin:killed:frames=5``.
"""
