"""An adapter in PEFT's two files, written by hand after PEFT's and safetensors' sources (fixtures/peft/), and PyTorch's numbers for it.
Written with torch 1.13. Run: python3 test/reference/peft.py"""
import json, struct
from pathlib import Path
import numpy as np
import torch

here = Path(__file__).parent / "fixtures" / "peft"
here.mkdir(exist_ok=True)
torch.manual_seed(0)

# y = v(tanh(q(x))), both adapted: rank 2 and 3 (rank_pattern), alpha 6 and 4 (alpha_pattern).
q, v = torch.nn.Linear(6, 5), torch.nn.Linear(5, 4, bias=False)
rank, alpha = {"encoder.q": 2, "encoder.v": 3}, {"encoder.q": 6, "encoder.v": 4}
layers = {"encoder.q": q, "encoder.v": v}
factors = {n: (torch.randn(rank[n], l.in_features), torch.randn(l.out_features, rank[n])) for n, l in layers.items()}

def adapted(name, x):
    a, b = factors[name]
    return layers[name](x) + alpha[name] / rank[name] * (x @ a.T) @ b.T

x = torch.randn(7, 6)
with torch.no_grad():
    merged = {n: l.weight + alpha[n] / rank[n] * factors[n][1] @ factors[n][0] for n, l in layers.items()}
    np.savez(here / "expected.npz", x=x.numpy(), q=q.weight.numpy(), bias=q.bias.numpy(), v=v.weight.numpy(),
             before=v(torch.tanh(q(x))).numpy(), after=adapted("encoder.v", torch.tanh(adapted("encoder.q", x))).numpy(),
             merged_q=merged["encoder.q"].numpy(), merged_v=merged["encoder.v"].numpy())

# safetensors: all F32, so by name; header padded with spaces to 8 bytes.
tensors = sorted((f"base_model.model.{n}.lora_{ab}.weight", t.numpy()) for n, f in factors.items() for ab, t in zip("AB", f))
header, at = {"__metadata__": {"format": "pt"}}, 0
for name, t in tensors:
    header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
    at += t.nbytes
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
(here / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.astype("<f4").tobytes() for _, t in tensors))
config = {
    "alpha_pattern": {"encoder.v": 4}, "auto_mapping": None, "base_model_name_or_path": "base.onnx", "bias": "none", "fan_in_fan_out": False,
    "inference_mode": True, "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None, "lora_alpha": 6,
    "lora_dropout": 0.05, "modules_to_save": None, "peft_type": "LORA", "r": 2, "rank_pattern": {"encoder.v": 3}, "revision": None,
    "target_modules": ["encoder.q", "encoder.v"], "task_type": None, "use_rslora": False,
}
(here / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
