from . import (
    aflw as aflw,
    coco as coco,
    keypoint_csv as keypoint_csv,
    w300 as w300,
)
