"""VaspLabelWorkChain: structures labelled by VASP, through aiida-vasp."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, WorkChain, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from pydantic import ValidationError

from aiida_mlip_al.calculations.functions import collect_labels
from aiida_mlip_al.calculations.vasp_batch import VaspBatchCalculation
from aiida_mlip_al.calculations.vasp_functions import problem_of, read_vasp, sort_by_element
from aiida_mlip_al.config.errors import sentence
from aiida_mlip_al.config.vasp import VaspSettings
from aiida_mlip_al.data import DatasetData, LabelData
from aiida_mlip_al.data.vasp_result import FAILURES, VaspRun, judge

from .submit_once import SubmitOnce


def validate_settings(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse unknown or wrong settings."""
    try:
        VaspSettings(**node.get_dict())
    except ValidationError as error:
        return sentence(VaspSettings, error)
    return None


class VaspLabelWorkChain(SubmitOnce, WorkChain):
    """Several structures in one job, if several are given; a VaspWorkChain for each that is left, with retries of its own.

    One job is in flight at any time, so that a cap on these work chains is a cap on the jobs of VASP.

    ``aiida_mlip_al.workflows.vasp_theory.vasp_inputs`` makes the inputs that all structures share.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace(
            'structures',
            valid_type=orm.StructureData,
            dynamic=True,
            help='The structures; their labels get the same names.',
        )
        spec.input('code', valid_type=orm.AbstractCode, help='VASP.')
        spec.input('theory', valid_type=orm.Dict, help='The level of theory, with the identity of its POTCARs.')
        spec.input_namespace(
            'attempts', valid_type=orm.Dict, dynamic=True, help='The INCAR of each attempt, `attempt_1` and so on.'
        )
        spec.input_namespace(
            'vasp',
            valid_type=orm.Data,
            dynamic=True,
            help='Further inputs that every VaspWorkChain gets: potentials, k-points.',
        )
        spec.input(
            'settings',
            valid_type=orm.Dict,
            validator=validate_settings,
            default=lambda: orm.Dict({}),
            help='`max_force` (eV/Å), `min_distance_fraction`, `periodic`, `reuse_wavefunctions`, as in an input file.',
        )
        spec.input_namespace(
            'potentials', valid_type=orm.Data, dynamic=True, help='The POTCAR of each element, for batches.'
        )
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='Scheduler options of the jobs.')
        spec.outline(
            cls.setup,
            if_(cls.should_run_batch)(cls.run_batch, cls.inspect_batch),
            while_(cls.should_run)(cls.run_vasp, cls.inspect_vasp),
            if_(cls.should_read)(cls.read_results),
            cls.results,
        )
        spec.output_namespace(
            'labels', valid_type=LabelData, dynamic=True, help='The label of each accepted structure.'
        )
        spec.output(
            'dataset', valid_type=DatasetData, required=False, help='The accepted structures with their labels.'
        )
        spec.output(
            'report',
            valid_type=orm.Dict,
            help='Counts, rejections with their reasons, changed INCAR tags, wall and core time.',
        )
        spec.exit_code(310, 'ERROR_BATCH_FAILED', message='The job of several structures left no report: {message}')
        spec.exit_code(320, 'ERROR_ALL_REJECTED', message='No structure got a label: {reasons}')

    def setup(self) -> None:
        """Begin with everything."""
        self.ctx.settings = self.inputs.settings.get_dict()
        self.ctx.runs = {}
        self.ctx.results = {}
        self.ctx.names = sorted(self.inputs.structures)
        self.ctx.queue = []
        if not self.should_run_batch():
            self.leave(self.ctx.names)

    def leave(self, names: list[str]) -> None:
        """Leave structures to runs of their own, if VASP can compute them."""
        self.ctx.names = names
        possible = [name for name in names if problem_of(self.inputs.structures[name], self.settings) is None]
        self.ctx.sorted = {name: sort_by_element(self.inputs.structures[name]) for name in possible}
        self.ctx.queue = [(name, 1) for name in possible]

    @property
    def settings(self) -> VaspSettings:
        """The settings, parsed."""
        return VaspSettings(**self.ctx.settings)

    def should_run_batch(self) -> bool:
        """Run several in one job."""
        return len(self.inputs.structures) > 1

    def run_batch(self) -> None:
        """Submit the job of all."""
        node = self.submit(
            VaspBatchCalculation,
            code=self.inputs.code,
            structures=dict(self.inputs.structures),
            theory=self.inputs.theory,
            settings=self.inputs.settings,
            potentials=dict(self.inputs.potentials),
            metadata={'options': dict(self.inputs.options), 'call_link_label': 'batch'},
        )
        self.report(f'VASP on {len(self.inputs.structures)} structures <{node.pk}>')
        self.to_context(batch=node)

    def inspect_batch(self) -> ExitCode | None:
        """Keep the labels; what failed is run by itself, and what was not reached is left to be sent again."""
        node = self.ctx.batch
        if 'report' not in node.outputs:
            return self.exit_codes.ERROR_BATCH_FAILED.format(message=node.exit_message or node.process_state)
        self.ctx.results['batch'] = {name: node.outputs[name] for name in ('dataset', 'report') if name in node.outputs}
        if 'labels' in node.outputs:
            self.out('labels', dict(node.outputs.labels.items()))
        self.leave(sorted(node.outputs.report['failed']))
        return None

    def should_run(self) -> bool:
        """Go on while something is left."""
        return bool(self.ctx.queue)

    def run_vasp(self) -> None:
        """Submit the next one, from its second attempt on with other electronic steps."""
        from .vasp_run import VaspWorkChain  # aiida-vasp is optional

        name, attempt = self.ctx.queue[0]
        node = self.submit(
            VaspWorkChain,
            code=self.inputs.code,
            structure=self.ctx.sorted[name],
            parameters=self.inputs.attempts[f'attempt_{attempt}'],
            calc={'metadata': {'options': dict(self.inputs.options)}},
            metadata={'call_link_label': f'{name}_attempt_{attempt}'},
            **self.inputs.vasp,
        )
        self.report(f'{name}: VASP <{node.pk}>, attempt {attempt}')
        self.to_context(vasp=node)

    def inspect_vasp(self) -> None:
        """Keep the last run of each; try again what another attempt may cure."""
        (name, attempt), node = self.ctx.queue.pop(0), self.ctx.vasp
        self.ctx.runs[name] = last_job(node)
        found = judge(run_of(self.ctx.runs[name]), self.settings)
        if found is None:
            return
        self.report(f'{name}: VASP <{node.pk}> gave no label: {found.message} {node.exit_message or ""}'.rstrip())
        if found.reason in FAILURES and attempt < len(self.inputs.attempts):
            self.ctx.queue.append((name, attempt + 1))

    def should_read(self) -> bool:
        """Read what was run by itself."""
        return bool(self.ctx.names)

    def read_results(self) -> None:
        """Make labels of what was found."""
        jobs = {name: job for name, job in self.ctx.runs.items() if job is not None}
        found = {
            'misc': {name: job.outputs.misc for name, job in jobs.items() if 'misc' in job.outputs},
            'parameters': {name: job.inputs.parameters for name, job in jobs.items()},
        }
        results = read_vasp(
            self.inputs.theory,
            self.inputs.settings,
            structures={name: self.inputs.structures[name] for name in self.ctx.names},
            **{name: nodes for name, nodes in found.items() if nodes},
        )
        if 'labels' in results:
            self.out('labels', results['labels'])
        self.ctx.results['single'] = {name: results[name] for name in ('dataset', 'report') if name in results}

    def results(self) -> ExitCode | None:
        """Make one shard and one report; say so if there is no label at all."""
        parts = self.ctx.results
        results = next(iter(parts.values()))
        if len(parts) > 1:
            results = collect_labels(
                datasets={name: part['dataset'] for name, part in parts.items() if 'dataset' in part},
                reports={name: part['report'] for name, part in parts.items()},
            )
        for name, node in results.items():
            self.out(name, node)
        report = results['report']
        if not report['n_labelled'] and report['n_rejected']:
            described = ', '.join(f'{count} {reason}' for reason, count in sorted(report['reasons'].items()))
            return self.exit_codes.ERROR_ALL_REJECTED.format(reasons=described)
        return None


def last_job(node: orm.WorkChainNode) -> orm.CalcJobNode | None:
    """Return the last run of VASP of a VaspWorkChain, also of one that failed and has no outputs."""
    jobs = [child for child in node.called if isinstance(child, orm.CalcJobNode)]
    return max(jobs, key=lambda job: job.pk) if jobs else None


def run_of(job: orm.CalcJobNode | None) -> VaspRun | None:
    """Return what aiida-vasp's parser found, if anything."""
    return VaspRun.from_misc(job.outputs.misc.get_dict()) if job is not None and 'misc' in job.outputs else None
