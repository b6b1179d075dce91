from . import (
    shards as shards,
)
from .crops import (
    UnlabeledCrops as UnlabeledCrops,
)
from .shards import (
    crop_folder as crop_folder,
    from_crops as from_crops,
    read_shards as read_shards,
)
