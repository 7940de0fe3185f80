"""Train one MACE model: gather the shards, call mace_run_train with the recorded arguments, inspect what it made.

Usage: python runners/train.py train.json

Reads  {"shards": [files], "bootstrap": fraction or null, "seed": int, "arguments": {mace_run_train's own names},
        "gradient_steps": int, "stage_two_fraction": float or null, "final_lr_fraction": float or null,
        "choose_epoch": "last", or "best" or null, "replay": file or null}
Writes train.xyz, valid.xyz, mace.yaml (the file that `mace_run_train --config mace.yaml` takes), what mace_run_train writes,
       model.json (what is inside the model file) and train.status.json.
"""

from __future__ import annotations

import ast
import json
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from status import run


def split_of(comment: str) -> str:
    """Return the split named in the comment line of an extended XYZ frame."""
    for item in comment.split():
        if item.startswith('split='):
            return item[len('split=') :].strip('"')
    return 'train'


def frames_of(path: str) -> Iterator[tuple[str, str]]:
    """Yield (split, text) of every frame; the text is copied as it is, so nothing is lost in a conversion."""
    with open(path) as handle:
        while True:
            count = handle.readline()
            if not count.strip():
                return
            comment = handle.readline()
            yield split_of(comment), ''.join([count, comment, *(handle.readline() for _ in range(int(count)))])


def gather(shards: Sequence[str], bootstrap: float | None, seed: int) -> tuple[int, int]:
    """Write train.xyz and valid.xyz and return their numbers of frames.

    With `bootstrap`, the training frames are that fraction of them, drawn with replacement, so that members differ by data.
    """
    frames: dict[str, list[str]] = {'train': [], 'validation': []}
    for path in shards:
        for split, text in frames_of(path):
            if split in frames:
                frames[split].append(text)
    if bootstrap:
        draw = random.Random(seed)
        n_drawn = max(1, round(bootstrap * len(frames['train'])))
        frames['train'] = [draw.choice(frames['train']) for _ in range(n_drawn)]
    for split, name in (('train', 'train.xyz'), ('validation', 'valid.xyz')):
        if not frames[split]:
            raise ValueError(f'No frame of the datasets has the split `{split}`, and training needs both.')
        Path(name).write_text(''.join(frames[split]))
    return len(frames['train']), len(frames['validation'])


def check_stress(loss: str | None, files: Sequence[str]) -> None:
    """Refuse the loss `huber` for crystals without stress: MACE would take it for zero, where other losses leave it out.

    :raises ValueError: with the number of such frames.
    """
    if loss != 'huber':
        return
    comments = [text.split('\n', 2)[1] for path in files for _, text in frames_of(path)]
    missing = sum('pbc="T T T"' in comment and 'REF_stress=' not in comment for comment in comments)
    if missing:
        raise ValueError(
            f'The loss `huber` would take the missing stress of {missing} periodic frames for zero: use the loss `universal`, '
            'which leaves it out.'
        )


