import cv2

from keras_lapkl.data.synthetic.faces import synthetic_faces


def test_prints_steps_and_ratios(run_tool, tmp_path):
    (tmp_path / "photos").mkdir()
    for i, face in enumerate(synthetic_faces(6, image_size=64)[0]):
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), face[..., ::-1])
    crop = ("--crop_by=box", "--box=0.3,0.3,0.7,0.7", "--shard_size=2", "--image_size=32")
    folders = (f"--input_dir={tmp_path}/photos", f"--output_dir={tmp_path}/shards")
    run_tool("tools/crop.py", *crop, *folders, "--workers=1")
    tiny = ("--width=1/64", "--unlabeled_batch_size=2", "--batch_size=2", "--rounds=1", "--steps=1")
    done = run_tool("benchmarks/streams.py", f"--unlabeled_dir={tmp_path}/shards", *tiny)
    assert done.stdout.startswith("6 faces in 3 shards: ")
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line}
    for name in ("memory", "shards", "disk", "shards/memory", "disk/memory"):
        assert float(rows[name]) > 0
