"""The one bar that shows how far long work is."""

from functools import partial

from tqdm import tqdm

# Used as tqdm is. `delay` keeps work of under three seconds silent, `mininterval` keeps a headless
# notebook's log short.
bar = partial(tqdm, delay=3, mininterval=1)
