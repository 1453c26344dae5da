# SPDX-License-Identifier: MIT
"""A tiny random Llama: written as a Hugging Face folder, and run in NumPy.

Formulas: Llama (arXiv:2302.13971), rotary embedding in halves (arXiv:2104.09864), grouped queries (arXiv:2305.13245).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List

import numpy as np
import numpy.typing as npt

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB, CONTEXT = 64, 96, 2, 4, 2, 16, 259, 256
THETA, EPS = 10000.0, 1e-5

Array = npt.NDArray[np.float64]
Weights = Dict[str, npt.NDArray[np.float32]]


def make_weights(seed: int) -> Weights:
    rng = np.random.default_rng(seed)

    def normal(*shape: int, mean: float = 0.0, spread: float) -> npt.NDArray[np.float32]:
        return (mean + spread * rng.standard_normal(shape)).astype(np.float32)

    w = {"model.embed_tokens.weight": normal(VOCAB, HIDDEN, spread=0.5)}
    shapes = {
        "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
        "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
        "mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN), "mlp.down_proj": (HIDDEN, FFN),
    }  # fmt: skip
    for layer in range(LAYERS):
        for name, (rows, cols) in shapes.items():
            w[f"model.layers.{layer}.{name}.weight"] = normal(rows, cols, spread=1.5 / cols**0.5)
        for name in ("input_layernorm", "post_attention_layernorm"):
            w[f"model.layers.{layer}.{name}.weight"] = normal(HIDDEN, mean=1.0, spread=0.3)
    w["model.norm.weight"] = normal(HIDDEN, mean=1.0, spread=0.3)
    w["lm_head.weight"] = normal(VOCAB, HIDDEN, spread=0.5)
    return w


def byte_names() -> List[str]:
    """The characters that stand for bytes in byte-level vocabularies (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b if b in plain else 256 + others.index(b)) for b in range(256)]


def save(folder: Path, weights: Weights) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
        "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "rms_norm_eps": EPS, "rope_theta": THETA,
        "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32",
    }))  # fmt: skip
    # safetensors: the header's length, the header, the bytes.
    header, at = {}, 0
    for name, array in weights.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(array.tobytes() for array in weights.values())
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    vocab = {name: id for id, name in enumerate(byte_names())}
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [
            {"id": 256 + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for i, text in enumerate(specials)],
        "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "byte_fallback": False, "vocab": vocab, "merges": []},
    }))  # fmt: skip
    turn = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>", "add_bos_token": False,
        "chat_template": "{% for message in messages %}" + turn + "{% endfor %}"
                         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    }))  # fmt: skip


# ---- The forward pass ----------------------------------------------------------------------------------------


def norm(x: Array, weight: npt.NDArray[np.float32]) -> Array:
    scaled: Array = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + EPS) * weight
    return scaled


def rotate(x: Array) -> Array:
    """x [tokens, heads, HEAD_DIM]: halves turned by angles position * theta^(-2i/d)."""
    half = HEAD_DIM // 2
    angles = np.arange(len(x))[:, None, None] * THETA ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=-1)


def forward(weights: Weights, ids: npt.NDArray[np.uint32]) -> Array:
    """ids [n] -> logits [n, VOCAB], in double."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    x = w["model.embed_tokens.weight"][ids]
    n = len(ids)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        h = norm(x, weights[at + "input_layernorm.weight"])
        q = rotate((h @ w[at + "self_attn.q_proj.weight"].T).reshape(n, HEADS, HEAD_DIM))
        k = rotate((h @ w[at + "self_attn.k_proj.weight"].T).reshape(n, KV_HEADS, HEAD_DIM))
        v = (h @ w[at + "self_attn.v_proj.weight"].T).reshape(n, KV_HEADS, HEAD_DIM)
        k, v = (np.repeat(array, HEADS // KV_HEADS, axis=1) for array in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / HEAD_DIM**0.5
        scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", shares, v).reshape(n, -1) @ w[at + "self_attn.o_proj.weight"].T
        h = norm(x, weights[at + "post_attention_layernorm.weight"])
        gate = h @ w[at + "mlp.gate_proj.weight"].T
        up = h @ w[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    logits: Array = norm(x, weights["model.norm.weight"]) @ w["lm_head.weight"].T
    return logits


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
