"""Where the posters come from: places, downloads, tables, pictures, and the drawn sample.

The modules go from `spelling` and `tables` (file to columns) over `labels` (columns to genres),
`pictures` (ids to files), `layouts` (which table, which folder) and `download` to `find`.
"""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    tables="is_other_table read_table",
    spelling="parse_genres",
    labels="merge_rows read_labels",
    posters="list_posters",
    pictures="Pictures begins_as distinct_ids find_id_columns last_part normal_id spellings",
    layouts="find_layout tables_in",
    download="GITHUB_PAGE KAGGLE_PAGE cache_folder download_posters extract_posters has_internet",
    find="VARIABLE Source find_data",
    sample="SAMPLE_GENRES MUSIC_MARK draw_poster draw_sample",
)
