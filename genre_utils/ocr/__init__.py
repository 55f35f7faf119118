"""From pixels to words: the reader, its cache, and whether reading is worth the time."""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    line="WORDS_FILE Line",
    cache="WordCache import_readings hash_file",
    reader="Reader",
    reading="Readings read_posters decide workers",
)
