from . import (
    cluster as cluster,
    cross_validation as cross_validation,
    distillation as distillation,
    distributed as distributed,
    launching as launching,
)
from .arrays import (
    SemiSupervisedArrays as SemiSupervisedArrays,
)
from .augmentation import (
    Augmentation as Augmentation,
)
from .batches import (
    mean_teacher_batches as mean_teacher_batches,
    self_training_batches as self_training_batches,
    semi_supervised_batches as semi_supervised_batches,
    training_batches as training_batches,
)
from .building import (
    build as build,
)
from .recipe import (
    Adversary as Adversary,
    MeanTeacher as MeanTeacher,
    Recipe as Recipe,
    Teacher as Teacher,
    read_recipe as read_recipe,
)
from .run import (
    UnfinishedError as UnfinishedError,
    train as train,
)
