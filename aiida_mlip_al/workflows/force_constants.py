"""ForceConstantsWorkChain: force constants of a crystal by finite displacements, with any label engine."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, WorkChain
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.phonon_functions import EQUILIBRIUM, displace_structure, make_force_constants
from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.sampling.force_constants import ForceConstantsParameters

from .label import LabelWorkChain
from .label_engines import LABEL_ENGINES, engine_given
from .submit_once import SubmitOnce


def validate_settings(settings: orm.Dict, _: Any = None) -> str | None:
    """Refuse an unknown or wrong setting."""
    try:
        parse_parameters('force_constants', ForceConstantsParameters, settings.get_dict())
    except ValueError as error:
        return str(error)
    return None


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse inputs without exactly one label engine."""
    return engine_given(inputs['label'], LABEL_ENGINES, 'label')


class ForceConstantsWorkChain(SubmitOnce, WorkChain):
    """Displace the atoms that symmetry does not relate, label the supercells, and make force constants of the forces."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input('structure', valid_type=orm.StructureData, help='The relaxed crystal.')
        spec.input(
            'settings',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            validator=validate_settings,
            help='`supercell` (repetitions or matrix) or `min_image_distance` (Å), `max_atoms`, `displacement` (Å), '
            '`max_residual_force` (eV/Å).',
        )
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures',),
            namespace_options={'help': 'How the supercells are labelled; each of them is needed.'},
        )
        spec.inputs['label']['max_failed_fraction'].default = lambda: orm.Float(0.0)
        # Without structures the child's validator has nothing to go by.
        spec.inputs['label'].validator = None
        spec.inputs.validator = validate_inputs
        spec.outline(cls.displace, cls.run_label, cls.inspect_label, cls.make_force_constants)
        spec.output('supercell', valid_type=orm.StructureData, help='The supercell at rest.')
        spec.output(
            'force_constants',
            valid_type=orm.ArrayData,
            help='`force_constants` (n_atoms, n_atoms, 3, 3), eV/Å², for the atoms of `supercell`; `supercell_matrix` (3, 3).',
        )
        spec.output('dataset', valid_type=DatasetData, required=False, help='The labelled supercells.')
        spec.exit_code(401, 'ERROR_DISPLACEMENTS_FAILED', message='There is nothing to label: {message}')
        spec.exit_code(402, 'ERROR_LABEL_FAILED', message='Force constants need every label: {message}')
        spec.exit_code(403, 'ERROR_FORCE_CONSTANTS_FAILED', message='The forces give no force constants: {message}')

    def displace(self) -> ExitCode | None:
        """Make the supercells."""
        result, node = displace_structure.run_get_node(self.inputs.structure, self.inputs.settings)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_DISPLACEMENTS_FAILED.format(message=node.exit_message)
        self.ctx.supercells = {EQUILIBRIUM: result[EQUILIBRIUM], **result['displaced']}
        self.out('supercell', result[EQUILIBRIUM])
        return None

    def run_label(self) -> None:
        """Label the supercells."""
        inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, 'label'))
        inputs.structures = self.ctx.supercells
        inputs.metadata.call_link_label = 'label'
        node = self.submit(LabelWorkChain, **inputs)
        atoms = len(self.ctx.supercells[EQUILIBRIUM].sites)
        self.report(f'labelling {len(self.ctx.supercells)} supercells of {atoms} atoms <{node.pk}>')
        self.to_context(label=node)

    def inspect_label(self) -> ExitCode | None:
        """Go on if every supercell has its label."""
        node = self.ctx.label
        if 'dataset' in node.outputs:
            self.out('dataset', node.outputs.dataset)
        self.ctx.labels = dict(node.outputs.labels.items()) if 'labels' in node.outputs else {}
        missing = sorted(set(self.ctx.supercells) - set(self.ctx.labels))
        if missing or not node.is_finished_ok:
            reason = node.exit_message or f'{", ".join(missing)} got none.'
            return self.exit_codes.ERROR_LABEL_FAILED.format(message=f'<{node.pk}> {reason}')
        return None

    def make_force_constants(self) -> ExitCode | None:
        """Make the force constants."""
        result, node = make_force_constants.run_get_node(self.inputs.structure, self.inputs.settings, **self.ctx.labels)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_FORCE_CONSTANTS_FAILED.format(message=node.exit_message)
        constants = result['force_constants']
        self.out('force_constants', constants)
        attributes = constants.base.attributes.all
        self.report(
            f'force constants of {attributes["n_displacements"]} displacements, frequencies from '
            f'{attributes["lowest_frequency_THz"]:.2f} to {attributes["highest_frequency_THz"]:.2f} THz'
        )
        return None
