"""A CLIP as a classifier: the head that its folder holds, or that texts make."""

from collections.abc import Sequence
from pathlib import Path

import torch

from peft_ablation.artifacts import read_json
from peft_ablation.bases.classifier import load_classifier
from peft_ablation.bases.clip import CLIPZeroShotClassifier, holds_head, prompt_weights
from peft_ablation.tasks.zero_shot import TWO_TOWERS


def is_clip(folder: str | Path) -> bool:
    """Tell whether the model of a folder is a CLIP."""
    return bool(read_json(Path(folder, "config.json")).get("model_type") == TWO_TOWERS)


def load_zero_shot(
    folder: str | Path,
    classes: Sequence[str] | None = None,
    texts: Sequence[Sequence[str]] | None = None,
) -> CLIPZeroShotClassifier:
    """Return the classifier of a CLIP's folder, in float32, on the CPU.

    A head of these `classes` that the folder holds is kept, in their order. Any other is made of
    the `texts` of each class, or without them from torch's global generator. Raises `InputError`
    where texts are given and the folder has no text tower.
    """
    from transformers import CLIPConfig

    config = CLIPConfig.from_pretrained(folder, local_files_only=True)
    saved = [config.id2label[place] for place in range(config.num_labels)]
    kept = holds_head(folder) and sorted(saved) == sorted(classes or saved)
    model: CLIPZeroShotClassifier = load_classifier(
        CLIPZeroShotClassifier, config, folder, ("classifier",), classes
    )
    if texts is not None and not kept:
        with torch.no_grad():
            model.classifier.weight.copy_(prompt_weights(folder, texts))
    return model
