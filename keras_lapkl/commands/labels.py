"""Converts labels of other tools to a CSV file of keypoints to train on.

    lapkl labels --input=project --output=labels.csv
    lapkl labels --input=annotations.xml --images=photos --output=labels.csv --category=person
    lapkl labels --input=project --output=labels.csv --validation_share=0.2

--input is a file or folder of DeepLabCut, SLEAP (.slp with pictures), Label Studio, labelme, CVAT,
Ultralytics (data.yaml), dlib, WFLW or COCO; its content says which. What was found is counted,
with the points that are not labeled, and all that was left out with the reason. Look at
labels.samples.jpg beside the output: it shows up to ten objects with their points and names.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

from absl import flags

from keras_lapkl._support.console import print

_INPUT = flags.DEFINE_string("input", None, "File or folder of labels.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The .csv file to write.", required=True)
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of the pictures; default where the format has them."
)
_CATEGORY = flags.DEFINE_string(
    "category", None, "Class of objects to take, where there are several."
)
_VALIDATION_SHARE = flags.DEFINE_float(
    "validation_share",
    0.0,
    "Also write labels.train.csv and labels.validation.csv: the last pictures of each folder, this "
    "share of them, are for validation.",
    0,
    1,
)


def main(_):
    import pathlib
    import shlex

    from keras_lapkl._support.files import sweep
    from keras_lapkl.data.labels import converting

    output = pathlib.Path(_OUTPUT.value)
    sweep(output.parent, below=False)
    sweep(output.with_name(f"{output.stem}.pictures"))
    share = _VALIDATION_SHARE.value
    done = converting.convert_labels(_INPUT.value, output, _IMAGES.value, _CATEGORY.value, share)
    print("\n".join(converting.report(done)))
    print(f"Labels: {output}. Look at {done.samples}")
    given = ["--dataset=csv", f"--data_dir={done.folder}"]
    if share:
        train, validation = converting.part_paths(output)
        given += [f"--train_split={train}", f"--validation_split={validation}"]
    elif output.resolve() != pathlib.Path(done.folder, "train.csv").resolve():
        print(
            "Training takes other labels to validate on: --validation_share=0.2 makes both. To "
            f"train on all of these: {shlex.join([*given, f'--train_split={output}'])} "
            "--validation_split=OTHER.csv"
        )
        return
    print(f"To train: {shlex.join(given)}")
