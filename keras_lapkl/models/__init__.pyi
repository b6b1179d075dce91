from .adversarial import (
    AdversarialLocalizer as AdversarialLocalizer,
)
from .localizer import (
    LandmarkLocalizer as LandmarkLocalizer,
)
from .mobile_fpn import (
    MobileFPN as MobileFPN,
)
from .patch_gan import (
    PatchGAN as PatchGAN,
)
from .rcn import (
    RCN as RCN,
)
