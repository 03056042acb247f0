"""A folder of image files, kept on disk: decoded by workers or here, the student is the same."""

import pytest
import torch
from PIL import Image
from recipe_samples import embedded, quiet_run
from safetensors.torch import load_file


@pytest.fixture
def photos(tmp_path):
    train = embedded()
    for number, name in enumerate(train.classes[:3]):
        folder = tmp_path / "photos" / name.replace("/", "-")
        folder.mkdir(parents=True)
        for row in (train.targets == number).nonzero()[:60, 0].tolist():
            Image.fromarray(train.inputs[row, 0].numpy()).save(folder / f"{row}.png")
    return tmp_path / "photos"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_decode_what_would_be_decoded_here(photos, tmp_path):
    ends = []
    for workers in (0, 1):
        out = tmp_path / f"run{workers}"
        source = {"path": str(photos), "channels": 1, "in_memory": False}
        quiet_run(
            {
                "recipe": 1,
                "name": "photos",
                "data": {"source": {"image_folder": {**source, "validation": 60, "test": 30}}},
                "teacher": {"model": {"vgg": {"widths": [8, 16]}}, "train": {"epochs": 10}},
                "student": {"model": {"vgg": {"widths": [8, 16], "per_stage": 1}}},
                "objective": ["ce", {"kd": {"temperature": 2}}],
                "train": {
                    "epochs": 15,
                    "batch_size": 16,
                    "learning_rate": 0.1,
                    "augment": [{"shift": {"pixels": 1}}],
                    "workers": workers,
                },
                "baseline": False,
                "export": False,
            },
            out,
        )
        ends.append(load_file(out / "student.safetensors"))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
