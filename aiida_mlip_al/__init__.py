"""Active learning of machine-learning interatomic potentials with full provenance, on AiiDA."""

__version__ = '0.1.0'
