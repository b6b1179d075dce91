def test_prints_steps_and_ratios(run_tool):
    tiny = ("--landmarks=2", "--image_size=16", "--batch_size=2", "--rounds=1", "--steps=1")
    done = run_tool("benchmarks/mobile_step.py", *tiny, "--widths=1/64")
    lines = [line.split() for line in done.stdout.splitlines() if line]
    assert [line[0] for line in lines if line[0] in ("step", "maps", "keras")] == [
        "step",
        "maps",
        "keras",
    ]
    ratios = [line for line in lines if line[0] in ("maps/step", "keras/step")]
    assert len(ratios) == 2 and all(float(line[1]) > 0 for line in ratios)
