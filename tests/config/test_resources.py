"""What a stage asks of the scheduler: from the short names of the input file to the lines of a SLURM script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from aiida.schedulers.datastructures import JobTemplate
from aiida.schedulers.plugins.slurm import SlurmScheduler
from pydantic import ValidationError

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.config.computer import ComputerConfig, MpiProgram, PythonProgram
from aiida_mlip_al.config.errors import sentence
from aiida_mlip_al.config.load import read_yaml
from aiida_mlip_al.config.models import STAGES
from aiida_mlip_al.config.resources import StageResources, job_options
from aiida_mlip_al.config.section import Section

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'clusters' / 'resources.yaml'
SERIAL = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}


class Input(Section):
    """An input file that has resources only."""

    resources: dict[str, StageResources]


def options_of(stage: str, scheduler: str | None = 'core.slurm', /, **stages: Any) -> dict[str, Any]:
    """Return a stage's options as a file with these resources gives them."""
    return job_options(Input(resources=stages).resources, stage, scheduler)


def slurm_lines(options: dict[str, Any]) -> set[str]:
    """Return the lines for SLURM that AiiDA makes of options."""
    scheduler = SlurmScheduler()
    template = JobTemplate({**options, 'job_resource': scheduler.create_job_resource(**options['resources'])})
    for name in ('resources', 'environment_variables', 'prepend_text'):
        template.pop(name, None)
    return {line for line in scheduler._get_submit_script_header(template).splitlines() if line.startswith('#SBATCH')}


def test_nothing_given_is_one_process() -> None:
    assert options_of('train') == {'resources': SERIAL}
    assert options_of('train', None, label={'gpus': 1}) == {'resources': SERIAL}


def test_every_option_reaches_the_script_of_slurm() -> None:
    options = options_of(
        'label',
        label={
            'num_machines': 2,
            'num_mpiprocs_per_machine': 4,
            'num_cores_per_mpiproc': 8,
            'gpus': 2,
            'account': 'chem42',
            'queue_name': 'gpu',
            'qos': 'long',
            'priority': '10',
            'max_wallclock_seconds': 5400,
            'max_memory_kb': 2048000,
            'custom_scheduler_commands': '#SBATCH --exclusive\n',
            'withmpi': True,
            'environment_variables': {'CUDA_MODULE_LOADING': 'LAZY', 'LEVEL': 3},
            'prepend_text': 'module load vasp',
            'rerunnable': True,
        },
    )
    assert slurm_lines(options) >= {
        '#SBATCH --nodes=2',
        '#SBATCH --ntasks-per-node=4',
        '#SBATCH --cpus-per-task=8',
        '#SBATCH --gres=gpu:2',
        '#SBATCH --account=chem42',
        '#SBATCH --partition=gpu',
        '#SBATCH --qos=long',
        '#SBATCH --nice=10',
        '#SBATCH --time=01:30:00',
        '#SBATCH --mem=2000',
        '#SBATCH --exclusive',
        '#SBATCH --requeue',
    }
    assert options['withmpi'] is True
    assert options['prepend_text'] == 'module load vasp'
    assert options['environment_variables'] == {'OMP_NUM_THREADS': '8', 'CUDA_MODULE_LOADING': 'LAZY', 'LEVEL': '3'}
    assert 'gpus' not in options


def test_names_are_those_of_aiida() -> None:
    from aiida_mlip_al.calculations.check import CheckCalculation

    own = {
        'gpus',
        'num_machines',
        'num_mpiprocs_per_machine',
        'num_cores_per_machine',
        'num_cores_per_mpiproc',
        'tot_num_mpiprocs',
    }
    ports = CheckCalculation.spec().inputs['metadata']['options']
    assert set(StageResources.model_fields) - own <= set(ports)
    unknown = {'input_filename', 'output_filename', 'submit_script_filename', 'scheduler_stdout', 'scheduler_stderr'}
    unknown |= {'parser_name', 'additional_retrieve_list', 'stash', 'unstash'}
    assert set(ports) - set(StageResources.model_fields) == unknown


