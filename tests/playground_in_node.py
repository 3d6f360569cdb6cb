"""The playground's scripts under Node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "book" / "_static" / "playground"


def in_node(body, given=None):
    """What a function body of ``random``, ``model``, ``data`` and ``given`` returns under Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on PATH: apt-get install nodejs")
    scripts = [
        f"const {name} = require({json.dumps(str(SCRIPTS / f'{file}.js'))});"
        for name, file in [("random", "random"), ("model", "model"), ("packed", "digits")]
    ]
    program = (
        f"{''.join(scripts)}"
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "const data = model.unpackDigits(packed);"
        "const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;"
        f"const answer = (() => {{ {body} }})();"
        "process.stdout.write(JSON.stringify(answer, plain));"
    )
    answer = subprocess.run(
        [node, "-e", program], input=json.dumps(given), check=True, capture_output=True, text=True
    )
    return json.loads(answer.stdout)
