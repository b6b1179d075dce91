"""What is in a .tflite file, as lines that a person can read in a terminal."""

import textwrap

_WIDTH = 88
_LABEL = 12
_UNBROKEN = "\N{NO-BREAK SPACE}"


def page(description):
    """Lines of text on what `inspection.describe` found.

    Args:
        description: its dict.
    """
    about = description["metadata"]
    rows = [
        ("File", _file(description["bytes"], about)),
        ("Input", *(_tensor(each, about) for each in description["inputs"])),
        ("Output", *map(_tensor, description["outputs"])),
    ]
    if about is not None:
        rows += [
            ("", f"in {about['units']}"),
            ("Landmarks", _landmarks(about)),
            ("Crop", _crop(about)),
            ("Trained on", about["trained_on"] or "unknown"),
            ("License", about["license"] or "unknown"),
            ("Measured", _measured(about["measured"])),
            ("Confidence", _confidence(about["calibration"])),
        ]
    else:
        rows.append(("Metadata", "none: this file was not written by keras_lapkl"))
    rows.append(("Operators", _operators(description["operators"])))
    return "\n".join(line for label, *texts in rows for line in _lines(label, texts))


def _lines(label, texts):
    """Texts below each other, wrapped, beside their label."""
    lines = [line for text in texts for line in textwrap.wrap(text, _WIDTH - _LABEL)]
    return [
        f"{label if i == 0 else '':{_LABEL}}{line}".replace(_UNBROKEN, " ")
        for i, line in enumerate(lines)
    ]


def _file(size, about):
    if about is None:
        return f"{size:,} bytes"
    parts = [f"{size:,} bytes", about["mode"], f"by keras_lapkl {about['keras_lapkl']}"]
    if about["float_layers"]:
        parts.insert(2, f"in float: {', '.join(about['float_layers'])}")
    if about["flip_average"]:
        parts.insert(2, "mean with the mirrored face")
    if about["refined"]:
        parts.insert(2, "refined by the whole shape")
    return ", ".join(parts)


def _tensor(tensor, about=None):
    text = f"{tensor['name']}: {' x '.join(map(str, tensor['shape']))} {tensor['dtype']}"
    if about is not None:
        low, high = about["input"]["range"]
        text += f", {about['input']['channels']} from {low:g} to {high:g}"
    return text


def _landmarks(about):
    scheme = about["scheme"]
    return f"{about['num_landmarks']} of {scheme['name'] if scheme else 'an unknown scheme'}"


def _crop(about):
    if about["crop_scale"] is None:
        return "unknown"
    rule = about["crop"] or "square, side crop_scale times the longer edge of what it is cut by"
    return rule.replace("crop_scale", f"{about['crop_scale']:g}")


def _measured(measured):
    if measured is None:
        return "no error measured on labeled faces"
    return (
        f"NME {measured['nme']:.2f} % ({measured['normalizer']}) and spread "
        f"{measured['spread']:.2f} px on {measured['faces']:,} faces of {measured['data']}, crop "
        f"scale {measured['crop_scale']:g}"
    )


def _confidence(calibration):
    if calibration is None:
        return "not calibrated"
    return f"calibrated on {calibration['data'] or 'faces unknown'}"


def _operators(counts):
    each = (f"{n} {name} {dtype}" for name, types in counts.items() for dtype, n in types.items())
    return ", ".join(text.replace(" ", _UNBROKEN) for text in each)
