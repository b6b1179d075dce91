"""`.pts` files, whose text is broken."""

import harness

from keras_lapkl.data import pts

TEXT = "version: 1\nn_points: 3\n{\n1.5 2.5\n3 4\n-5 6e1\n}\n"


def attempt(rng, folder):
    path = folder / "x.pts"
    if rng.random() < 0.5:
        path.write_bytes(harness.mutated(rng, TEXT.encode()))
    else:
        text = harness.mutated_text(rng, TEXT)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert pts.read_pts(path).shape[1:] == (2,)


ATTACKS = [harness.Attack(".pts, text", attempt, tries=1000)]


def test_reads_or_refuses(figures):
    assert not figures.faults