def test_a_stage_goes_over_the_default_key_by_key() -> None:
    stages = {
        'default': {
            'queue_name': 'gpu',
            'gpus': 'a100:1',
            'num_cores_per_mpiproc': 8,
            'environment_variables': {'A': '1'},
        },
        'label': {'queue_name': None, 'gpus': 0, 'num_mpiprocs_per_machine': 4, 'environment_variables': {'B': '2'}},
    }
    assert options_of('label', **stages) == {
        'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 4, 'num_cores_per_mpiproc': 8},
        'environment_variables': {'OMP_NUM_THREADS': '8', 'A': '1', 'B': '2'},
    }
    assert options_of('train', **stages)['custom_scheduler_commands'] == '#SBATCH --gres=gpu:a100:1'


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({'resources': {'num_mpiprocs_per_machine': 32}}, {'num_machines': 1, 'num_mpiprocs_per_machine': 32}),
        ({'tot_num_mpiprocs': 8}, {'num_machines': 1, 'tot_num_mpiprocs': 8}),
        (
            {'tot_num_mpiprocs': 8, 'num_mpiprocs_per_machine': 4},
            {'num_mpiprocs_per_machine': 4, 'tot_num_mpiprocs': 8},
        ),
        ({'resources': {'parallel_env': 'mpi'}, 'tot_num_mpiprocs': 8}, {'parallel_env': 'mpi', 'tot_num_mpiprocs': 8}),
    ],
)
def test_counts(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert options_of('label', label=given)['resources'] == expected


@pytest.mark.parametrize(
    ('given', 'threads'),
    [
        ({'num_cores_per_machine': 32, 'num_mpiprocs_per_machine': 4}, '8'),
        ({'num_cores_per_mpiproc': 8, 'environment_variables': {'OMP_NUM_THREADS': 2}}, '2'),
        ({'environment_variables': {'A': '1'}}, '1'),
    ],
)
def test_threads_follow_the_cores(given: dict[str, Any], threads: str) -> None:
    assert options_of('train', train=given)['environment_variables']['OMP_NUM_THREADS'] == threads


def test_gpus_without_slurm() -> None:
    assert 'custom_scheduler_commands' not in options_of('train', 'core.direct', train={'gpus': 1})
    with pytest.raises(ConfigError, match='known for core.slurm and not for core.pbspro: write the line'):
        options_of('train', 'core.pbspro', train={'gpus': 1})
    assert 'custom_scheduler_commands' not in options_of('train', 'core.pbspro', train={'gpus': 0})


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (
            {'max_wallclock': 3600},
            '`resources.train.max_wallclock` is not a known key; did you mean `max_wallclock_seconds`?',
        ),
        ({'queue': 'gpu'}, '`resources.train.queue` is not a known key; did you mean `queue_name`?'),
        ({'num_machines': 0}, '`resources.train.num_machines`: input should be greater than or equal to 1, got 0.'),
        (
            {'num_machines': 1, 'resources': {'num_machines': 2}},
            '`resources.train`: `num_machines` is given twice: take it out of the inner `resources`.',
        ),
        ({'gpus': 'many'}, r"`resources.train.gpus`: string should match pattern '^([\w-]+:)?[0-9]+$', got 'many'."),
        (
            {'account': 'a\n#SBATCH --uid=root'},
            r"`resources.train.account`: string should match pattern '^\S+$', got 'a\n#SBATCH --uid=root'.",
        ),
        (
            {'environment_variables': {'A; rm -rf ~': 1}},
            '`resources.train.environment_variables`: `A; rm -rf ~` is no name of an environment variable.',
        ),
    ],
)
def test_mistakes_are_one_sentence(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Input(resources={'train': given})
    assert sentence(Input, caught.value) == expected


def test_only_what_was_given_is_shown() -> None:
    assert Input(resources={'train': {'gpus': 1}}).model_dump() == {'resources': {'train': {'gpus': '1'}}}


def test_example_is_valid() -> None:
    values = read_yaml(EXAMPLE)
    assert set(values) == {'codes', 'resources'}
    assert set(values['codes']) | set(values['resources']) <= {*STAGES, 'default'}
    lines = {stage: slurm_lines(options_of(stage, **values['resources'])) for stage in STAGES}
    assert all('#SBATCH --account=chem42' in found for found in lines.values())
    with_gpu = {stage for stage, found in lines.items() if '#SBATCH --gres=gpu:1' in found}
    assert (
        with_gpu
        == {stage for stage in STAGES if '#SBATCH --partition=gpu' in lines[stage]}
        == {'train', 'explore', 'evaluate'}
    )
    assert '#SBATCH --exclusive' in lines['label']


def test_every_key_is_in_the_documentation() -> None:
    text = (EXAMPLE.parents[2] / 'docs' / 'clusters.md').read_text()
    names = {
        *StageResources.model_fields,
        *ComputerConfig.model_fields,
        *PythonProgram.model_fields,
        *MpiProgram.model_fields,
    }
    assert [name for name in sorted(names) if not re.search(rf'\b{name}\b', text)] == []
