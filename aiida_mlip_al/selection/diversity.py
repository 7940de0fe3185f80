"""Which frames are alike, and in which order to take frames so that they differ most.

Distances are Euclidean in the space of :func:`standardise`: the root-mean-square over features of differences counted
in standard deviations, so that neither the scale of a feature nor their number matters. Descriptors must all come from
one model; those of two models cannot be compared.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from aiida_mlip_al.selection.quota import Most, Quotas

Floats = NDArray[np.float64]
_BLOCK = 1024
_CONSTANT = 1e-6
_TIE_DECIMALS = 10


def standardise(descriptors: ArrayLike, existing: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Scale features to unit standard deviation over both sets, divided by the root of their number.

    :param descriptors: (N, D).
    :param existing: (M, D), the training set; None or empty if there is none.
    :returns: scaled descriptors (N, D) and (M, D); a feature that is constant but for rounding becomes zero.
    :raises ValueError: the shapes do not fit.
    """
    new, old = _pair(descriptors, existing)
    both = np.concatenate([new, old])
    if both.size == 0:
        return new, old
    mean, spread = both.mean(axis=0), both.std(axis=0)
    varies = spread > _CONSTANT * np.abs(both).max(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=varies) / np.sqrt(both.shape[1])
    return (new - mean) * scale, (old - mean) * scale


def farthest_point_order(
    descriptors: ArrayLike,
    existing: ArrayLike | None = None,
    count: int | None = None,
    start: int = 0,
    *,
    largest_cluster: bool = False,
    groups: ArrayLike | None = None,
    per_group: Most | list[Most] = None,
) -> tuple[NDArray[np.int_], Floats]:
    """Farthest-point order: each next frame is the one farthest from all that exist or were taken before.

    Greedy k-center (Gonzalez, Theor. Comput. Sci. 38, 293 (1985)). Ties, up to rounding, go to the lower index.

    With ``largest_cluster`` each frame belongs to the nearest one that exists or was taken, and the farthest is taken of that
    cluster alone whose squared distances have the largest sum, so that many frames weigh more than one that lies by itself:
    LCMD of Holzmüller et al., J. Mach. Learn. Res. 24, 164 (2023), here in any descriptors.

    :param descriptors: (N, D), scaled.
    :param existing: (M, D), frames to keep away from; None or empty if there are none.
    :param count: frames to take, at most N; None takes all.
    :param start: index of the first frame, used only when nothing exists.
    :param largest_cluster: look in the largest cluster only.
    :param groups: (N,) group of each frame, or (N, G) for G kinds of groups, for ``per_group``.
    :param per_group: most frames to take from one group, of all kinds or of each, or 'fair'; see :class:`.quota.Quotas`. Fewer
        than ``count`` are then taken if the groups run out.
    :returns: indices in order, and the distance of each to its nearest predecessor when taken (infinite for the first
        of all).
    """
    new, old = _pair(descriptors, existing)
    count = len(new) if count is None else min(count, len(new))
    distance, nearest = _nearest(new, old)
    quotas = Quotas(np.zeros(len(new)) if groups is None else groups, per_group)
    order: list[int] = []
    distances: list[float] = []
    while len(order) < count and quotas.free.any():
        if not order and len(old) == 0:
            index = start
        else:
            score = np.where(quotas.free, np.round(distance, _TIE_DECIMALS), -np.inf)
            if largest_cluster:
                sizes = np.bincount(nearest, np.where(quotas.free, distance**2, 0.0))
                inside = nearest == np.argmax(np.round(sizes, _TIE_DECIMALS))
                score = np.where(inside, score, np.minimum(score, -1.0))
            index = int(np.argmax(score))
        order.append(index)
        distances.append(float(distance[index]))
        quotas.take(index)
        from_here = np.linalg.norm(new - new[index], axis=1)
        nearest[from_here < distance] = len(old) + len(order) - 1
        distance = np.minimum(distance, from_here)
    return np.array(order, dtype=int), np.array(distances)


