"""How hard to try: the number of examples of fuzz tests."""

from hypothesis import settings

# A profile that asks for more (`--hypothesis-profile=fuzz`) gets more.
thousands = settings(max_examples=max(3000, settings().max_examples))
