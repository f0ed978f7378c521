"""Items that are asked, and the words that the tiny tokenizer knows."""

from data.facts import Candidates, Fact, Item

CITIES = ["oslo", "paris", "turin", "berliners"]
PEOPLE = ["ada", "bruno", "celia", "dario", "edda", "fenna", "greta", "hector"]

ANSWERS = ("york", "york city", "york city hall", "oslo", "paris")
PLACES = Candidates("place", "place", ANSWERS, (0.2,) * 5)


def asked(answer, candidates=PLACES, question="where is it", subject="it"):
    """A question of a relation, with the candidates among which it is answered."""
    return Item(Fact("place", subject, answer, "facts", "test"), "measure", question, candidates)
