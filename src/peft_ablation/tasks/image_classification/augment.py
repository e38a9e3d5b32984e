"""Random changes of training images, each image by a draw of its own."""

import torch
from torch import Tensor


def augmented(
    image: Tensor, *, flip: bool = False, shift: int = 0, crop: int | None = None
) -> Tensor:
    """Return uint8 pixels (B, H, W) or (B, H, W, 3) moved and mirrored; features as they are.

    `shift` and `crop` move by -n to n pixels in each direction, every distance as likely as every
    other; what comes in repeats the border with `shift` and is black with `crop`. `flip` mirrors
    with probability one half. Torch's generator of the CPU gives three numbers an image, in the
    order of the images, whatever is asked for: so micro-batches that are drawn one after another
    get what the whole batch would, on any device, and a change of one setting leaves the draws of
    the others.
    """
    most = crop or shift
    if image.dtype != torch.uint8 or not (flip or most):
        return image
    rows, height, width = image.shape[:3]
    draws = torch.rand(rows, 3).to(image.device)
    move = (draws[:, :2] * (2 * most + 1)).long() - most
    down = torch.arange(height, device=image.device) + move[:, :1]
    right = torch.arange(width, device=image.device) + move[:, 1:]
    if flip:
        right = torch.where(draws[:, 2:] < 0.5, right.flip(1), right)
    own = torch.arange(rows, device=image.device)[:, None, None]
    moved = image[own, down.clamp(0, height - 1)[:, :, None], right.clamp(0, width - 1)[:, None, :]]
    if not crop:
        return moved
    inside = _inside(down, height)[:, :, None] & _inside(right, width)[:, None, :]
    return moved * (inside if image.dim() == 3 else inside[..., None])


def _inside(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)
