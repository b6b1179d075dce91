import json
import sys

from absl import flags

from keras_lapkl._support.provenance import run_provenance


def test_provenance_is_plain_data(monkeypatch):
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    flags.DEFINE_integer("seed", 3, "Of a binary that is this module.", flag_values=flags.FLAGS)
    monkeypatch.setattr(sys, "argv", [__name__])
    found = json.loads(json.dumps(run_provenance()))
    assert found["flags"] == {"seed": 3}
    assert {"keras", "numpy", "tensorflow", "python"} <= found["versions"].keys()
    assert found["git"] is None or len(found["git"]["commit"]) == 40


def test_provenance_has_no_passwords(monkeypatch):
    address, hidden = "ftp://me:S3CRET@host/photos", "ftp://***@host/photos"
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    flags.DEFINE_string("input_dir", address, "Of this module.", flag_values=flags.FLAGS)
    flags.DEFINE_list("more", ["a", address], "Of this module.", flag_values=flags.FLAGS)
    monkeypatch.setattr(sys, "argv", [__name__, f"--input_dir={address}", "--output_dir", "out"])
    found = run_provenance()
    assert found["command"][2:] == [f"--input_dir={hidden}", "--output_dir", "out"]
    assert found["flags"] == {"input_dir": hidden, "more": ["a", hidden]}
