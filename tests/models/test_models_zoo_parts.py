import torch

from tutelage.models import build_model, zoo


def test_shortcut_a_has_no_parameters_and_keeps_what_was_there():
    model = build_model({"resnet": {"depth": 8}}, classes=10, shape=(3, 32, 32))
    short = model.layer2[0].shortcut
    maps = torch.rand(2, 16, 8, 8)
    out = short(maps)
    assert not list(short.parameters())
    assert torch.equal(out[:, 8:24], maps[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() == out[:, 24:].abs().sum() == 0


def test_gru_reads_images_by_rows_and_sequences_by_steps():
    model = zoo.gru(row=6, classes=3, hidden=5).eval()
    images = torch.rand(2, 2, 4, 3)
    rows = torch.cat([images[:, 0], images[:, 1]], dim=-1)
    torch.testing.assert_close(model(images), model(rows))
    torch.testing.assert_close(model(rows), model.linear(model.gru(rows)[0][:, -1]))


def test_shuffle_takes_channels_of_both_halves_in_turn():
    block = build_model("shufflenetv2", classes=2, shape=(3, 32, 32)).layer1[1].eval()
    maps = torch.rand(1, 116, 2, 2)
    out = block(maps)
    assert torch.equal(out[:, ::2], maps[:, :58])
    assert torch.equal(out[:, 1::2], block.right(maps[:, 58:]))


def test_dropout_acts_in_training_only():
    model = build_model({"wrn": {"depth": 10, "dropout": 0.5}}, classes=3, shape=(3, 8, 8))
    images = torch.rand(4, 3, 8, 8)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))
