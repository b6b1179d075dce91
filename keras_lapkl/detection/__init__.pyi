from . import (
    detectors as detectors,
    first_pass as first_pass,
    tracking as tracking,
)
from .detections import (
    Detection as Detection,
    as_boxes as as_boxes,
    as_photo as as_photo,
)
from .drawing import (
    draw_faces as draw_faces,
)
from .face import (
    COVERAGE as COVERAGE,
    Face as Face,
)
from .files import (
    find_inputs as find_inputs,
    predict_files as predict_files,
    read_boxes as read_boxes,
)
from .filters import (
    OneEuroFilter as OneEuroFilter,
    ScaleFilter as ScaleFilter,
)
from .first_pass import (
    ByBox as ByBox,
    ByDetector as ByDetector,
    ByModel as ByModel,
)
from .landmark_detector import (
    LandmarkDetector as LandmarkDetector,
)
from .tracking import (
    LandmarkTracker as LandmarkTracker,
)
