"""The user's input file: what may stand in it, and what the protocols put where it is silent."""

from .errors import ConfigError
from .load import load_config, make_config
from .models import RunConfig
from .protocols import protocol_names

__all__ = ['ConfigError', 'RunConfig', 'load_config', 'make_config', 'protocol_names']
