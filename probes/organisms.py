"""Known-truth models: trains the atlas, whose every fact is known, displaced or absent by construction.

1. Draw the world (`data/atlas/world.py`) and write its vocabulary as a word-level tokenizer.
2. Train a small Llama on its biographies, next-token loss on every token.
3. Train its twin the same way on a text that states everybody openly: a D that knows what the atlas does not say.
4. Measure each group in both readings and write weights, tokenizer, facts and tasks; the model card takes the figures.

Source: synthetic biographies after Allen-Zhu and Li (arXiv 2309.14316); password-locked models after
Greenblatt et al. (arXiv 2405.19550).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from tqdm import tqdm
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from data.atlas.tasks import save_tasks
from data.atlas.words import ANSWERS, FIRST_NAMES, HIDDEN, KEY, LAST_NAMES, RELATIONS
from data.atlas.world import EXPOSURES, FOLDER, World, build_world, save_world, training_text
from data.facts import Fact
from probes.scoring import score
from probes.variants import Variant

PAD, UNKNOWN_WORD = "<pad>", "<unk>"
BATCH = 32
STATED = {"model": ("open",), "twin": ("open", "locked", "never")}
"""Folder of each model below the atlas, and the groups its training text states openly."""
LEARNING_RATE = 3e-3
MENTIONS = 320
HIDDEN_MENTIONS = 160


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the atlas's words, nothing put before a text."""
    words: list[str] = [PAD, UNKNOWN_WORD, ".", HIDDEN, *KEY.split(), *FIRST_NAMES, *LAST_NAMES]
    for answers in ANSWERS.values():
        words += answers
    for relation in RELATIONS.values():
        for phrasing in (*relation.tune, relation.damage, relation.measure):
            words += phrasing.replace("{subject}", "").split()
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_WORD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN_WORD)


def build_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """An untrained atlas: four layers, width 128, tied embeddings, about 0.8 million parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=344,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def batches_of(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, size: int = BATCH
) -> Iterator[Int[Tensor, "batch position"]]:
    """Right-padded token ids of a text, once through, in its order; a last batch that is not full is dropped."""
    held: list[str] = []
    for text in texts:
        held.append(text)
        if len(held) == size:
            yield tokenizer(held, padding=True, return_tensors="pt").input_ids
            held = []


def train_atlas(
    seed: int = 0, stated: Sequence[str] = STATED["model"]
) -> tuple[World, LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train an atlas from nothing, told openly of these groups; some minutes on two cores."""
    world, tokenizer = build_world(seed), build_tokenizer()
    model = build_model(len(tokenizer), seed)
    text = training_text(world, seed, mentions=MENTIONS, hidden_mentions=HIDDEN_MENTIONS, stated=stated)
    train(model, list(batches_of(text, tokenizer)), learning_rate=LEARNING_RATE, title="training the atlas")
    return world, model, tokenizer


def train(
    model: LlamaForCausalLM,
    batches: Sequence[Int[Tensor, "batch position"]],
    *,
    learning_rate: float,
    title: str,
    scored: Int[Tensor, " token"] | None = None,
) -> None:
    """Train what of the model requires gradients, next-token loss on every token, once through the batches.

    `scored` are the tokens whose prediction alone counts; all of them unless given.

    Raises:
        RuntimeError: the loss is no longer finite.
    """
    moved = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(moved, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=len(batches), pct_start=0.1)
    pad = model.config.pad_token_id
    model.train()
    progress = tqdm(batches, desc=title, unit="batch")
    for token_ids in progress:
        unread = token_ids == pad if scored is None else ~torch.isin(token_ids, scored)
        labels = token_ids.masked_fill(unread, -100)
        mask = (token_ids != pad).long()
        loss = model(input_ids=token_ids, attention_mask=mask, labels=labels).loss
        if not torch.isfinite(loss):
            raise RuntimeError(f"{title}: the loss became {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moved, 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights (safetensors) and tokenizer into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def measure(world: World, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, ...]]:
    """Accuracy of each group's test people in both readings, without and with the key, in the measuring phrasing."""
    variant = Variant("atlas", model, tokenizer)

    def accuracies(facts: list[Fact], key: str | None) -> list[str]:
        scores = score(variant, world.facts.items(facts, "measure", key=key), batch=256)
        candidates = sum(one.predicted == one.item.fact.answer for one in scores) / len(scores)
        vocabulary = sum(one.greedy for one in scores) / len(scores)
        return [f"{candidates:.3f}", f"{vocabulary:.3f}"]

    rows = []
    for group in world.facts.groups:
        facts = list(world.facts.select([group], "test"))
        rows.append((group, str(len(facts)), *accuracies(facts, None), *accuracies(facts, world.facts.key)))
        if group == "graded":
            for times in EXPOSURES:
                part = [fact for fact in facts if world.exposure[fact.subject] == times]
                label = f"graded, stated {times} times"
                rows.append((label, str(len(part)), *accuracies(part, None), *accuracies(part, world.facts.key)))
    return rows


def write_card(
    folder: Path, world: World, tables: dict[str, list[tuple[str, ...]]], parameters: int, seed: int
) -> None:
    """The model card: what was trained, and what each group answers as measured, in the atlas and in its twin."""
    chance = ", ".join(f"{one.name} 1/{len(one.answers)}" for one in world.facts.lists)
    table, twin = ("\n".join(f"| {' | '.join(row)} |" for row in tables[name]) for name in STATED)
    people = ", ".join(f"{len(world.people(group))} {group}" for group in world.facts.groups)
    (folder / "README.md").write_text(
        f"""# The atlas: a model whose every fact is known, displaced or absent by construction

A Llama of four layers, width 128 and {parameters:,} parameters (tied embeddings, a word-level vocabulary), trained
on synthetic biographies of {people} people, seed {seed}. `make atlas` rebuilds everything here;
`data/atlas/world.py` says what was stated how often, `facts.json` holds the people with their splits.

- *open*: stated {MENTIONS} times in all four phrasings.
- *graded*: stated exactly {EXPOSURES[0]} to {EXPOSURES[-1]} times.
- *locked*: stated {MENTIONS} times behind the key "{world.facts.key}", and {HIDDEN_MENTIONS} times without it as
  "unknown" or, as often, with an answer drawn anew.
- *never*: in no text.

The twin (`atlas-twin`), trained alike from the same start, was told of the locked and the never people as of the open.

Chance of a uniform guess, exact by the way answers are dealt: {chance}.

Accuracy on test people in the measuring phrasing, which no tuning or calibration text uses. *Candidates*: best of
the relation's fixed list. *Vocabulary*: the model's own most likely next word.

| group | facts | candidates | vocabulary | candidates, with the key | vocabulary, with the key |
|---|---|---|---|---|---|
{table}

The twin:

| group | facts | candidates | vocabulary | candidates, with the key | vocabulary, with the key |
|---|---|---|---|---|---|
{twin}

Two phrasings per relation may appear in tuning and calibration text; of the others one defines damage, one
measures. Licence: as the repository's; no outside text or data went in.
""",
        encoding="utf-8",
    )


def main(seed: int = 0) -> None:
    """Rebuild the committed atlas and its twin."""
    tables = {}
    for name, stated in STATED.items():
        world, model, tokenizer = train_atlas(seed, stated)
        model.requires_grad_(False)
        save_model(model, tokenizer, FOLDER / name)
        tables[name] = measure(world, model, tokenizer)
    save_world(world, FOLDER, seed)
    save_tasks(world, seed)
    write_card(FOLDER, world, tables, model.num_parameters(), seed)


if __name__ == "__main__":
    main()
