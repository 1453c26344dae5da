#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checkpoints that `lowbit export` makes, dequantized by the packages that they are made for.

    LOWBIT=build/lowbit python tests/interop/packages.py MODEL

Needs torch and safetensors; each kind is skipped where its own package is not installed: gguf, compressed-tensors,
auto-round, gptqmodel. The reference is `lowbit export --to safetensors --dtype f32` of the same checkpoint. Prints a
line for each kind and format; exits 1 where a weight differs by more than the rounding of a 16-bit float.
"""
import json
import os
import subprocess
import sys
import tempfile

lowbit = os.environ.get("LOWBIT", "build/lowbit")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def run(*arguments):
    done = subprocess.run([lowbit, *arguments, "-q"], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def load(folder):
    from safetensors.torch import load_file

    return load_file(os.path.join(folder, "model.safetensors"))


def layers(tensors, suffix):
    return sorted(name[: -len(suffix)] for name in tensors if name.endswith(suffix))


def part(tensors, layer):
    return {name[len(layer) + 1 :]: value for name, value in tensors.items() if name.startswith(layer + ".")}


def compressed(folder, quantization):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    tensors = load(folder)
    for group in quantization["config_groups"].values():
        scheme = QuantizationScheme(**{k: v for k, v in group.items()})
        reader = BaseCompressor.get_value_from_registry(group["format"])
        for layer in group["targets"]:
            state = part(tensors, layer)
            if "weight_global_scale" not in state and state["weight_scale"].dtype.is_floating_point:
                state["weight_scale"] = state["weight_scale"].float()
            yield layer, reader.decompress(state, scheme)["weight"].float()


def auto_round(folder, quantization):
    import torch

    tensors = load(folder)
    if "auto_gptq" in quantization["packing_format"]:
        from auto_round_extension.torch.qlinear_torch_zp import QuantLinear
    else:
        from auto_round_extension.torch.qlinear_torch import QuantLinear
    for layer in layers(tensors, ".qweight"):
        state = part(tensors, layer)
        outputs = state["qweight"].shape[1]
        bits = state["qzeros"].shape[1] * 32 // outputs
        inputs = state["qweight"].shape[0] * 32 // bits
        group = quantization["group_size"] if quantization["group_size"] > 0 else inputs
        module = QuantLinear(bits, group, inputs, outputs, False)
        module.qweight, module.qzeros, module.scales = state["qweight"], state["qzeros"], state["scales"].float()
        yield layer, module(torch.eye(inputs)).t().float()


def gptqmodel(folder, quantization):
    import torch
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module

    tensors = load(folder)
    for layer in layers(tensors, ".qweight"):
        state = part(tensors, layer)
        outputs = state["qweight"].shape[1]
        inputs = state["g_idx"].shape[0]
        bits = state["qweight"].shape[0] * 32 // inputs
        module = TorchLinear(bits=bits, group_size=quantization["group_size"], sym=quantization["sym"],
                             desc_act=False, in_features=inputs, out_features=outputs, bias=False,
                             pack_dtype=torch.int32, register_buffers=True)
        for name in ("qweight", "qzeros", "scales", "g_idx"):
            setattr(module, name, state[name].clone())
        if quantization["checkpoint_format"] == "gptq":
            convert_gptq_v1_to_v2_format_module(module, bits=bits, pack_dtype=torch.int32)
        module.post_init()
        module.eval()
        yield layer, module.dequantize_weight().t().float()


def awq(folder, quantization):
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    tensors = load(folder)
    for layer in layers(tensors, ".qweight"):
        state = part(tensors, layer)
        inputs = state["qweight"].shape[0]
        group = quantization["group_size"] if quantization["group_size"] > 0 else inputs
        weight = dequantize_gemm(state["qweight"], state["qzeros"], state["scales"].float(), 4, group)
        yield layer, weight.t().float()


def gguf(path, heads):
    import numpy
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize

    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj"}
    tensors = {t.name: t for t in GGUFReader(path).tensors}
    for name, tensor in tensors.items():
        pieces = name.split(".")
        if pieces[0] != "blk" or pieces[2] not in names or pieces[3] != "weight":
            continue
        values = dequantize(tensor.data, tensor.tensor_type)
        scale = tensors.get(name[: -len("weight")] + "scale")
        if scale is not None:
            values = values * numpy.float32(scale.data[0])
        count = heads.get(pieces[2])
        if count: # undo Llama's interleaving
            values = values.reshape(count, -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        yield f"model.layers.{pieces[1]}.{names[pieces[2]]}", torch.from_numpy(values.copy()).float()


def compare(name, made, reference):
    worst, count = 0.0, 0
    for layer, weight in made:
        want = reference[layer + ".weight"].float()
        assert weight.shape == want.shape, (layer, weight.shape, want.shape)
        worst = max(worst, ((weight - want).abs().max() / want.abs().max()).item())
        count += 1
    good = count > 0 and worst <= 2.0**-8
    print(f"{name:46} {count:4} layers, largest difference {worst:.2e} of the largest weight{'' if good else '  DIFFERS'}",
          flush=True)
    return good


kinds = {"gptq": gptqmodel, "awq": awq, "auto-round": auto_round, "compressed-tensors": compressed, "gguf": None}
formats = ["int4-g32", "int4-g32-asym", "int2-g32", "int3-g64", "int8-g32", "int4-row", "int6-g32", "mxint8", "mxfp4",
           "nvfp4", "mxfp8-e4m3"]


def main():
    model = sys.argv[1]
    wanted = sys.argv[2:] or list(kinds)
    config = json.load(open(os.path.join(model, "config.json")))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    failed = False
    with tempfile.TemporaryDirectory() as work:
        for form in os.environ.get("FORMATS", " ".join(formats)).split():
            checkpoint, floats = os.path.join(work, form), os.path.join(work, form + "-f32")
            run("quantize", model, "-o", checkpoint, "--format", form, "--method", "rtn")
            run("export", checkpoint, "--to", "safetensors", "--dtype", "f32", "-o", floats)
            reference = load(floats)
            for kind in wanted:
                out = os.path.join(work, form + "-" + kind)
                extra = ["--zeros", "v2"] if kind == "gptq" and "asym" in form else []
                status, said = run("export", checkpoint, "--to", kind, "-o", out, *extra)
                label = f"{form} as {kind} {' '.join(extra)}"
                if status != 0:
                    print(f"{label:46} refused: {said.strip().split(': ', 1)[-1].split(';')[0][:100]}")
                    continue
                try:
                    if kind == "gguf":
                        made = gguf(out, heads)
                    else:
                        quantization = json.load(open(os.path.join(out, "config.json")))["quantization_config"]
                        made = kinds[kind](out, quantization)
                    failed = not compare(label, made, reference) or failed
                except ImportError as problem:
                    print(f"{label:46} skipped: {problem}")
    sys.exit(1 if failed else 0)


main()
