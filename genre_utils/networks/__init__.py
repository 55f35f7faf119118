"""Networks that no library has for Keras, their tokenizer, and how their files are run."""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    efficientnet_lite="VARIANTS build_efficientnet_lite",
    minilm=(
        "RELEASED_ENCODER WEIGHTS_FILE build_encoder cached_weights check_weights choose_encoder "
        "load_encoder set_weights"
    ),
    tokenizer="TOKENIZER tokenize check_tokenizer pad_tokens run_on_splits run_on_words",
    onnx="open_session RuntimeNetwork",
    features="averaged_networks with_features",
    arrays="MAX_WEIGHTS naming",
    card="FORMAT read_card read_json check_card check_model_file",
    folder="load_folder_network load_weights read_config save_folder_network save_weights to_onnx",
    keras_config="architecture check_config check_own_network to_config",
    keras_files="load_network",
)
