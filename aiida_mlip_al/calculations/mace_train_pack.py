"""MaceTrainPackCalculation: several members of a committee trained side by side in one job."""

from __future__ import annotations

import json
from typing import Any

from aiida import orm
from aiida.common import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_al.data import ModelData

from .base import RunnerCalculation, device_of
from .mace_train import (
    checkpoints_of,
    define_training,
    problem_of,
    shared_files,
    training_results,
    training_settings,
)


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse an empty pack, what belongs to nobody, and what one of the trainings cannot be made of."""
    members = inputs.get('seeds')
    if not members:
        return 'There is no member to train: give each a seed in `seeds`.'
    for namespace in ('initial_models', 'parent_folders'):
        strangers = sorted(set(inputs.get(namespace) or {}) - set(members))
        if strangers:
            return f'`{namespace}.{strangers[0]}` is of no member: there is no seed of that name.'
    models = inputs.get('initial_models') or {}
    return problem_of(inputs, [models.get(name) for name in members])


class MaceTrainPackCalculation(RunnerCalculation):
    """Train members in a folder each, all at once, over the GPUs of the job; each as MaceTrainCalculation would by itself."""

    RUNNER = 'train_pack'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_al.mace_train_pack'
        define_training(spec)
        spec.input_namespace(
            'seeds',
            valid_type=orm.Int,
            dynamic=True,
            help='By member: fixes the weights, the order of the batches and the bootstrap.',
        )
        spec.input_namespace(
            'initial_models',
            valid_type=ModelData,
            dynamic=True,
            required=False,
            help='By member: start from this model. Who has none starts from scratch.',
        )
        spec.input_namespace(
            'parent_folders',
            valid_type=orm.RemoteData,
            dynamic=True,
            required=False,
            help='By member: the folder of its training that was cut short; continue from its checkpoint.',
        )
        spec.inputs.validator = validate_inputs
        spec.output_namespace('committee', valid_type=ModelData, dynamic=True, help='The model of each good member.')
        spec.output_namespace(
            'metrics', valid_type=orm.ArrayData, dynamic=True, help='The learning curve of each member.'
        )
        spec.output_namespace(
            'reports', valid_type=orm.Dict, dynamic=True, help='Frames, epochs, errors and costs of each member.'
        )
        spec.output_namespace(
            'folders',
            valid_type=orm.RemoteData,
            dynamic=True,
            help='The folder of each member without a model that has a checkpoint to go on from.',
        )
        spec.output(
            'failures',
            valid_type=orm.Dict,
            required=False,
            help='`status` and `message` of each member without a model; the exit codes are those of one training.',
        )
        spec.exit_code(
            330,
            'ERROR_MEMBERS_FAILED',
            message='{failed} of {members} members have no model; {name}: {message}',
            invalidates_cache=True,
        )

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Write what each member's training reads; copy the shards once, and the models to start from."""
        models, parents = self.inputs.get('initial_models', {}), self.inputs.get('parent_folders', {})
        for name, seed in self.inputs.seeds.items():
            settings = training_settings(
                self.inputs, seed.value, models.get(name), continued=name in parents, shared='../'
            )
            with folder.get_subfolder(name, create=True).open('train.json', 'w') as handle:
                json.dump(settings, handle, indent=2)
        own = [(model.uuid, model.filename, f'{name}/initial.model') for name, model in sorted(models.items())]
        return [*shared_files(self.inputs), *own]

    def job_settings(self) -> dict[str, Any]:
        """Return the members' folders, and whether they share GPUs."""
        return {'folders': sorted(self.inputs.seeds), 'device': device_of(self.inputs.code)}

    def retrieved_files(self) -> list[Any]:
        """Return what each training leaves."""
        kept = [*training_results(), ('train.out', 1), ('train.status.json', 1)]
        return [(f'{name}/{path}', '.', depth + 1) for name in sorted(self.inputs.seeds) for path, depth in kept]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Add the checkpoints of the trainings to continue."""
        calcinfo = super().prepare_for_submission(folder)
        parents = self.inputs.get('parent_folders', {})
        calcinfo.remote_copy_list = [checkpoints_of(parent, f'{name}/') for name, parent in sorted(parents.items())]
        return calcinfo