def schedule(
    gradient_steps: int, n_train: int, batch_size: int, eval_interval: int, stage_two_fraction: float | None
) -> tuple[int, int | None]:
    """Return the epochs, and the epoch where stage two starts, that make about `gradient_steps` optimiser steps.

    MACE drops the last, incomplete batch of an epoch, and looks at the validation frames in the epochs 0, I, 2 I and so on
    (I: `eval_interval`): the number of epochs is such that the last one, as a rule the best, is looked at and saved.
    """
    wanted = max(2, math.ceil(gradient_steps / max(1, n_train // batch_size)))
    epochs = math.ceil((wanted - 1) / eval_interval) * eval_interval + 1
    stage_two = None if stage_two_fraction is None else min(epochs - 1, round(stage_two_fraction * epochs))
    return epochs, stage_two


def inspect_model(path: Path) -> dict[str, Any]:
    """Return what the parser records of a model file; read here, because a pickle is not for the daemon to open."""
    import torch
    from ase.data import chemical_symbols

    model = torch.load(path, map_location='cpu', weights_only=False)
    parameters = list(model.parameters())
    return {
        'file': str(path),
        'architecture': type(model).__name__,
        'elements': [chemical_symbols[int(z)] for z in model.atomic_numbers],
        'r_max': float(model.r_max),
        'n_parameters': sum(p.numel() for p in parameters),
        'dtype': str(parameters[0].dtype).removeprefix('torch.'),
        'finite': all(bool(torch.isfinite(p).all()) for p in parameters),
    }


def take_reference_energies(path: Path, energies: Mapping[int, float]) -> None:
    """Give a model file the energies of isolated atoms of the labels.

    mace_run_train starts from all that a model with the same elements has, these energies included, whatever it is told
    (`load_foundations_elements` of mace-torch 0.3.16). A model with several heads is left as it is.

    :param path: of the model that a training starts from.
    :param energies: of the labels' elements, eV, by atomic number.
    """
    import mace  # noqa: F401  (lets torch.load open e3nn's own constants)
    import torch

    model = torch.load(path, map_location='cpu', weights_only=False)
    known = model.atomic_energies_fn.atomic_energies
    if known.ndim > 1 and len(known) > 1:
        return
    made = known.double()
    for column, number in enumerate(model.atomic_numbers.tolist()):
        if number in energies:
            made[..., column] = energies[number]
    model.atomic_energies_fn.atomic_energies = made
    torch.save(model, path)


def save_checkpoint(self: Any, checkpoint: Mapping[str, Any], epochs: int, keep_last: bool = False) -> None:
    """Save a checkpoint in the place of the one before, such that there is a whole one whenever a time limit ends the job.

    MACE (0.3.16) removes the old one first and then writes the new one: a training that ends in between begins anew, and
    one that ends while it writes leaves a file that cannot be read. Each stage keeps its own.

    :param self: the ``mace.tools.checkpoint.CheckpointIO`` that has this as its method ``save``, whose parameters these are.
    """
    import torch

    folder = Path(self.directory)
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / self._get_checkpoint_filename(epochs, self.swa_start)
    draft = new.with_name(f'{new.name}.draft')
    torch.save(checkpoint, draft)
    os.replace(draft, new)
    old = Path(self.old_path or new)
    if old != new and not self.keep and old.stem.endswith('_swa') == new.stem.endswith('_swa'):
        old.unlink()
    self.old_path = str(new)


def main(settings: dict[str, Any], status: dict[str, Any]) -> None:
    """Do the job."""
    import yaml

    n_train, n_valid = gather(settings['shards'], settings['bootstrap'], settings['seed'])
    arguments = dict(settings['arguments'])
    check_stress(arguments.get('loss'), ['train.xyz', 'valid.xyz'])
    batch_size = min(int(arguments.get('batch_size', 5)), n_train)
    interval = int(arguments.get('eval_interval', 1))
    epochs, stage_two = schedule(
        settings['gradient_steps'], n_train, batch_size, interval, settings['stage_two_fraction']
    )
    arguments.update(batch_size=batch_size, max_num_epochs=epochs, train_file='train.xyz', valid_file='valid.xyz')
    if stage_two is not None:
        arguments.update(swa=True, start_swa=stage_two)
    if settings['final_lr_fraction'] is not None:
        arguments.update(
            scheduler='ExponentialLR', lr_scheduler_gamma=settings['final_lr_fraction'] ** (1 / (epochs - 1))
        )
    if settings['choose_epoch'] == 'last':
        # MACE makes its model of the last checkpoint, and saves one of each epoch that it looks at, not of improvements only.
        arguments.update(save_all_checkpoints=True)
    if settings.get('replay'):
        arguments.update(pt_train_file=settings['replay'])
    elif 'foundation_model' in arguments:
        take_reference_energies(Path(arguments['foundation_model']), ast.literal_eval(arguments['E0s']))
    Path('mace.yaml').write_text(yaml.safe_dump(arguments, sort_keys=True))
    status.update(n_train=n_train, n_validation=n_valid, epochs=epochs, batch_size=batch_size)

    from mace import __version__ as mace_version
    from mace.cli import run_train
    from mace.tools import build_default_arg_parser
    from mace.tools.checkpoint import CheckpointIO

    status.update(mace=mace_version)
    CheckpointIO.save = save_checkpoint
    run_train.run(build_default_arg_parser().parse_args(['--config', 'mace.yaml']))

    models = [Path('mace_stagetwo.model'), Path('mace.model')]
    made = next((path for path in models if path.exists()), None)
    if made is None:
        raise RuntimeError('mace_run_train ended without writing a model.')
    Path('model.json').write_text(json.dumps(inspect_model(made), indent=2))


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    run(main)
