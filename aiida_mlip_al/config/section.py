"""What every part of an input file is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the input file: every unknown key is an error."""

    model_config = ConfigDict(extra='forbid', allow_inf_nan=False, frozen=True)
