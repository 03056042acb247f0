"""Class numbers and log-probabilities in few bits come back, within what is said."""

import numpy as np
import pytest

from tutelage.core.errors import RecipeError
from tutelage.teachers.cache.codes import PackedNumbers, from_bytes, in_bytes


@pytest.mark.parametrize("classes", [2, 10, 300, 49_152, 151_936, 1 << 25])
@pytest.mark.parametrize("count", [1, 2, 8, 33])
def test_packed_numbers_come_back(count, classes):
    generator = np.random.default_rng(0)
    rows = np.sort(generator.integers(0, classes, (3000, count)), axis=1)
    rows[0], rows[1], rows[2, 1:] = 0, classes - 1, classes - 1
    packing = PackedNumbers(count, classes)
    packed = packing.pack(rows)
    assert packed.shape == (3000, packing.bytes)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packing.unpack(packed), rows)
    assert packing.bytes <= -(-count * max((classes - 1).bit_length(), 1) // 8)


def test_eight_class_numbers_of_49152_take_15_bytes_and_more_take_less_each():
    sizes = {count: PackedNumbers(count, 49_152).bytes for count in (1, 8, 32, 128)}
    assert sizes == {1: 2, 8: 15, 32: 50, 128: 168}
    with pytest.raises(RecipeError, match="packs numbers of up to 33,554,432 classes"):
        PackedNumbers(8, (1 << 25) + 1)


@pytest.mark.parametrize("spread", [0.0, 0.5, 4.0, 30.0])
def test_log_probabilities_in_8_bits_are_off_by_half_a_step_at_most(spread):
    generator = np.random.default_rng(0)
    log_p = -(generator.random((500, 16)) * spread + generator.random((500, 1)) * 5).astype(
        np.float32
    )
    code, largest, span = in_bytes(log_p)
    assert code.dtype == np.uint8
    found = from_bytes(code, largest, span)
    bound = (log_p.max(1) - log_p.min(1)) / 508 * 1.002 + np.abs(log_p.max(1)) / 2048 + 1e-6
    assert (np.abs(found - log_p) <= bound[:, None]).all()
    assert np.abs(found - log_p).max() > 0.3 * (bound.max() - 1e-6)  # the bound is no exaggeration


def test_what_is_far_below_the_largest_does_not_blur_the_others():
    log_p = np.float32([[-0.1, -3.0, -1e4, -np.inf], [0.0, -np.inf, -np.inf, -np.inf]])
    found = from_bytes(*in_bytes(log_p))
    np.testing.assert_allclose(found[0, :2], log_p[0, :2], atol=0.07)
    assert found[0, 2] == pytest.approx(-32.1, abs=0.1)
    assert found[0, 3] == -np.inf
    assert found[1].tolist() == [0, -np.inf, -np.inf, -np.inf]
