"""How frames are chosen: deviation, trust levels, calibration, diversity, budget and convergence, arrays in and out."""

from aiida_mlip_al.selection.audit import AuditStatistics, audit_statistics, wilson_interval
from aiida_mlip_al.selection.calibration import Calibration, conformal_lower_level, empirical_coverage
from aiida_mlip_al.selection.convergence import Decision, StopReason, stop_decision
from aiida_mlip_al.selection.criteria import TrustLevels, classify
from aiida_mlip_al.selection.deviation import (
    FrameDeviation,
    energy_deviation_per_atom,
    force_deviation,
    frame_deviations,
)
from aiida_mlip_al.selection.diversity import deduplicate, farthest_point_order, standardise
from aiida_mlip_al.selection.history import IterationRow
from aiida_mlip_al.selection.sanity import PhysicalLimits, unphysical_reason, value_reasons
from aiida_mlip_al.selection.select import Selection, SelectionSettings, select_frames
from aiida_mlip_al.selection.verdict import Verdict, count_verdicts, decode, encode

__all__ = (
    'AuditStatistics',
    'Calibration',
    'Decision',
    'FrameDeviation',
    'IterationRow',
    'PhysicalLimits',
    'Selection',
    'SelectionSettings',
    'StopReason',
    'TrustLevels',
    'Verdict',
    'audit_statistics',
    'classify',
    'conformal_lower_level',
    'count_verdicts',
    'decode',
    'deduplicate',
    'empirical_coverage',
    'encode',
    'energy_deviation_per_atom',
    'farthest_point_order',
    'force_deviation',
    'frame_deviations',
    'select_frames',
    'standardise',
    'stop_decision',
    'unphysical_reason',
    'value_reasons',
    'wilson_interval',
)
