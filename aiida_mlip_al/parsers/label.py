"""Parser of LabelCalculation."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.common.links import LinkType
from aiida.engine import ExitCode

from aiida_mlip_al.data import LabelData
from aiida_mlip_al.data.extxyz import ENERGY_KEY, FORCES_KEY, STRESS_AXES_KEY, load_complete_frames, stress_of
from aiida_mlip_al.data.labelling import (
    Rejection,
    Theory,
    content_hashes,
    fingerprint,
    label_outputs,
    label_structure,
)
from aiida_mlip_al.data.stored import attributes_of

from .base import RunnerParser

# Arguments that change what is printed and never what is computed.
NEUTRAL_ARGUMENTS = {'verbosity', 'txt', 'label', 'directory', 'command', 'device'}


def theory_of(calculator: dict[str, Any], files: dict[str, str], versions: dict[str, str]) -> Theory:
    """Return the level of theory's name for people and its fingerprint.

    :param calculator: import path and arguments.
    :param files: content hash of every file that the calculator reads.
    :param versions: versions of the calculator's package.
    """
    path = calculator['calculator']
    arguments = {key: value for key, value in calculator.get('arguments', {}).items() if key not in NEUTRAL_ARGUMENTS}
    package = path.split(':')[0].split('.')[0]
    fixed = {'calculator': path, 'arguments': arguments, 'files': files, 'version': versions.get(package)}
    described = ', '.join(f'{key}={value}' for key, value in sorted(arguments.items()))
    name = calculator.get('theory') or f'{path.split(":")[1]}({described})'
    return Theory(name, fingerprint(fixed))


class LabelParser(RunnerParser):
    """Labels, the shard, and the report; a killed job gives what it had finished."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        inputs = self.node.base.links.get_incoming(link_type=LinkType.INPUT_CALC).nested()
        structures = inputs['structures']
        attributes = attributes_of(structures)
        names = sorted(structures)
        records = self.read_records('label.jsonl')
        status = self.read_status()
        frames = {int(atoms.info['index']): atoms for atoms in load_complete_frames(self.read_text('labels.extxyz'))}
        versions: dict[str, str] = next((record['versions'] for record in records if 'versions' in record), {})
        records = [record for record in records if 'index' in record]
        files = content_hashes(inputs.get('files', {}))
        theory = theory_of(inputs['calculator'].get_dict(), files, versions)

        labels: dict[str, LabelData] = {}
        rejected: dict[str, Rejection] = {}
        for record in records:
            name = names[record['index']]
            if record['status'] != 'labelled':
                rejected[name] = Rejection(record['reason'], record['message'])
            elif record['index'] in frames:
                frame = frames[record['index']]
                numbers = (frame.info[ENERGY_KEY], frame.arrays[FORCES_KEY], stress_of(frame))
                axes = frame.info.get(STRESS_AXES_KEY)
                try:
                    labels[name] = label_structure(
                        structures[name], *numbers, theory, axes, attributes=attributes[name]
                    )
                except ValueError as error:
                    rejected[name] = Rejection('error', str(error))

        wall_s, core_s = (
            status.get(key, float(np.sum([record[key] for record in records]))) for key in ('wall_s', 'cpu_s')
        )
        outputs = label_outputs(len(names), labels, rejected, theory, wall_s, core_s)
        for name, output in outputs.items():
            self.out(name, output)
        report = outputs['report']

        if not records:
            failed = self.failure(status)
            if failed is not None and failed.status != self.exit_codes.ERROR_INTERRUPTED.status:
                return failed
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        if report['n_unfinished']:
            return self.failure(status) or self.exit_codes.ERROR_INTERRUPTED
        if not labels:
            described = ', '.join(f'{count} {reason}' for reason, count in sorted(report['reasons'].items()))
            return self.exit_codes.ERROR_ALL_REJECTED.format(reasons=described)
        return None
