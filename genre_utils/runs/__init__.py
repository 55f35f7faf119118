"""A training on disk: its folder, its checkpoints, and several hosts that share it."""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    lock="LOCK_FILE",
    folder="Run",
    opening="open_run check_folders check_outside choice_of_run",
    pictures="settle_pictures",
    fine_tuning="Checkpoints epochs head_fit",
    parameters="check_numbers choose_epochs forecast loss_settings",
    start="check_start choose_encoder start_card start_from",
    hosts="own_folder",
)
