from .conversion import (
    convert as convert,
)
from .modes import (
    MODES as MODES,
    Mode as Mode,
)
from .report import (
    layer_table as layer_table,
    summary as summary,
)
from .verify import (
    ConversionError as ConversionError,
)
