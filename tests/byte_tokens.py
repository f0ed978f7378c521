"""A tokenizer of bytes with a few merges over spaces: one space more or less is another row of tokens."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MERGES = (("Ġ", "a"), ("Ġ", "Ġ"), ("a", "b"), ("Ġa", "b"), ("b", "c"))


def byte_tokenizer(opening: bool, merges: tuple[tuple[str, str], ...] = MERGES) -> PreTrainedTokenizerFast:
    """Make one.

    Args:
        opening: Whether it puts a token before a text.
        merges: Pairs that become one token, in order.
    """
    letters = {one: place for place, one in enumerate(["<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    for first, second in merges:
        letters.setdefault(first + second, len(letters))
    inner = Tokenizer(models.BPE(letters, list(merges)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    if opening:
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")
