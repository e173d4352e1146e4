"""Where the files of a stored base model lie, and which of them make it what it is."""

from dataclasses import dataclass
from pathlib import Path

from mlflow_edit.errors import UnsupportedModel

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
    "tiktoken.model",
    "vocab.spm",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
WEIGHT_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
)


@dataclass(frozen=True, slots=True)
class BaseFolders:
    """Where the weights and the tokenizer of a stored model lie."""

    weights: Path
    tokenizer: Path


def find_base(folder: Path) -> BaseFolders:
    """Find weights and tokenizer in a Hugging Face folder or a stored MLflow transformers model.

    Raises:
        UnsupportedModel: neither layout is there.
    """
    for weights, tokenizer in (
        (folder, folder),
        (folder / "model", folder / "components" / "tokenizer"),
        (folder / "model", folder / "model"),
        (folder / "pipeline", folder / "pipeline"),
    ):
        has_tokenizer = any(tokenizer.glob("tokenizer*")) or any(tokenizer.glob("vocab*"))
        if (weights / "config.json").is_file() and has_tokenizer:
            return BaseFolders(weights, tokenizer)
    raise UnsupportedModel(
        f"{folder} holds no model: expected config.json, *.safetensors and tokenizer files",
        hint="Give a folder written by save_pretrained, or an MLflow transformers model.",
    )


def base_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a base model that its digest covers: weights, and tokenizer."""
    folders = find_base(folder)
    weights = [file for pattern in WEIGHT_FILES for file in sorted(folders.weights.glob(pattern))]
    tokenizer = [folders.tokenizer / name for name in TOKENIZER_FILES]
    return weights, [file for file in tokenizer if file.is_file()]
