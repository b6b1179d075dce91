from . import (
    clips as clips,
    faces as faces,
    head as head,
)
from .clips import (
    Clip as Clip,
    photo_clip as photo_clip,
    synthetic_clip as synthetic_clip,
)
from .faces import (
    paint_head as paint_head,
    synthetic_faces as synthetic_faces,
)
from .head import (
    sample_head as sample_head,
)
