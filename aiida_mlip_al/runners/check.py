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


def gpu() -> str | None:
    """Return the name of the GPU that torch sees, or None."""
    if installed('torch') is None:
        return None
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def main(settings: dict[str, Any], status: dict[str, Any]) -> None:
    """Do the job."""
    found = {'python': platform.python_version(), 'host': platform.node(), 'gpu': gpu()}
    found.update({name: installed(package) for name, package in settings['packages'].items()})
    Path('check.json').write_text(json.dumps(found))


if __name__ == '__main__':
    run(main)
