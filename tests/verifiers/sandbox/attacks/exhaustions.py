"""Resource exhaustion: code that uses up time, memory, descriptors or threads."""

from __future__ import annotations

from typing import Any

EXHAUSTIONS: dict[str, str | tuple[str, dict[str, Any]]] = {
    "loop for ever": "def f(x):\n    while True: pass",
    "sleep for ever": "import time\ndef f(x): time.sleep(1000)",
    "loop on load": "while True: pass",
    "ignore every signal": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
def f(x):
    while True: pass""",
    "one huge allocation": "def f(x): return len(bytearray(10**12))",
    "grow a list": "def f(x):\n    a = [0]\n    while True: a += a",
    "touch all memory": "def f(x):\n    k = []\n    while True: k.append(bytearray(10**7))",
    "many threads": """
import threading, time
def f(x):
    while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()""",
    "fork bomb": "import os\ndef f(x):\n    while True: os.fork()",
    "endless recursion": "def f(x): return f(x)",
    "recursion without a limit": """
import sys
sys.setrecursionlimit(10**9)
def f(x): return f([x])""",
    "a huge power": "def f(x): return 9 ** 9 ** 9",
    "backtrack for ever": "import re\ndef f(x): return re.match('(a+)+$', 'a' * 60 + 'b')",
    "open many files": "import os\ndef f(x):\n    k = []\n    while True: k.append(open(os.__file__))",
    "print for ever": "def f(x):\n    while True: print('x' * 1000)",
    "print for ever to standard output": (
        "while True: print('x' * 1000)", {"stdio": [{"stdin": "", "stdout": "1"}]}
    ),
    "return a huge text": "def f(x): return 'x' * 10**8",
    "return a huge list": "def f(x): return list(range(10**7))",
    "return a huge integer": "def f(x): return 1 << 10**8",
    "return something deep": "def f(x):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a",
    "return itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "inflate a bomb": """
import zlib
def f(x): return len(zlib.decompress(zlib.compress(b'0' * 10**8) * 9)) + len(b'0' * 10**10)""",
    "threads of the smallest stack": """
import threading, time
threading.stack_size(32768)
def f(x):
    while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()""",
    "answer a byte at a time": """
import os, struct, time
def f(x):
    for byte in struct.pack(">I", 2**15) + b" " * 2**15:
        os.write(3, bytes([byte]))
        time.sleep(0.01)""",
    "answer and go on in a thread": """
import threading
def spin():
    while True: pass
for _ in range(4): threading.Thread(target=spin, daemon=True).start()
def f(x): return 0""",
    "a text that takes long to show": "def f(x): return [[0] * 50] * 400",
    "a representation without end": (
        "class E:\n    def __repr__(self): return repr(self)\ndef f(x): return E()",
        {"tests": ["assert repr(f(2)) == '4'"]},
    ),
    "a length without measure": (
        "class E:\n    def __len__(self): return 2**62\n    def __getitem__(self, i): return 4\n"
        "def f(x): return E()",
        {"tests": ["assert len(list(f(2))) == 4"]},
    ),
    "a range without measure": (
        "def f(x): return range(10**15)", {"tests": ["assert sum(f(2)) == 4"]},
    ),
    "a range to be sorted": (
        "def f(x): return range(10**15)", {"tests": ["assert sorted(f(2)) == [4]"]},
    ),
    "a decimal to be made whole": (
        "from decimal import Decimal\ndef f(x): return Decimal('1E+999999999')",
        {"tests": ["assert int(f(2)) == 4"]},
    ),
    "an integer to be multiplied": (
        "def f(x): return 1 << 2**19", {"tests": ["assert f(2) * f(2) * f(2) == 4"]},
    ),
    "never read the input": (
        "import time\ntime.sleep(1000)", {"stdio": [{"stdin": "x" * 2**20, "stdout": "4"}]},
    ),
    "flood standard error": (
        "import sys\nwhile True: print('x' * 1000, file=sys.stderr)",
        {"stdio": [{"stdin": "", "stdout": "4"}]},
    ),
    "close its output and go on": (
        "import os\nos.close(1); os.close(2)\nwhile True: pass",
        {"stdio": [{"stdin": "", "stdout": "4"}]},
    ),
    "hand over objects for ever": (
        "def f(x):\n    while True: yield object()", {"tests": ["assert list(f(1)) == [4]"]}
    ),
    "call back for ever": (
        "def f(g):\n    while True: g(1)", {"tests": ["assert f(lambda x: x) == 4"]}
    ),
    "call back ever deeper": (
        "def f(g): return g(g)", {"tests": ["h = lambda g: f(h)\nassert f(h) == 4"]}
    ),
    "an endless iterator": (
        "def f(x):\n    while True: yield 1", {"tests": ["assert sum(f(1)) == 1"]}
    ),
    "deep source": "(" * 5000 + ")" * 5000,
    "crash the interpreter": "import ctypes\ndef f(x): return ctypes.string_at(0)",
    "abort": "import os\ndef f(x): os.abort()",
}  # fmt: skip
