"""Write a trained classical network to a file that some other program runs.

The functions here read safetensors, JSON and ONNX files, and no such file runs code when they do.
They write .pt2 files too but never read them: PyTorch's reader of that format can run code.
"""

from qtlite.export.compressed import load_compressed as load_compressed
from qtlite.export.compressed import save_compressed as save_compressed
from qtlite.export.from_pixels import FromPixels as FromPixels
from qtlite.export.int8 import quantise_onnx as quantise_onnx
from qtlite.export.json_file import load_json as load_json
from qtlite.export.json_file import save_json as save_json
from qtlite.export.onnx_file import save_onnx as save_onnx
from qtlite.export.safetensors_file import load_safetensors as load_safetensors
from qtlite.export.safetensors_file import save_safetensors as save_safetensors
from qtlite.export.seal import check_seal as check_seal
from qtlite.export.torch_export_file import save_torch_export as save_torch_export
