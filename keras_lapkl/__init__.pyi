from . import (
    apertures as apertures,
    callbacks as callbacks,
    confidence as confidence,
    data as data,
    detection as detection,
    evaluation as evaluation,
    export as export,
    heatmaps as heatmaps,
    losses as losses,
    metrics as metrics,
    models as models,
    optimizers as optimizers,
    pretrained as pretrained,
    registries as registries,
    reproduction as reproduction,
    schemes as schemes,
    tflite as tflite,
    training as training,
    training_data as training_data,
)
from .detection import (
    LandmarkDetector as LandmarkDetector,
    LandmarkTracker as LandmarkTracker,
    detectors as detectors,
    tracking as tracking,
)
from .evaluation import (
    comparison as comparison,
    plots as plots,
    scoring as scoring,
)
from .loading import (
    load_model as load_model,
)
from .models import (
    RCN as RCN,
    AdversarialLocalizer as AdversarialLocalizer,
    LandmarkLocalizer as LandmarkLocalizer,
    MeanTeacherLocalizer as MeanTeacherLocalizer,
    MobileFPN as MobileFPN,
    PatchGAN as PatchGAN,
)
from .training import (
    distillation as distillation,
)

__version__: str
