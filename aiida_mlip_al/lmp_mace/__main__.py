"""`python -m aiida_mlip_al.lmp_mace` is `lmp-mace`."""

import sys

from aiida_mlip_al.lmp_mace.cli import main

if __name__ == '__main__':
    sys.exit(main())
