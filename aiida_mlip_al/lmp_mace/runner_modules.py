"""What lmp-mace takes from the runners, which import each other by bare names as they do in a job's folder."""

import sys
from pathlib import Path

_RUNNERS = str(Path(__file__).parents[1] / 'runners')

sys.path.insert(0, _RUNNERS)
try:
    from committee import Committee, Deviation, deviation
    from neighbours import neighbour_list
    from status import cpu_seconds, explain, versions
finally:
    sys.path.remove(_RUNNERS)

__all__ = ['Committee', 'Deviation', 'cpu_seconds', 'deviation', 'explain', 'neighbour_list', 'versions']
