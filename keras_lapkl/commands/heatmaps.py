"""Draws the heatmaps of several models on the same faces side by side, as in Figure 1.

    lapkl heatmaps --model=LaplaceKL=runs/a/model.keras \\
        --model=softargmax=runs/b/model.keras --dataset=300w --data_dir=300w --output=heatmaps.png

Without --dataset the faces are those on which the first model was validated.
"""

import pathlib

from absl import flags

from keras_lapkl._support import extras
from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags

_MODELS = flags.DEFINE_multi_string(
    "model", None, "TITLE=MODEL, repeated: a .keras file or a shipped model's name.", required=True
)
data_flags.define(__name__, of_model=True, split="validation")
_FACES = flags.DEFINE_integer("faces", 4, "How many, evenly spread over the split.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Picture to write.", required=True)
_PICTURES = (".png", ".jpg", ".pdf", ".svg")


def main(_):
    quiet_tensorflow()
    extras.require("lapkl heatmaps", "matplotlib")
    from keras_lapkl import load_model, pretrained
    from keras_lapkl._support.files import check_outputs, sweep
    from keras_lapkl.evaluation import plots
    from keras_lapkl.tflite.localizer import check_localizer

    output, models, files = pathlib.Path(_OUTPUT.value), {}, []
    if output.suffix not in _PICTURES:
        raise ValueError(f"--output must end in {', '.join(_PICTURES)}. Received: {output}")
    for entry in _MODELS.value:
        title, separator, name = entry.partition("=")
        if not separator or title in models:
            raise ValueError(
                f"Each --model must be TITLE=MODEL, with a title of its own. Received: {entry}"
            )
        files.append(pretrained.resolve(name, (".keras",)))
        check_outputs([output], files)
        models[title] = load_model(name, (".keras",))
        check_localizer(models[title])
    rules = {(model.image_size, model.crop_scale, model.scheme) for model in models.values()}
    if len(rules) > 1:
        raise ValueError(
            f"The models need one (size, crop scale, scheme) in common. Received: {rules}"
        )
    crops = data_flags.load_for(next(iter(models.values())), files[0], "split", "validation")
    images = crops.spread(_FACES.value).central()
    maps = {title: model.predict_heatmaps(images) for title, model in models.items()}
    sweep(output.parent, below=False)
    plots.heatmaps(images, maps, output)
    print(f"Heatmaps of {', '.join(models)} on {len(images)} faces: {output}")
