"""What is built on the core, a module each; the core never imports it."""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    model_card="write_model_card",
    report="ablations comparison evaluate_systems in_words paired_in_words worth_of_words",
)
