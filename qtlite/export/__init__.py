"""Write a trained classical network to a file that another program runs, and read it again.

safetensors, JSON and ONNX files can be read, compressed and int8 ones among them. Reading such a
file never runs code from it and never opens another file. Memory and time are limited before they
are spent. A .pt2 file is written but never read: PyTorch's reader of that format can run code.
"""

from qtlite.export.circuits import circuit_gates as circuit_gates
from qtlite.export.circuits import describe_circuit as describe_circuit
from qtlite.export.circuits import network_from_counts as network_from_counts
from qtlite.export.circuits import to_openqasm as to_openqasm
from qtlite.export.circuits import to_pennylane as to_pennylane
from qtlite.export.compressed import load_compressed as load_compressed
from qtlite.export.compressed import save_compressed as save_compressed
from qtlite.export.formats import FORMATS as FORMATS
from qtlite.export.formats import Format as Format
from qtlite.export.formats import Trained as Trained
from qtlite.export.formats import format_of as format_of
from qtlite.export.from_pixels import FromPixels as FromPixels
from qtlite.export.int8 import quantise_onnx as quantise_onnx
from qtlite.export.json_file import load_json as load_json
from qtlite.export.json_file import save_json as save_json
from qtlite.export.onnx_file import open_onnx as open_onnx
from qtlite.export.onnx_file import save_onnx as save_onnx
from qtlite.export.safetensors_file import load_safetensors as load_safetensors
from qtlite.export.safetensors_file import save_safetensors as save_safetensors
from qtlite.export.seal import check_seal as check_seal
from qtlite.export.torch_export_file import save_torch_export as save_torch_export
