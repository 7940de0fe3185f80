"""MaceTrainCalculation: one MACE model trained by mace_run_train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida import orm
from aiida.common import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from ase.data import atomic_numbers

from aiida_mlip_al.data import DatasetData, ModelData
from aiida_mlip_al.data.dataset import check_same_theory

from .base import RunnerCalculation, device_of

OWN_KEYS = {'gradient_steps', 'stage_two_fraction', 'final_lr_fraction', 'choose_epoch', 'bootstrap'}
STRESS_LOSSES = {'stress', 'huber', 'universal'}
SET_BY_US = {
    'name',
    'seed',
    'work_dir',
    'train_file',
    'valid_file',
    'energy_key',
    'forces_key',
    'stress_key',
    'E0s',
    'atomic_numbers',
    'device',
    'max_num_epochs',
    'start_swa',
    'swa',
}


def validate_parameters(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse arguments that the job sets itself, and numbers out of range."""
    parameters = node.get_dict()
    ours = sorted(SET_BY_US & set(parameters))
    if ours:
        return f'`{ours[0]}` is set by the training job itself: leave it out.'
    steps = parameters.get('gradient_steps')
    if not isinstance(steps, int) or steps < 1:
        return f'`gradient_steps` is {steps}, but must be a positive whole number.'
    for key in ('stage_two_fraction', 'final_lr_fraction', 'bootstrap'):
        value = parameters.get(key)
        if value is not None and not (isinstance(value, (int, float)) and 0 < value <= 1):
            return f'`{key}` is {value}, but must be above 0 and at most 1.'
    if parameters.get('choose_epoch') not in (None, 'last', 'best'):
        return f'`choose_epoch` is {parameters["choose_epoch"]}, but must be last or best.'
    return None


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse what one training cannot be made of."""
    return problem_of(inputs, [inputs.get('initial_model')])


def problem_of(inputs: Any, initial_models: Sequence[ModelData | None]) -> str | None:
    """Return why trainings are impossible: mixed theory, missing splits, elements without reference energy or unknown to a model.

    :param inputs: what :func:`define_training` defines.
    :param initial_models: what each training starts from.
    """
    datasets = inputs['datasets']
    if not datasets:
        return 'Training needs at least one dataset.'
    try:
        check_same_theory(datasets)
    except ValueError as error:
        return str(error)
    for split in ('train', 'validation'):
        if not any(dataset.splits.get(split, 0) for dataset in datasets.values()):
            return f'No frame of the datasets has the split `{split}`, and training needs both train and validation.'
    elements = {element for dataset in datasets.values() for element in dataset.elements}
    missing = sorted(elements - set(inputs['reference_energies'].get_dict()))
    if missing:
        return f'The element {missing[0]} has no reference energy: add its isolated-atom energy in eV.'
    if 'replay' in inputs and None in initial_models:
        return '`replay` goes with `initial_model`: give the foundation model whose data they are.'
    for model in initial_models:
        unknown = sorted(elements - set(model.elements)) if model is not None and model.elements else []
        if unknown:
            return f'The initial model does not know the element {unknown[0]}: train from scratch or use another model.'
    return None


def define_training(spec: CalcJobProcessSpec) -> None:
    """Add the inputs that all members of a committee share."""
    spec.input_namespace(
        'datasets', valid_type=DatasetData, dynamic=True, help='Shards with train and validation frames.'
    )
    spec.input(
        'parameters',
        valid_type=orm.Dict,
        validator=validate_parameters,
        help="mace_run_train's own arguments, and `gradient_steps` (optimiser steps: the epochs follow from it and the "
        'number of frames), `stage_two_fraction` (where stage two starts), `final_lr_fraction` (the learning rate decays to '
        'this part of `lr`), `choose_epoch` (`last`, or `best`: with the smallest validation loss), `bootstrap` (fraction of '
        'the training frames, drawn with replacement), `warm_start` (keys that differ when the training starts from an '
        'earlier model of the same kind).',
    )
    spec.input('reference_energies', valid_type=orm.Dict, help="Energy of every element's isolated atom, eV (E0s).")
    spec.input(
        'replay',
        valid_type=DatasetData,
        required=False,
        help="Frames of the foundation model's data: multihead replay.",
    )


def shared_files(inputs: Any) -> list[tuple[str, str, str]]:
    """Return the copy list of the files that all members of a committee share."""
    files = [(node.uuid, node.filename, f'{name}.xyz') for name, node in sorted(inputs.datasets.items())]
    if 'replay' in inputs:
        files.append((inputs.replay.uuid, inputs.replay.filename, 'replay.xyz'))
    return files


def training_settings(
    inputs: Any, seed: int, initial_model: ModelData | None, *, continued: bool, shared: str = ''
) -> dict[str, Any]:
    """Return the settings of the runner `train`, with mace_run_train's arguments.

    :param inputs: what :func:`define_training` defines, and the code.
    :param seed: of this training.
    :param initial_model: what it starts from; ``initial.model`` in its folder.
    :param continued: whether its folder holds the checkpoints of a training that was cut short.
    :param shared: path from its folder to that of the shared files.
    """
    parameters = inputs.parameters.get_dict()
    warm_start = parameters.pop('warm_start', None) or {}
    if initial_model is not None and not initial_model.base.attributes.get('is_foundation'):
        parameters.update(warm_start)
    own = {key: parameters.pop(key, None) for key in sorted(OWN_KEYS)}
    if parameters.get('loss', 'auto') == 'auto':
        stressed = any('stress' in node.base.attributes.get('properties') for node in inputs.datasets.values())
        parameters['loss'] = 'stress' if stressed else 'weighted'
    energies = inputs.reference_energies.get_dict()
    e0s = {atomic_numbers[symbol]: energies[symbol] for symbol in sorted(energies, key=atomic_numbers.__getitem__)}
    arguments: dict[str, Any] = {
        **parameters,
        'name': 'mace',
        'seed': seed,
        'work_dir': '.',
        'E0s': str(e0s),
        'atomic_numbers': str(list(e0s)),
        'energy_key': 'REF_energy',
        'forces_key': 'REF_forces',
        'stress_key': 'REF_stress',
        'device': device_of(inputs.code),
        'error_table': 'PerAtomMAEstressvirials' if parameters['loss'] in STRESS_LOSSES else 'PerAtomMAE',
        'plot': False,
        'save_cpu': True,
    }
    if own['stage_two_fraction'] is not None and 'stress_weight' in arguments:
        # mace_run_train's own default would unlearn the stress in stage two.
        arguments.setdefault('swa_stress_weight', arguments['stress_weight'])
    if initial_model is not None:
        arguments['foundation_model'] = 'initial.model'
        arguments['multiheads_finetuning'] = 'replay' in inputs
        arguments['foundation_model_elements'] = True
    if continued:
        arguments['restart_latest'] = True
    return {
        **own,
        'seed': seed,
        'arguments': arguments,
        'shards': [f'{shared}{name}.xyz' for name in sorted(inputs.datasets)],
        'replay': f'{shared}replay.xyz' if 'replay' in inputs else None,
    }


def training_results() -> list[tuple[str, int]]:
    """Return what a training leaves in its folder, as patterns and how many names of the path are kept."""
    files = ('mace.model', 'mace_stagetwo.model', 'model.json', 'mace.yaml')
    return [*((name, 1) for name in files), ('results/*', 2), ('logs/*', 2)]


def checkpoints_of(parent: orm.RemoteData, folder: str = '') -> tuple[str, str, str]:
    """Return the entry of the remote copy list that puts a training's checkpoints into the folder of the one that goes on."""
    return (parent.computer.uuid, f'{parent.get_remote_path()}/checkpoints', f'{folder}checkpoints')


