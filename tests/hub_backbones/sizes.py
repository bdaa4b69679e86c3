"""How small the backbones are."""

VOCABULARY = 40
LENGTH = 8
DEPTH = 8
WIDTH = 8
