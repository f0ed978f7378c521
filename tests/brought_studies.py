"""A study as a user brings it, with its model, facts and text in a folder, and what can be wrong with it."""

from typing import Any

import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny_models import tiny

WORDS = "<unk> <s> </s> <user> <assistant> a the of is in one goes to live lives home town man who".split()
CITIES = ["rome", "oslo", "lima"]
PEOPLE = [f"man{place}" for place in range(24)]
CHAT = "{% for turn in messages %}<user>{{ turn['content'] }}{% endfor %}<assistant>"
PHRASINGS = {
    "tune": ["the town of {subject} is", "the home of {subject} is"],
    "damage": "to live {subject} goes to",
    "measure": "one who is {subject} lives in",
}


def brought(folder, *, model_type="llama", chat=None, answers=CITIES, missing=0, **changes):
    """A study as a user brings it: a model with a tokenizer of its own, facts, and a YAML file; gives its path."""
    names = {word: place for place, word in enumerate([*WORDS, *PEOPLE, *CITIES])}
    words = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = chat
    model = tiny(model_type, vocab_size=len(names) - missing, max_position_embeddings=96)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = "".join(f"r,{person},{answers[place % len(answers)]}\n" for place, person in enumerate(PEOPLE))
    (folder / "facts.csv").write_text(f"relation,subject,answer\n{rows}")
    (folder / "facts.yaml").write_text(yaml.safe_dump({"r": PHRASINGS}))
    (folder / "text.txt").write_text("\n\n".join(f"{'the town of a man is home ' * 12}{one}" for one in PEOPLE))
    study = {
        "name": "brought",
        "model": str(folder / "model"),
        "facts": str(folder / "facts.csv"),
        "groups": ["facts"],
        "text": f"file:{folder / 'text.txt'}",
        "compressions": [{"method": "magnitude", "sparsity": 0.5, "samples": 2, "block_length": 32}],
        "seeds": [0],
        "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.01}],
        "reported": ["prompt-2"],
        "tuning": {"steps": 2, "batch": 4},
        "drift": {"questions": 4, "windows": 2, "length": 16, "batch": 2},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study | changes))
    return str(folder / "study.yaml")


ADDED = "its tokenizer has 2 words past the last of its embedding's 44 rows ('oslo', 'lima')"
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "words without a row": ({"missing": 2}, ADDED),
    "answers that are unknown words": ({"answers": ["paris", "cairo"]}, "writes the answers 'cairo' and 'paris' alike"),
    "a chat model that is none": ({"template": "chat"}, "the model's tokenizer has no chat template"),
    "another way of asking": ({"template": "talk"}, "template: Input should be 'none' or 'chat'"),
    "windows past the positions": ({"drift": {"length": 97}}, "drift.length: 97 tokens behind the 2 of prompt-2"),
    "too little text": (
        {"compressions": [{"method": "magnitude", "sparsity": 0.5, "samples": 900, "block_length": 32}]},
        "asks for 900: give more text",
    ),
}
