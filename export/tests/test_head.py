"""The head: what a block's logits depend on, and what they must not depend on."""

import pytest
import torch

from weakrest_export.errors import ExportError
from weakrest_export.head import Head, Shape
from weakrest_export.settings import Reads


@pytest.fixture(scope="module")
def head() -> Head:
    torch.manual_seed(0)
    made = Head(Shape(6, width=32, depth=2)).eval()
    with torch.no_grad():
        # Fresh weights are too small for attention to show.
        for parameter in made.parameters():
            parameter.mul_(5)
    return made


@pytest.mark.parametrize("grid", [(1, 1), (3, 8), (8, 8), (13, 21), (16, 40)])
def test_takes_grids_of_any_size(head: Head, grid: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert head(torch.randn(2, *grid, 6)).shape == (2, *grid, 2)


def test_padding_changes_nothing(head: Head) -> None:
    small = torch.randn(1, 11, 6, 6)
    padded = torch.zeros(1, 19, 17, 6)
    padded[:, :11, :6] = small
    present = torch.zeros(1, 19, 17)
    present[:, :11, :6] = 1
    with torch.inference_mode():
        alone, within = head(small), head(padded, present)[:, :11, :6]
        assert torch.allclose(alone, within, atol=1e-5)
        assert not torch.allclose(alone, head(padded)[:, :11, :6], atol=1e-3)


def test_pictures_of_a_batch_do_not_see_each_other(head: Head) -> None:
    residuals = torch.randn(2, 9, 9, 6)
    with torch.inference_mode():
        assert torch.allclose(head(residuals)[1:], head(residuals[1:]), atol=1e-5)


def test_windows_are_shifted_in_the_second_layer(head: Head) -> None:
    """Block (0, 0) sees its own window, and through shifted windows the next ones, but nothing beyond."""
    residuals = torch.randn(1, 32, 32, 6)
    with torch.inference_mode():
        before = head(residuals)

        def differs(row: int, col: int, changed: tuple[int, int]) -> bool:
            other = residuals.clone()
            other[0, changed[0], changed[1]] += 3
            return bool((head(other)[0, row, col] - before[0, row, col]).abs().max() > 1e-6)

        assert differs(0, 0, (7, 7))
        assert not differs(0, 0, (0, 8))
        assert differs(6, 6, (8, 8))
        assert differs(6, 6, (15, 15))
        assert not differs(6, 6, (16, 6))
        assert not differs(0, 0, (31, 31))


def test_where_a_window_lies_in_the_picture_does_not_matter(head: Head) -> None:
    residuals = torch.randn(1, 32, 32, 6)
    with torch.inference_mode():
        whole, part = head(residuals), head(residuals[:, 8:, 8:])
    assert torch.allclose(whole[:, 16:, 16:], part[:, 8:, 8:], atol=1e-5)


def test_outliers_stay_finite(head: Head) -> None:
    with torch.inference_mode():
        assert torch.isfinite(head(torch.randn(1, 8, 8, 6) * 1e30)).all()


@pytest.mark.parametrize("reads", ["sizes", "squares"])
def test_the_sign_of_residuals_matters_only_where_it_is_read(head: Head, reads: Reads) -> None:
    residuals = torch.randn(1, 8, 8, 6)
    blind = Head(Shape(6, 32, reads=reads)).eval()
    with torch.inference_mode():
        assert not torch.equal(head(residuals), head(-residuals))
        assert torch.equal(blind(residuals), blind(-residuals))


@pytest.mark.parametrize("wrong", [{"width": 100}, {"width": 0}, {"depth": 0}, {"ratio": 0}])
def test_refuses_shapes_that_make_no_head(wrong: dict[str, int]) -> None:
    with pytest.raises(ExportError, match="must be"):
        Shape(6, **wrong)
