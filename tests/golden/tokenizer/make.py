#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the golden files of this folder with Hugging Face's tokenizers library (see README.md).

Trains small tokenizers of each kind on the sentences below, tokenizes a list of awkward texts with
them, and writes one JSON file a tokenizer: {"tokenizer", "config", "cases": [{"text", "ids", "plain",
"decoded"}]}. "ids" finds special tokens in the text, "plain" does not."""
import copy
import json
import sys

import jinja2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = CONTRACTIONS + (r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SENTENCES = [
    "The quick brown fox doesn't jump over the lazy dog; it's tired, and they've walked 1234 miles.",
    "A small model learns to count: one, two, three, 4, 55, 666, 7777 and so on.",
    "In the morning the river was quiet, and the old man said that he would not go fishing today.",
    "for (int i = 0; i < n; i++) {\n    sum += values[i];\n}\nreturn sum;\n",
    "Weights are rounded to four bits, and the error of the rounding goes into the next column.",
    "She said: \"I'll be there at 10:30, if we'd leave now.\" He didn't answer.",
    "Müde Vögel schlafen auf der Brücke über den Fluß. Où est la bibliothèque déjà fermée ?",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "今日は天気がいいですね。私は川の近くを歩きました。",
    "The gradient of the loss with respect to the scale is a sum over the group.",
    "What is the difference between the two? The first is fast, the second is small.",
    "\tindented\twith tabs\n\n\nand three   spaces   between   words",
]

TEXTS = [
    "", " ", "  ", "a", "\n", "\t", "\r\n", "Hello, world!", " Hello", "Hello ", "  Hello  ",
    "The quick brown fox", "don't won't I'LL HE'S we'Ve they'd", "can 't 's'd", "'\u017f 'S 'Ll",
    "1", "12", "123", "1234567890", "3.14159 and 1,000,000", "x2y3 4z", "٣٤٥ ⅷ ½ ²", "v1.2.3-beta+45",
    "a\nb", "a\n\nb", "a \n b", "a\r\n\r\n  b", "end\n", "end \n\n", "\n\n\nstart", "   \n   \n",
    "tabs\t\there\t", "many          spaces", "trailing spaces     ", "nb\u00a0sp \u2003em \u3000ideographic",
    "\u180emongolian \u180e \u200bzero width \u0085 nel \u001c fs", "line\u2028sep\u2029para", "\x0b\x0c vertical",
    "caf\u00e9 cafe\u0301 \u1e69 s\u0323\u0307 s\u0307\u0323", "\u212b \ufb01 \u2460 \uff21 \u0130stanbul \u01c5",
    "\uac00 \u1100\u1161 \u1100\u1161\u11a8", "q\u0307\u0323\u0327\u0301\u0316\u0315\u0300 long run",
    "emoji 😀 👩‍👩‍👧 🇩🇪 👍🏽 ❤️", "漢字かな交じり文。テスト", "Съешь ещё", "שלום עולם مرحبا",
    "नमस्ते दुनिया", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈", "\u0000 nul \u0000\u0000", "a\u0000b", "\u007f \u0080 \ufeff bom", "\ufffd \uffff \U0010ffff",
    "<|im_start|>user\nHi<|im_end|>\n", "text<s>more</s> <unk> end", "<s>", " <s> ", "<|im_start|><|im_start|>",
    "<|im_", "<tool>x</tool> <tool >", "a MASK b MASKED MASK", "  MASK  MASK\n x", "wordlstrip  LS x", "RS   y RSRS z",
    "▁already ▁▁ marked▁", "a▁b", "<0x41> <0x0A>", "__init__(self, *args) -> None: # comment", "if(x!=y&&z>=3){return;}",
    "https://example.org/a?b=c&d=%20#e", "name@host.tld", "$100 €200 £3", "…—–‘’“”«»", "A" * 70, "ab" * 60, " " * 40 + "x",
    "!" * 33 + "?" * 5, "the the the the", "The rounding of the weights, isn't it?", "UPPER lower MiXeD CamelCaseWord snake_case",
]


def train(pre, alphabet, size, normalizer=None, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def byte_level(pre, decoder=None, normalizer=None, size=520, ignore_merges=False):
    tokenizer = train(pre, pre_tokenizers.ByteLevel.alphabet(), size, normalizer)
    tokenizer.model.ignore_merges = ignore_merges
    tokenizer.decoder = decoder or decoders.ByteLevel()
    return tokenizer


def plain_bytes():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt2():
    t = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    t.add_special_tokens([AddedToken("<|im_start|>", normalized=False), AddedToken("<s>", normalized=False)])
    return t


def gpt2_prefix():
    t = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    t.add_special_tokens([AddedToken("<|im_start|>", normalized=False)])
    t.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("MASK", single_word=True, lstrip=True),
                  AddedToken("LS", lstrip=True, normalized=False), AddedToken("RS", rstrip=True, normalized=False)])
    return t


def llama3():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), plain_bytes()])
    t = byte_level(pre, ignore_merges=True)
    t.add_special_tokens(["<s>", "<|im_start|>", "<|im_end|>"])
    t.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                          special_tokens=[("<s>", t.token_to_id("<s>"))])
    return t


def qwen2():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), plain_bytes()])
    t = byte_level(pre, normalizer=normalizers.NFC())
    t.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    t.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("</tool>", normalized=True)])
    return t


def smollm():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t = byte_level(pre)
    t.add_special_tokens(["<|im_start|>", "<|im_end|>", "<s>", "<|start_header_id|>", "<|end_header_id|>",
                          "<|eot_id|>"])
    return t


def splits():
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[\r\n]"), "isolated"),
        pre_tokenizers.Split(Regex(r"\s?\p{L}+"), "isolated"),
        pre_tokenizers.Split(Regex(r"\s+$"), "isolated"),
        pre_tokenizers.Split("e", "merged_with_previous"),
        pre_tokenizers.Split("o", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[.!?]"), "contiguous"),
        pre_tokenizers.Split(Regex(r"\d+"), "merged_with_next", invert=True),
        pre_tokenizers.Split("#", "removed"),
        pre_tokenizers.Digits(individual_digits=False), plain_bytes()])
    t = byte_level(pre, normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(),
                                                         normalizers.Replace(Regex(r"x+"), "xx"),
                                                         normalizers.Strip(True, True)]))
    t.add_special_tokens(["<s>"])
    return t


def sentencepiece():
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=480, special_tokens=specials,
                                                         limit_alphabet=60, show_progress=False))
    spec = json.loads(t.to_str())
    spec["pre_tokenizer"] = None
    spec["added_tokens"] = spec["added_tokens"][:3]
    t = Tokenizer.from_str(json.dumps(spec))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t


def metaspace(scheme, split):
    base = json.loads(sentencepiece().to_str())
    base["normalizer"] = {"type": "NFC"}
    base["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    base["decoder"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    base["post_processor"] = None
    base["model"]["byte_fallback"] = False
    base["model"]["fuse_unk"] = scheme == "always"
    for byte in range(256):
        del base["model"]["vocab"]["<0x%02X>" % byte]
    return Tokenizer.from_str(json.dumps(base))


TOKENIZERS = {
    "gpt2": (gpt2, {"bos_token": "<s>", "eos_token": "<|im_start|>"}),
    "gpt2_prefix": (gpt2_prefix, None),
    "llama3": (llama3, {"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}}),
    "qwen2": (qwen2, {"bos_token": None, "eos_token": "<|im_end|>", "add_bos_token": False}),
    "smollm": (smollm, None),
    "splits": (splits, None),
    "sentencepiece": (sentencepiece, {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}),
    "metaspace_first": (lambda: metaspace("first", False), None),
    "metaspace_always": (lambda: metaspace("always", True), None),
}


def write(folder, name, make, config):
    tokenizer = make()
    plain = copy.deepcopy(tokenizer)
    plain.encode_special_tokens = True
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, "ids": ids, "plain": plain.encode(text, add_special_tokens=False).ids,
                      "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    spec = json.loads(tokenizer.to_str())
    spec["model"]["merges"] = [m if i % 2 else (" ".join(m)) for i, m in enumerate(spec["model"]["merges"])]
    with open(f"{folder}/{name}.json", "w", encoding="utf-8") as out:
        out.write('{"config": %s,\n"tokenizer": %s,\n"cases": [\n' % (json.dumps(config), json.dumps(spec)))
        out.write(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]}\n")


# Chat templates in the manner of the two families; what Jinja makes of them is the reference.
CHATML_LOOP = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']"
               " + '<|im_end|>' + '\\n'}}{% endfor %}")
CHATML_ANSWER = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
LLAMA3_ANSWER = ("{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
                 "{% endif %}")
TEMPLATES = {
    "chatml": CHATML_LOOP + CHATML_ANSWER,
    "chatml_default_system":
        "{# it's a comment #}{% if messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou\\'re a small model.<|im_end|>\\n' }}{% endif %}" + CHATML_LOOP + CHATML_ANSWER,
    "chatml_raw_default":
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n'"
        " + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "chatml_bos_trim": "{{ bos_token }}" + CHATML_LOOP.replace("message['content']", "(message['content'] | trim)")
        + CHATML_ANSWER,
    "chatml_thinking": CHATML_LOOP + CHATML_ANSWER.replace("assistant\\n", "assistant\\n<think>\\n"),
    "llama3":
        "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}" + LLAMA3_ANSWER,
    "llama3_dates":
        "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}"
        "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] | trim %}"
        "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = \"\" %}{%- endif %}"
        "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}"
        "{{- \"Cutting Knowledge Date: December 2023\\n\" }}{{- \"Today Date: \" + date_string + \"\\n\\n\" }}"
        "{{- system_message }}{{- \"<|eot_id|>\" }}{%- for message in messages %}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + "
        "'<|eot_id|>' }}{%- endfor %}" + LLAMA3_ANSWER,
}
CONVERSATIONS = [
    [("user", "Hello!")],
    [("system", "Be brief."), ("user", "What is 12 + 30?")],
    [("user", "\n  indented \n"), ("assistant", "Yes.\n\n"), ("user", "and\tthen? \u3000")],
    [("system", ""), ("user", ""), ("assistant", "caf\u00e9"), ("user", "漢字 😀")],
]


def write_chat(folder):
    cases = []
    for name, template in TEMPLATES.items():
        compiled = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
        for turns in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in turns]
            text = compiled.render(messages=messages, add_generation_prompt=True, bos_token="<s>")
            cases.append({"name": name, "template": template, "turns": messages, "text": text})
    with open(f"{folder}/chat.json", "w", encoding="utf-8") as out:
        out.write('{"cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]}\n")


if __name__ == "__main__":
    for name, (make, config) in TOKENIZERS.items():
        write(sys.argv[1] if len(sys.argv) > 1 else ".", name, make, config)
    write_chat(sys.argv[1] if len(sys.argv) > 1 else ".")
