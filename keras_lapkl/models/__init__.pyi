from .adversarial import (
    AdversarialLocalizer as AdversarialLocalizer,
)
from .localizer import (
    LandmarkLocalizer as LandmarkLocalizer,
)
from .mean_teacher import (
    MeanTeacherLocalizer as MeanTeacherLocalizer,
)
from .mobile_fpn import (
    MobileFPN as MobileFPN,
)
from .networks import (
    NETWORKS as NETWORKS,
    Generator as Generator,
    Network as Network,
)
from .patch_gan import (
    PatchGAN as PatchGAN,
)
from .rcn import (
    RCN as RCN,
)
from .refinement import (
    ShapeRefinement as ShapeRefinement,
)
