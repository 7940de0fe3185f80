"""Say what a cluster's Python has: versions, and the GPU that the job sees.

Usage: python runners/check.py check.json
Writes check.json's answer over it and check.status.json.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from status import run


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def gpus() -> dict[str, str | None]:
    """Return `gpu`, the GPUs that torch sees, such as `2 x NVIDIA H100`, and `cuda`, the CUDA that torch was built for."""
    if installed('torch') is None:
        return {'gpu': None, 'cuda': None}
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    first = f'{len(names)} x {names[0]}' if len(names) > 1 else names[0] if names else None
    return {'gpu': first if torch.cuda.is_available() else None, 'cuda': torch.version.cuda}


def main(settings: dict[str, Any], status: dict[str, Any]) -> None:
    """Do the job."""
    found = {'python': platform.python_version(), 'host': platform.node(), **gpus()}
    found.update({name: installed(package) for name, package in settings['packages'].items()})
    Path('check.json').write_text(json.dumps(found))


if __name__ == '__main__':
    run(main)
