import keras_lapkl.export.conversion
import keras_lapkl.export.verify

from .inspection import (
    describe as describe,
)
from .latency import (
    measure as measure,
    measure_many as measure_many,
)
from .runner import (
    TFLiteLocalizer as TFLiteLocalizer,
)

ConversionError = keras_lapkl.export.verify.ConversionError
convert = keras_lapkl.export.conversion.convert
