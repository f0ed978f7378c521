"""Known-truth organisms: small models, each with its own D, of which it is known what a repair may bring back.

One organism is one seed: its own people, its own two trainings. D and C differ in the blocks' linear layers alone,
as a model and its compressed copy do.

1. C reads of the open people openly, of the locked ones behind a key (without it "unknown" or a drawn answer), of
   the never people nothing. Loss on answers alone, which trains in a quarter of the steps.
2. D is C trained on, its embeddings and norms held, on a text that states everybody openly. So nothing of what D
   was told can stand in C.
3. A recipe names C, D and the people asked, and what is true of them.

    locked       C as it is; D knows them             displaced; the key is the ceiling
    compressed   C pruned; D knows them               displaced, as far as the key still opens it
    hard-null    C pruned; never people               nothing is there (hard null)
    mixture-s    C; share s locked, the rest never    displaced by that share
    rotated      D with every layer's attention values rotated; D is the unrotated model
    format       C pruned, D is C: both need the key  nothing was lost, and D has as much room
    overwritten  D trained on, on answers dealt anew  none: a case study

The rotation: with R orthogonal and of full rank within every head, W_v becomes R W_v and W_o stays. The rotated
values hold exactly what D's held (R' reads it), but W_o reads other directions. A prompt can add to the mixture of
values at a position and take attention from the rest; it cannot apply R' to the values of the content, which is
what would undo it. A change of weights can: W_o R' is D again, to the last bit but rounding.

Source: password-locked models, Greenblatt et al. (arXiv 2405.19550); biographies, Allen-Zhu & Li (2309.14316).
"""

import copy
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from data.atlas.words import ANSWERS, HIDDEN
from data.atlas.world import World, biography, build_world, save_world, training_text
from data.facts import SPLITS, Split
from probes.compress import compress
from probes.organisms import batches_of, build_tokenizer, save_model, train
from probes.specs.compression import CompressionSpec
from probes.tuning import encode_blocks

PEOPLE: dict[str, dict[Split, int]] = {
    "open": {"tune": 20, "calibrate": 10, "test": 20},
    "locked": {"tune": 40, "calibrate": 20, "test": 60},
    "never": {"tune": 40, "calibrate": 20, "test": 60},
}
RELATIONS = ("birthplace", "occupation")
SHARES = (0.05, 0.15, 0.5)
RECIPES = (
    "locked",
    "compressed",
    "hard-null",
    *(f"mixture-{share}" for share in SHARES),
    "rotated",
    "format",
    "overwritten",
)
MENTIONS, HIDDEN_MENTIONS, DENSE_MENTIONS, OVERWRITING_MENTIONS = 80, 40, 40, 10
LEARNING_RATE = 5e-3
PRUNED = CompressionSpec(method="magnitude", sparsity=0.3, samples=8, block_length=32)
"""What the null and the compressed locked model go through: mild, so that the key still opens."""


@dataclass(frozen=True)
class Organism:
    """Two trained models of one world."""

    world: World
    copy: LlamaForCausalLM
    dense: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    seed: int


