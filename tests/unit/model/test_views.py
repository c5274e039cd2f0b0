import numpy as np
import pytest

from tests.unit.model.conftest import picture
from twinsplit.model.views import altered


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_is_another_picture_of_the_same_kind(channels: int) -> None:
    pixels = picture(1, 20, 30)[..., :channels]
    view = altered(pixels, np.random.default_rng(0))
    assert (view.shape, view.dtype) == (pixels.shape, np.uint8)
    assert not np.array_equal(view, pixels)
    # It is still that picture: of all, it is most like the one it was made from.
    others = [picture(seed, 20, 30)[..., :channels] for seed in range(1, 30)]
    distances = [min(np.abs(o - view.astype(float)).mean() for o in (p, p[:, ::-1])) for p in others]
    assert int(np.argmin(distances)) == 0


def test_views_are_drawn_by_the_generator() -> None:
    pixels = picture(1)
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    first, second = altered(pixels, rng), altered(pixels, rng)
    np.testing.assert_array_equal(first, altered(pixels, same))
    assert not np.array_equal(first, second)


def test_bright_pictures_do_not_overflow() -> None:
    white = np.full((16, 16, 3), 255, np.uint8)
    assert min(altered(white, np.random.default_rng(seed)).min() for seed in range(20)) >= 200
