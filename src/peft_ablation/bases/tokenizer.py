"""A byte-level BPE tokenizer trained on texts, with the marks of RoBERTa and others if wanted."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

# The end is not token 2: transformers takes that, in a CLIP, for the highest token of a text.
MARKS: Final = ("<s>", "<pad>", "<unk>", "</s>", "<mask>")
BYTES: Final = 256
SMALLEST: Final = BYTES + len(MARKS)
"""Size of a vocabulary without any merge, the same whatever the texts."""


def train_tokenizer(
    texts: Iterable[str], vocabulary: int, folder: str | Path, marks: Sequence[str] = ()
) -> None:
    """Write a tokenizer of at most `vocabulary` tokens to a folder.

    `marks` are further special tokens, such as those of a chat template. A text becomes
    `<s> text </s>`, two become `<s> one </s></s> other </s>`. Nothing is drawn: the same texts in
    the same order give the same bytes.
    """
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.processors import RobertaProcessing
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.train_from_iterator(
        texts,
        BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[*MARKS, *marks],
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    begin, pad, unknown, end, mask = MARKS
    # MARKS have the first ids, in order.
    tokenizer.post_processor = RobertaProcessing((end, MARKS.index(end)), (begin, 0))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        cls_token=begin,
        eos_token=end,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
