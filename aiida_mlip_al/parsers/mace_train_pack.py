"""Parser of MaceTrainPackCalculation: every member for itself."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode

from .mace_train import EXIT_CODES, Training, TrainingFiles, TrainingParser

# A checkpoint with such weights is no good to go on from.
NONFINITE = {EXIT_CODES.ERROR_NONFINITE_LOSS.status, EXIT_CODES.ERROR_NONFINITE_MODEL.status}


class MaceTrainPackParser(TrainingParser):
    """The models of those that came to their end, and what the others left."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        status = self.read_status()
        seeds = dict(self.node.inputs.seeds.items())
        failures: dict[str, ExitCode] = {}
        for name, seed in sorted(seeds.items()):
            files = TrainingFiles(self.retrieved, name)
            training = self.read_training(files, seed.value, ending(status, name))
            self.keep(name, training)
            if training.failure is not None:
                failures[name] = training.failure
        if not failures:
            return None
        self.out(
            'failures',
            orm.Dict({name: {'status': code.status, 'message': code.message} for name, code in failures.items()}),
        )
        interrupted = self.failure(status)
        if interrupted is not None:
            return interrupted
        name, first = next(iter(failures.items()))
        return self.exit_codes.ERROR_MEMBERS_FAILED.format(
            failed=len(failures), members=len(seeds), name=name, message=first.message
        )

    def keep(self, name: str, training: Training) -> None:
        """Attach what a member left."""
        self.out(f'reports.{name}', training.report)
        if training.metrics is not None:
            self.out(f'metrics.{name}', training.metrics)
        if training.failure is None:
            self.out(f'committee.{name}', training.model)
        elif training.metrics is not None and training.failure.status not in NONFINITE:
            folder = f'{self.node.get_remote_workdir()}/{name}'
            self.out(f'folders.{name}', orm.RemoteData(remote_path=folder, computer=self.node.computer))


def ending(status: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what the job knows of a member that left no status file.

    :param status: of the job; empty if it was killed as a whole.
    :param name: of the member.
    """
    if status.get('finished'):
        return {'error': f'it ended with exit status {status["members"][name]} and left no status file.'}
    return {'error': status['error']} if status.get('error') else {}
