"""Parsers, one for each CalcJob: they trust results, never an exit status."""
