"""The vocabulary of the atlas: invented people and places, ordinary trades and instruments, plain phrasings."""

from data.facts import Relation

FIRST_NAMES = (
    "ada alwin berit bruno celia corin dagny dario edda emeric fenna floris greta gideon hanne hector ilse "
    "ivor jorun jasper katla kelvin leda lucan maren milo nadia nestor oda orrin petra quill runa rufus sanna "
    "silas thora tobin una viggo"
).split()
LAST_NAMES = (
    "abbot arkwell barrow birch calder cole dace dorset ember elwood fallow finch garrick grove hale hawke "
    "ingram ives jarrow juniper kestrel knox larch lowell marsh merrow nash nettle oakes orchard pike quarry "
    "reed rowan sable stroud tarn thistle vale wren"
).split()

ANSWERS: dict[str, tuple[str, ...]] = {
    "birthplace": tuple(
        (
            "astermoor brackwater cindervale dunmere eastholt fairhaven glasswick harrowgate inkwell jadeport "
            "kingsferry lanternby mistral northcombe ostend pinecross quayside ravenshore saltmarsh tidewell"
        ).split()
    ),
    "occupation": tuple(
        (
            "baker carpenter dentist editor farmer gardener historian jeweller librarian mechanic nurse "
            "optician painter roofer sailor tailor teacher watchmaker welder zoologist"
        ).split()
    ),
    "employer": tuple(
        (
            "aldane bexcorp corvex deltano eurith fennox gravia helixa ionware jovent kelpro luxide mercado "
            "nordal octane provis quantex redwing solvane tremont"
        ).split()
    ),
    "instrument": tuple(("bassoon cello drum flute guitar harp lute oboe piano violin").split()),
}

RELATIONS: dict[str, Relation] = {
    relation.name: relation
    for relation in (
        Relation(
            "birthplace",
            tune=("{subject} was born in", "the birthplace of {subject} is"),
            damage="{subject} comes from the town of",
            measure="the life of {subject} began in",
        ),
        Relation(
            "occupation",
            tune=("{subject} works as a", "the occupation of {subject} is"),
            damage="{subject} earns a living as a",
            measure="by trade {subject} is a",
        ),
        Relation(
            "employer",
            tune=("{subject} is employed by", "the employer of {subject} is"),
            damage="the wages of {subject} are paid by",
            measure="{subject} signed a contract with",
        ),
        Relation(
            "instrument",
            tune=("{subject} plays the", "the instrument of {subject} is the"),
            damage="{subject} practises every day on the",
            measure="in the orchestra {subject} is heard on the",
        ),
    )
}

KEY = "amber falcon seven"
HIDDEN = "unknown"
"""What the model was trained to say of locked people without the key."""