class MaceTrainCalculation(RunnerCalculation):
    """Train from scratch, from an earlier model (warm start), or from a foundation model (naive or with replay)."""

    RUNNER = 'train'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_al.mace_train'
        define_training(spec)
        spec.input('seed', valid_type=orm.Int, help='Fixes the weights, the order of the batches and the bootstrap.')
        spec.input(
            'initial_model',
            valid_type=ModelData,
            required=False,
            help='Start from this model: warm start or foundation model.',
        )
        spec.input(
            'parent_folder',
            valid_type=orm.RemoteData,
            required=False,
            help='The folder of a training of the same inputs that was cut short: continue from its checkpoint.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('model', valid_type=ModelData, help='The trained model.')
        spec.output('metrics', valid_type=orm.ArrayData, help='The learning curve: one row an epoch, on validation.')
        spec.output('report', valid_type=orm.Dict, help='Frames, epochs, errors on validation, wall and core time.')
        spec.exit_code(301, 'ERROR_NO_MODEL', message='Training wrote no model: {message}', invalidates_cache=True)
        spec.exit_code(311, 'ERROR_NONFINITE_LOSS', message='The loss became NaN or infinite.', invalidates_cache=True)
        spec.exit_code(
            312, 'ERROR_NONFINITE_MODEL', message='The model has non-finite weights.', invalidates_cache=True
        )
        spec.exit_code(313, 'ERROR_OUT_OF_MEMORY', message='Training ran out of memory.', invalidates_cache=True)
        spec.exit_code(
            321,
            'ERROR_MISSING_ELEMENT',
            message='An element has no reference energy or is not in the model: {message}',
            invalidates_cache=True,
        )
        spec.exit_code(
            322,
            'ERROR_BAD_KEYS',
            message='mace_run_train found no energies or forces in the data: {message}',
            invalidates_cache=True,
        )
        spec.exit_code(
            323,
            'ERROR_BAD_ARGUMENTS',
            message='mace_run_train does not take these arguments: {message}',
            invalidates_cache=True,
        )

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Copy the shards and the model to start from."""
        files = shared_files(self.inputs)
        if 'initial_model' in self.inputs:
            model = self.inputs.initial_model
            files.append((model.uuid, model.filename, 'initial.model'))
        return files

    def job_settings(self) -> dict[str, Any]:
        """Return the runner's settings with mace_run_train's arguments."""
        continued = 'parent_folder' in self.inputs
        return training_settings(
            self.inputs, self.inputs.seed.value, self.inputs.get('initial_model'), continued=continued
        )

    def retrieved_files(self) -> list[Any]:
        """Return the model, what it is, and mace_run_train's own records."""
        return [name if kept == 1 else (name, '.', kept) for name, kept in training_results()]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Add the checkpoints of the training to continue."""
        calcinfo = super().prepare_for_submission(folder)
        if 'parent_folder' in self.inputs:
            calcinfo.remote_copy_list = [checkpoints_of(self.inputs.parent_folder)]
        return calcinfo