def strata(values: ArrayLike, n_bins: int = 10) -> NDArray[np.int_]:
    """Number of the stratum of each frame, from 0 for the highest values.

    :param values: (N,): each distinct value is a stratum, or, where there are more than ``n_bins``, each bin of equal width;
        what is not finite is a stratum of its own, the last one.
    :param n_bins: strata at most, but for that one.
    """
    numbers = np.asarray(values, dtype=float)
    finite = np.isfinite(numbers)
    found = np.full(len(numbers), n_bins, dtype=int)
    distinct, position = np.unique(-numbers[finite], return_inverse=True)
    if len(distinct) > n_bins:
        edges = np.linspace(distinct[0], distinct[-1], n_bins + 1)[1:-1]
        position = np.searchsorted(edges, -numbers[finite], side='right')
    found[finite] = position
    return found


def stratified_order(groups: ArrayLike, rng: np.random.Generator) -> NDArray[np.int_]:
    """Order in which every stratum gives one frame in turn, at random, as long as it has any.

    Flat over the strata, as the selection by inverse population of DP-GEN2 (``candi_sel_prob: inv_pop_f``), without its noise.

    :param groups: (N,) number of the stratum of each frame; lower ones give first.
    :param rng: of the choice within a stratum.
    :returns: (N,) indices.
    """
    numbers = np.asarray(groups, dtype=int)
    shuffled = rng.permutation(len(numbers))
    turns: Counter[int] = Counter()
    turn = np.zeros(len(numbers), dtype=int)
    for index in shuffled.tolist():
        turn[index] = turns[int(numbers[index])]
        turns[int(numbers[index])] += 1
    return np.lexsort((numbers, turn))


def deduplicate(
    descriptors: ArrayLike, existing: ArrayLike | None = None, tolerance: float = 0.01
) -> NDArray[np.bool_]:
    """Mark frames that repeat an existing frame or an earlier one that is itself no duplicate.

    :param descriptors: (N, D), scaled, in order of preference: of two like frames the earlier is kept.
    :param existing: (M, D), the training set; None or empty if there is none.
    :param tolerance: frames at most this far apart are the same; with :func:`standardise`, a root-mean-square
        difference in standard deviations. A negative tolerance marks nothing.
    :returns: (N,) True for duplicates.
    """
    new, old = _pair(descriptors, existing)
    if tolerance < 0 or len(new) == 0:
        return np.zeros(len(new), dtype=bool)
    duplicate = _nearest(new, old)[0] <= tolerance
    tree = cKDTree(new)
    for index in range(len(new)):
        if not duplicate[index]:
            alike = np.array(tree.query_ball_point(new[index], tolerance), dtype=int)
            duplicate[alike[alike > index]] = True
    return duplicate


def _pair(descriptors: ArrayLike, existing: ArrayLike | None) -> tuple[Floats, Floats]:
    new = np.asarray(descriptors, dtype=float)
    if new.ndim != 2:
        msg = f'descriptors must have the shape (frames, features), got {new.shape}'
        raise ValueError(msg)
    old = np.empty((0, new.shape[1])) if existing is None else np.asarray(existing, dtype=float)
    if old.size == 0:
        old = np.empty((0, new.shape[1]))
    if old.ndim != 2 or old.shape[1] != new.shape[1]:
        msg = (
            f'descriptors of the training set must have {new.shape[1]} features as those of the frames, '
            f'got the shape {old.shape}; compute both with the same model'
        )
        raise ValueError(msg)
    return new, old


def _nearest(new: Floats, old: Floats) -> tuple[Floats, NDArray[np.int_]]:
    """Distance of each new frame to the nearest old one, infinite if there is none, and the index of that."""
    distance, nearest = np.full(len(new), np.inf), np.zeros(len(new), dtype=int)
    for first in range(0, len(old), _BLOCK):
        block = cdist(new, old[first : first + _BLOCK])
        position = block.argmin(axis=1)
        found = block[np.arange(len(new)), position]
        closer = found < distance
        distance[closer], nearest[closer] = found[closer], first + position[closer]
    return distance, nearest
