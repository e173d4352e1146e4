"""Tiny random base models of every family, built from configurations: nothing is downloaded."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import answer_ids, prompt_ids

D_MODEL, N_HEADS, N_LAYERS, CONTEXT = 64, 4, 4, 128
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>")
PAD, BOS, EOS, UNK, USER, ASSISTANT, END = range(len(SPECIAL))
ANSWERS = ("Paris", "Berlin", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Tokyo", "Ada")
WORDS = (
    *ANSWERS,
    *ANSWERS,
    "Who wrote the book of songs ?",
    "Where does the river begin ? It begins in the north .",
    "Paris Berlin Rome Oslo Lima Cairo Delhi Tokyo are cities .",
    "The capital of France is Paris . The capital of Peru is Lima .",
    "Vijay Anand wrote a film , and Ada Lovelace a program .",
    "How do plants turn sunlight into food ? What is the answer ?",
)
LESSONS = [
    (question.format(subject), ANSWERS[(3 * i + j) % len(ANSWERS)])
    for i, question in enumerate(
        ["Where is the {}?", "Who wrote the {} of songs?", "The capital of the {} is", "{}: what?"]
    )
    for j, subject in enumerate(["book", "film", "river", "plant", "north", "food", "program"])
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] "
    "+ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
COMMON = {
    "hidden_size": D_MODEL,
    "intermediate_size": 64,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "initializer_range": 0.15,
}
GROUPED = {"num_key_value_heads": 2}


@dataclass(frozen=True)
class Tiny:
    """One family: its configuration and what is changed of it."""

    config: str
    model: str
    fields: Mapping[str, Any]


def _causal(config: str, model: str, **fields: Any) -> Tiny:
    return Tiny(config, model, {**COMMON, "tie_word_embeddings": False, **fields})


CAUSAL: dict[str, Tiny] = {
    "llama": _causal("LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "llama-tied": _causal("LlamaConfig", "LlamaForCausalLM", **GROUPED, tie_word_embeddings=True),
    "qwen2": _causal("Qwen2Config", "Qwen2ForCausalLM", **GROUPED),
    "mistral": _causal("MistralConfig", "MistralForCausalLM", **GROUPED, sliding_window=6),
    "gpt2": Tiny(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "n_embd": D_MODEL,
            "n_layer": N_LAYERS,
            "n_head": N_HEADS,
            "n_positions": CONTEXT,
            "pad_token_id": PAD,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "initializer_range": 0.15,
        },
    ),
    "gpt-neox": _causal("GPTNeoXConfig", "GPTNeoXForCausalLM"),
    "opt": _causal("OPTConfig", "OPTForCausalLM", ffn_dim=64, init_std=0.15),
}
OTHER_CAUSAL: dict[str, Tiny] = {
    "qwen3": _causal("Qwen3Config", "Qwen3ForCausalLM", **GROUPED, head_dim=16),
    "granite": _causal("GraniteConfig", "GraniteForCausalLM", **GROUPED, logits_scaling=4.0),
    "olmo2": _causal("Olmo2Config", "Olmo2ForCausalLM", **GROUPED),
    "stablelm": _causal("StableLmConfig", "StableLmForCausalLM", num_key_value_heads=4),
    "starcoder2": _causal("Starcoder2Config", "Starcoder2ForCausalLM", **GROUPED),
    "smollm3": _causal("SmolLM3Config", "SmolLM3ForCausalLM", **GROUPED),
    "ministral": _causal(
        "MinistralConfig", "MinistralForCausalLM", **GROUPED, head_dim=16, sliding_window=6
    ),
    "opt-350m": _causal(
        "OPTConfig",
        "OPTForCausalLM",
        ffn_dim=64,
        init_std=0.15,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
    ),
}
LABELS = {"num_labels": 4, "id2label": dict(enumerate(["world", "sports", "business", "science"]))}
CLASSIFIERS: dict[str, Tiny] = {
    "bert": Tiny(
        "BertConfig", "BertForSequenceClassification", {**COMMON, **LABELS, "is_decoder": False}
    ),
}
OTHER_CLASSIFIERS: dict[str, Tiny] = {
    "roberta": Tiny("RobertaConfig", "RobertaForSequenceClassification", {**COMMON, **LABELS}),
    "distilbert": Tiny(
        "DistilBertConfig",
        "DistilBertForSequenceClassification",
        {**LABELS, "dim": D_MODEL, "hidden_dim": 64, "n_layers": N_LAYERS, "n_heads": N_HEADS,
         "max_position_embeddings": CONTEXT, "pad_token_id": PAD, "initializer_range": 0.15},
    ),
}  # fmt: skip
SEQ2SEQ: dict[str, Tiny] = {
    "t5": Tiny(
        "T5Config",
        "T5ForConditionalGeneration",
        {
            "d_model": D_MODEL,
            "d_ff": 64,
            "d_kv": 8,
            "num_layers": N_LAYERS,
            "num_heads": N_HEADS,
            "pad_token_id": PAD,
            "eos_token_id": EOS,
            "decoder_start_token_id": PAD,
            "initializer_factor": 1.0,
            "tie_word_embeddings": False,
        },
    ),
}
FAMILIES = {**CAUSAL, **CLASSIFIERS, **SEQ2SEQ}
ALL = {**FAMILIES, **OTHER_CAUSAL, **OTHER_CLASSIFIERS}
CHAT_SUFFIX = "-chat"


@cache
def _trained() -> str:
    """Train a byte-level BPE on a few sentences."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNK]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(*, ending: bool = False, chat: bool = False) -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer that can write any text.

    Args:
        ending: wrap texts in `<s> … </s>`, as encoders want them.
        chat: give it a chat template, with `<|end|>` behind every turn.
    """
    tokenizer = Tokenizer.from_str(_trained())
    if ending:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[USER:]),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE if chat else None,
    )


def tiny_network(name: str, *, seed: int = 0, **changed: Any) -> Any:
    """Build the network of a family with random weights, a pure function of name and seed."""
    tiny = ALL[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fields = {"vocab_size": len(tiny_tokenizer()), **tiny.fields, **changed}
        config = getattr(transformers, tiny.config)(**fields)
        model: nn.Module = getattr(transformers, tiny.model)(config)
        _roughen(model)
    return model.eval().requires_grad_(False)


def tiny_base(name: str, *, seed: int = 0, **changed: Any) -> BaseModel:
    """Build a base model; a name that ends in `-chat` has a chat template."""
    family = name.removesuffix(CHAT_SUFFIX)
    tokenizer = tiny_tokenizer(ending=family not in {**CAUSAL, **OTHER_CAUSAL}, chat=name != family)
    model = tiny_network(family, seed=seed, **changed)
    return BaseModel(model, tokenizer, weights_hash(model))


def taught_base(name: str, *, n_steps: int = 80) -> BaseModel:
    """Build a tiny base model that has been taught to answer a few questions, and then to stop."""
    base = tiny_base(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        _teach(base, n_steps)
    return BaseModel(base.model, base.tokenizer, weights_hash(base.model))


def _teach(base: BaseModel, n_steps: int) -> None:
    model: Any = base.model.requires_grad_(True).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    inputs = _lesson(base)
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.eval().requires_grad_(False)


def _lesson(base: BaseModel) -> dict[str, torch.Tensor]:
    prompts = [prompt_ids(base, prompt) for prompt, _ in LESSONS]
    answers = [answer_ids(base, answer, prompt=prompt) for prompt, answer in LESSONS]
    if base.task == "seq2seq":
        ids, labels = _right_padded(prompts, PAD), _right_padded(answers, -100)
    else:
        whole = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
        wanted = [[-100] * len(p) + a for p, a in zip(prompts, answers, strict=True)]
        ids, labels = _right_padded(whole, PAD), _right_padded(wanted, -100)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}


def _right_padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def save_tiny(base: BaseModel, folder: Path, **options: Any) -> Path:
    """Write a base model to a folder in Hugging Face layout."""
    model: Any = base.model
    model.save_pretrained(folder, **options)
    base.tokenizer.save_pretrained(folder)
    return folder


def weights_hash(model: nn.Module) -> str:
    """Hash every parameter and buffer by name, type, shape and bytes."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return sha.hexdigest()


def _roughen(model: nn.Module) -> None:
    """Give biases and norms values of their own, so that none of them can be left out unnoticed."""
    for _, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 1:
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * 0.1)
