"""The nodes of the provenance graph: frame, label, dataset, model, deviation, selection."""

from .dataset import DatasetData
from .deviation import DeviationData
from .frame import FrameData
from .label import LabelData
from .model import ModelData
from .selection import SelectionData

__all__ = ['DatasetData', 'DeviationData', 'FrameData', 'LabelData', 'ModelData', 'SelectionData']
