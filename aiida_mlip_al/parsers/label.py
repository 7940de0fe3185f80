"""Parser of LabelCalculation."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_mlip_al.data import DatasetData, LabelData
from aiida_mlip_al.data.extxyz import (
    ENERGY_KEY,
    FORCES_KEY,
    STRESS_AXES_KEY,
    labelled_atoms,
    load_complete_frames,
    stress_of,
)

from .base import RunnerParser

# Arguments that change what is printed and never what is computed.
NEUTRAL_ARGUMENTS = {'verbosity', 'txt', 'label', 'directory', 'command', 'device'}


def theory_of(calculator: dict[str, Any], files: dict[str, str], versions: dict[str, str]) -> tuple[str, str]:
    """Return the level of theory's name for people and its fingerprint.

    :param calculator: import path and arguments.
    :param files: content hash of every file that the calculator reads.
    :param versions: versions of the calculator's package.
    """
    path = calculator['calculator']
    arguments = {key: value for key, value in calculator.get('arguments', {}).items() if key not in NEUTRAL_ARGUMENTS}
    package = path.split(':')[0].split('.')[0]
    fixed = {'calculator': path, 'arguments': arguments, 'files': files, 'version': versions.get(package)}
    text = json.dumps(fixed, sort_keys=True, default=str)
    described = ', '.join(f'{key}={value}' for key, value in sorted(arguments.items()))
    name = calculator.get('theory') or f'{path.split(":")[1]}({described})'
    return name, hashlib.sha256(text.encode()).hexdigest()


class LabelParser(RunnerParser):
    """Labels, the shard, and the report; a killed job gives what it had finished."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        structures = self.node.inputs.structures
        names = sorted(structures)
        records = self.read_records('label.jsonl')
        status = self.read_status()
        frames = {int(atoms.info['index']): atoms for atoms in load_complete_frames(self.read_text('labels.extxyz'))}
        versions: dict[str, str] = next((record['versions'] for record in records if 'versions' in record), {})
        records = [record for record in records if 'index' in record]
        theory, theory_hash = self.theory(versions)

        labels: dict[str, LabelData] = {}
        rejected = []
        for record in records:
            name = names[record['index']]
            if record['status'] != 'labelled':
                rejected.append({'structure': name, 'reason': record['reason'], 'message': record['message']})
            elif record['index'] in frames:
                try:
                    labels[name] = self.label(frames[record['index']], structures[name], theory, theory_hash)
                except ValueError as error:
                    rejected.append({'structure': name, 'reason': 'error', 'message': str(error)})

        reasons = Counter(item['reason'] for item in rejected)
        report = {
            'n_structures': len(names),
            'n_labelled': len(labels),
            'n_rejected': len(rejected),
            'n_unfinished': len(names) - len(labels) - len(rejected),
            'reasons': dict(reasons),
            'rejected': rejected,
            'wall_s': status.get('wall_s', float(np.sum([record['wall_s'] for record in records]))),
            'core_s': status.get('cpu_s', float(np.sum([record['cpu_s'] for record in records]))),
            'theory': theory,
            'theory_hash': theory_hash,
        }
        self.out('report', orm.Dict(report))
        if labels:
            self.out('labels', labels)
            self.out('dataset', self.dataset(labels))

        if not records:
            failed = self.failure(status)
            if failed is not None and failed.status != self.exit_codes.ERROR_INTERRUPTED.status:
                return failed
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        if report['n_unfinished']:
            return self.failure(status) or self.exit_codes.ERROR_INTERRUPTED
        if not labels:
            described = ', '.join(f'{count} {reason}' for reason, count in sorted(reasons.items()))
            return self.exit_codes.ERROR_ALL_REJECTED.format(reasons=described)
        return None

    def theory(self, versions: dict[str, str]) -> tuple[str, str]:
        """Return name and fingerprint of this job's level of theory."""
        files = self.node.inputs.files if 'files' in self.node.inputs else {}
        hashes = {node.filename: hashlib.sha256(node.get_content('rb')).hexdigest() for node in files.values()}
        return theory_of(self.node.inputs.calculator.get_dict(), hashes, versions)

    def label(self, frame: Any, structure: orm.StructureData, theory: str, theory_hash: str) -> LabelData:
        """Return the label of one structure, on the structure's own coordinates."""
        attributes = structure.base.attributes
        atoms = labelled_atoms(
            structure.get_ase(),
            frame.info[ENERGY_KEY],
            frame.arrays[FORCES_KEY],
            stress_of(frame),
            frame.info.get(STRESS_AXES_KEY),
            temperature_K=attributes.get('origin', {}).get('temperature_K'),
        )
        return LabelData.from_ase(atoms, theory, theory_hash, attributes.get('split', 'train'))

    def dataset(self, labels: dict[str, LabelData]) -> DatasetData:
        """Return the shard; its frames keep the names of their structures, so each leads back to its label."""
        frames = []
        for name in sorted(labels):
            frame = labels[name].to_ase()
            frame.info['name'] = name
            frames.append(frame)
        first = labels[min(labels)]
        return DatasetData.from_ase(frames, first.base.attributes.get('theory'), first.theory_hash)
