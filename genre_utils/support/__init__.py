"""What everything stands on: files that appear whole, limits, memory, and progress bars."""

from genre_utils.support.lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "files": (
            "FULL replacing temporary_file lock_file only_writer naming_full_disks check_writable "
            "walk sha256_of short_hash picture_hash write_json write_csv first_of printable "
            "harmless"
        ),
        "heap": "share_heap trim_heap",
        "limits": (
            "DataError PosterError check_file check_size is_address is_large read_stream shrink "
            "too_many_pixels"
        ),
        "jpeg": "prepare_jpeg",
        "tables": "check_tables",
        "parameters": "as_bool as_choice check_names did_you_mean expand_user nearest",
    },
)
