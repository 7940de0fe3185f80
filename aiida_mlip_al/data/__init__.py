"""The nodes of the provenance graph: frame, label, dataset, model, uncertainty, deviation, selection."""

from .dataset import DatasetData
from .deviation import DeviationData
from .frame import FrameData
from .label import LabelData
from .model import ModelData
from .selection import SelectionData
from .uncertainty import UncertaintyData

__all__ = ['DatasetData', 'DeviationData', 'FrameData', 'LabelData', 'ModelData', 'SelectionData', 'UncertaintyData']
