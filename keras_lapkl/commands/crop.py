"""Cuts the faces out of a folder of photos without labels, into shards to train with.

    lapkl crop --input_dir=photos --output_dir=faces --crop_by=model \\
        --model=runs/w300/tflite/float32.tflite
    lapkl crop --input_dir=aligned --output_dir=faces --crop_by=box \\
        --box=0.28,0.29,0.70,0.70

Each face is cut by the rule of labeled ones: a square of --crop_scale times the longer edge of the
box of five points (eye centers, nose tip, mouth corners). --crop_by says how the five points are
located: by a model, which begins with the whole photo or with --box of it; in a box, the same in
each photo; or by a detector of all faces. --crop_by=image is for models of whole pictures. If it is
killed, the same command goes on after the last finished shard. Photos that are left out are listed
with the reason in skipped.csv. With --scheduler=tcp://HOST:8786 a Dask cluster does the work; the
files are the same. Photos and shards may be in an object store, s3://, gs:// or az://, by the
extra `stores` and s3fs, gcsfs or adlfs.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

from absl import flags

from keras_lapkl._support.console import print
from keras_lapkl.commands import shared_flags

_INPUT_DIR = flags.DEFINE_string(
    "input_dir", None, "Folder of photos, or s3://bucket/photos.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the shards, or s3://bucket/faces.", required=True
)
flags.register_validator(
    "output_dir",
    lambda path: path is None or not path.lower().startswith("memory://"),
    "expected a folder or a store; memory ends with this command",
)
_CROP_BY = flags.DEFINE_enum(
    "crop_by",
    None,
    ["box", "model", "detector", "image"],
    "How the five points are located; image cuts none out: whole pictures.",
    required=True,
)
_BOX = flags.DEFINE_list(
    "box", None, "x0,y0,x1,y1 of the five points' box, in fractions of the photo."
)
_MODEL = flags.DEFINE_string(
    "model", None, "A .tflite file by lapkl convert, or a shipped model's name."
)
_MAX_SCALE = flags.DEFINE_float("max_scale", 1.6, "Mean scale up to which a model is sure, pixels.")
_DETECTOR = shared_flags.detector(__name__)
_MIN_CONFIDENCE = flags.DEFINE_float(
    "min_confidence", None, "Confidence of a detected face; default the detector's own."
)
_MIN_SIZE = flags.DEFINE_float("min_size", 40, "Longer edge of a detected face, photo pixels.")
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    80,
    "Side of the crops.",
    1,
    4096,  # the largest that a network takes
)
_MARGIN = flags.DEFINE_integer(
    "margin", None, "Spare pixels on each side, for augmentation; default a fifth of --image_size."
)
_CROP_SCALE = flags.DEFINE_float(
    "crop_scale",
    None,
    "Crop side / five-point box, by default 3 or the --model's, the paper's is 2; or / whole "
    "picture, by default 1.",
)
_SHARD_SIZE = flags.DEFINE_integer("shard_size", 4096, "Photos in a shard.", lower_bound=1)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Processes; default one a core, one for MTCNN (1 GB each and more).",
    lower_bound=1,
)
_SCHEDULER = shared_flags.scheduler(__name__)
_RESUME = shared_flags.resume(__name__)
_TAKES = {
    "box": {"box"},
    "model": {"model", "box", "max_scale"},
    "detector": {"detector", "min_confidence", "min_size"},
    "image": set(),
}


def main(_):
    from keras_lapkl._support import stores
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.folders import OtherDataError
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data.cropping import default_margin
    from keras_lapkl.data.unlabeled import shards

    margin = default_margin(_IMAGE_SIZE.value) if _MARGIN.value is None else _MARGIN.value
    locate, crop_scale = _locate(), _CROP_SCALE.value
    if crop_scale is None:
        crop_scale = _usual_crop_scale()
    try:
        results = shards.crop_folder(
            _INPUT_DIR.value,
            _OUTPUT_DIR.value,
            locate,
            image_size=_IMAGE_SIZE.value,
            margin=margin,
            crop_scale=crop_scale,
            shard_size=_SHARD_SIZE.value,
            workers=_WORKERS.value,
            scheduler=_SCHEDULER.value,
            resume=_RESUME.value,
        )
    except OtherDataError as error:
        raise OtherDataError(f"{error} Name another folder or delete it.") from error
    provenance = run_provenance()
    path = stores.at(_OUTPUT_DIR.value) / "results.json"
    write_json(path, {**results, "provenance": provenance})
    if results["passed_by"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in results["passed_by"].items())
        print(f"Passed by, no photos: {kinds}.")
    print(f"{shards.read_shards(_OUTPUT_DIR.value).summary}: {stores.at(_OUTPUT_DIR.value)}")


def _usual_crop_scale():
    from keras_lapkl import load_model, pretrained

    if _CROP_BY.value == "model":
        return float(load_model(pretrained.resolve(_MODEL.value, (".tflite",))).crop_scale)
    return 1.0 if _CROP_BY.value == "image" else 3.0


def _locate():
    from keras_lapkl.data.unlabeled.shards import WholePictures
    from keras_lapkl.detection import first_pass

    for name in sorted(set.union(*_TAKES.values()) - _TAKES[_CROP_BY.value]):
        if flags.FLAGS[name].present:
            raise ValueError(f"--{name} does not go with --crop_by={_CROP_BY.value}: drop it.")
    if _CROP_BY.value == "image":
        return WholePictures()
    if _CROP_BY.value == "detector":
        return first_pass.ByDetector(_MIN_CONFIDENCE.value, _MIN_SIZE.value, _DETECTOR.value)
    try:
        box = None if _BOX.value is None else tuple(map(float, _BOX.value))
    except ValueError as error:
        raise ValueError(f"--box must be four numbers. Received: {_BOX.value}") from error
    if _CROP_BY.value == "model":
        if _MODEL.value is None:
            raise ValueError(
                "--crop_by=model needs --model, a .tflite file or a shipped model's name."
            )
        return first_pass.ByModel(_MODEL.value, box, _MAX_SCALE.value)
    if box is None:
        raise ValueError("--crop_by=box needs --box=x0,y0,x1,y1.")
    return first_pass.ByBox(box)
