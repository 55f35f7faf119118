"""What everything stands on: files that appear whole, and progress bars."""

from genre_utils.support.lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "files": (
            "FULL",
            "replacing",
            "naming_full_disks",
            "make_writable",
            "write_json",
            "write_csv",
            "printable",
            "harmless",
        ),
        "parameters": ("as_bool", "as_choice", "expand_user"),
    },
)
