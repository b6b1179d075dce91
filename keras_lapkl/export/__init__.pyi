from .conversion import (
    BOUNDS as BOUNDS,
    MODES as MODES,
    convert as convert,
)
from .report import (
    layer_table as layer_table,
    summary as summary,
)
from .verify import (
    ConversionError as ConversionError,
)
