"""What decides: on facts that no repair read, it returns more than each arm that holds no knowledge.

`analysis/hypothesis.py` compares the arms and `decide` reads every one of them: the verdict is their conjunction.
"""

from analysis.predictions.prediction import Prediction, recorded

BEYOND = "test facts come back beyond "
RECALIBRATION = Prediction(words=recorded(f"{BEYOND}recalibration"))
UNTRAINED = Prediction(words=recorded(f"{BEYOND}untrained prompts"))
MASKED = Prediction(words=recorded(f"{BEYOND}tuning with answers masked"))
SHUFFLED = Prediction(words=recorded(f"{BEYOND}tuning with answers shuffled"))
DENSE_ARM = Prediction(words=recorded(f"{BEYOND}the dense arm"))