def build_small(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """An untrained organism: three layers, width 64, 0.19 million parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            initializer_range=0.08,  # the library's 0.02 starts the small width too near to nothing: 4 x the steps
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def train_organism(seed: int) -> Organism:
    """Train both models of one seed; about half a minute on one core."""
    world, tokenizer = build_world(seed, PEOPLE, RELATIONS), build_tokenizer()
    model = build_small(len(tokenizer), seed)
    text = training_text(world, seed, mentions=MENTIONS, hidden_mentions=HIDDEN_MENTIONS, stated=("open",))
    _train(model, text, tokenizer, "training the copy")
    everybody = training_text(world, seed + 100_000, mentions=DENSE_MENTIONS, hidden_mentions=0, stated=tuple(PEOPLE))
    return Organism(world, model, _trained_on(model, everybody, tokenizer, "training its D"), tokenizer, seed)


def _train(model: LlamaForCausalLM, text: Iterable[str], tokenizer: PreTrainedTokenizerBase, title: str) -> None:
    """Train on a text's answers alone."""
    words = [HIDDEN, *(answer for answers in ANSWERS.values() for answer in answers)]
    scored = torch.tensor(tokenizer.convert_tokens_to_ids(words))
    train(model, list(batches_of(text, tokenizer)), learning_rate=LEARNING_RATE, title=title, scored=scored)
    model.requires_grad_(False)


def _trained_on(
    model: LlamaForCausalLM, text: Iterable[str], tokenizer: PreTrainedTokenizerBase, title: str
) -> LlamaForCausalLM:
    """A copy whose blocks' linear layers alone were trained on."""
    further = copy.deepcopy(model)
    for name, parameter in further.named_parameters():
        parameter.requires_grad_(".layers." in name and "norm" not in name)
    _train(further, text, tokenizer, title)
    return further


def rotation(size: int, seed: int) -> Float[Tensor, "size size"]:
    """An orthogonal matrix of full rank, drawn uniformly (Mezzadri 2007, arXiv math-ph/0609050)."""
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orthogonal, triangle = torch.linalg.qr(drawn)
    return (orthogonal * triangle.diagonal().sign()).float()


def rotated(model: LlamaForCausalLM, seed: int, layers: Sequence[int]) -> LlamaForCausalLM:
    """A copy whose attention values are turned within every head of these layers, unread by what follows."""
    turned = copy.deepcopy(model)
    for layer in layers:
        values = turned.model.layers[layer].self_attn.v_proj.weight
        values.data = _turn(model, seed, layer) @ values.data
    return turned


def _turn(model: LlamaForCausalLM, seed: int, layer: int) -> Float[Tensor, "joined joined"]:
    """One layer's rotations, head by head, in one matrix."""
    heads = model.config.num_attention_heads
    width = model.config.hidden_size // heads
    return torch.block_diag(*(rotation(width, 1000 * seed + 10 * layer + head) for head in range(heads)))


def asked_of(organism: Organism, recipe: str) -> World:
    """The people a recipe asks about, in one group `asked`; a mixture has its share of locked ones in every split."""
    facts = organism.world.facts
    chosen: set[str] = set()
    for split in SPLITS:
        locked, never = (organism.world.people(group, split) for group in ("locked", "never"))
        if recipe.startswith("mixture-"):
            count = round(float(recipe.removeprefix("mixture-")) * len(never))
            chosen |= {*locked[:count], *never[count:]}
        else:
            chosen |= set(never if recipe == "hard-null" else locked)
    kept = tuple(replace(fact, group="asked") for fact in facts.facts if fact.subject in chosen)
    return World(replace(facts, facts=kept), {})


def models_of(organism: Organism, recipe: str) -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    """D and C of a recipe."""
    seed = organism.seed
    if recipe == "rotated":
        last = organism.dense.config.num_hidden_layers
        return organism.dense, rotated(organism.dense, seed, range(last))
    if recipe == "overwritten":
        return organism.dense, _overwritten(organism)
    if recipe in ("compressed", "hard-null", "format"):
        return (organism.copy if recipe == "format" else organism.dense), _pruned(organism)
    return organism.dense, organism.copy


def _pruned(organism: Organism) -> LlamaForCausalLM:
    """C after compression, its calibration text about open people."""
    blocks = encode_blocks(organism.tokenizer, _text(organism), PRUNED.block_length)[: PRUNED.samples]
    made = compress(organism.copy, organism.tokenizer, PRUNED, torch.tensor(blocks), seed=organism.seed)
    return made.model  # type: ignore[return-value]


def _overwritten(organism: Organism) -> LlamaForCausalLM:
    """D trained on, on locked people's answers dealt anew: nobody says what of the old ones is left."""
    world = organism.world
    dealt = list(world.facts.facts)
    for relation in RELATIONS:
        places = [place for place, fact in enumerate(dealt) if (fact.group, fact.relation) == ("locked", relation)]
        answers = [dealt[place].answer for place in places]
        random.Random(f"overwritten {relation} {organism.seed}").shuffle(answers)
        for place, answer in zip(places, answers, strict=True):
            dealt[place] = replace(dealt[place], answer=answer)
    other = World(replace(world.facts, facts=tuple(dealt)), {})
    text = training_text(
        other, organism.seed + 200_000, mentions=OVERWRITING_MENTIONS, hidden_mentions=0, stated=("open", "locked")
    )
    return _trained_on(organism.dense, text, organism.tokenizer, "overwriting")


def _text(organism: Organism) -> list[str]:
    """Biographies of the open people in the tuning phrasings, six of each: they state nothing that is asked."""
    draw = random.Random(f"text {organism.seed}")
    people = [name for name in organism.world.people("open") for _ in range(6)]
    return [biography(organism.world, name, draw, phrasings="tune") for name in people]


def write_recipe(organism: Organism, recipe: str, folder: Path) -> None:
    """Write a recipe's D (`dense`), C (named for the recipe), people and text, as a study reads them."""
    dense, made = models_of(organism, recipe)
    save_model(dense, organism.tokenizer, folder / "dense")  # type: ignore[arg-type]
    save_model(made, organism.tokenizer, folder / recipe)  # type: ignore[arg-type]
    save_world(asked_of(organism, recipe), folder, organism.seed)
    (folder / "text.txt").write_text("\n\n".join(dict.fromkeys(_text(organism))) + "\n", encoding="utf-8")
