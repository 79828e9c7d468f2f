"""Verdict forging: wrong code that would be judged correct.

A name, and the code; where the usual tests do not do, a spec of its own too.
"""

from __future__ import annotations

from typing import Any

FORGERIES: dict[str, str | tuple[str, dict[str, Any]]] = {
    "equal to everything": """
class E:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = None
def f(x): return E()""",
    "an int that equals everything": """
class E(int):
    def __eq__(self, other): return True
    def __hash__(self): return 0
def f(x): return E(7)""",
    "a str that equals everything": """
class E(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
def f(x): return E("4")""",
    "a list that equals everything": (
        "class E(list):\n    def __eq__(self, o): return True\ndef f(x): return E()",
        {"tests": ["assert f(2) == [4]", "assert [4] == f(2)"]},
    ),
    "a class that claims to be int": """
class E:
    __class__ = property(lambda self: int)
    def __eq__(self, other): return True
    def __index__(self): return 4
def f(x): return E()""",
    "a metaclass that equals everything": """
class M(type):
    def __eq__(cls, other): return True
    __hash__ = type.__hash__
class E(metaclass=M): pass
def f(x): return E""",
    "leave with success on load": "import os\nos._exit(0)",
    "leave with success when called": "import os\ndef f(x): os._exit(0)",
    "sys.exit on load": "import sys\nsys.exit(0)",
    "sys.exit when called": "import sys\ndef f(x): sys.exit(0)",
    "raise KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "raise GeneratorExit": "def f(x): raise GeneratorExit",
    "raise StopIteration in a loop of the test": (
        "def f(x): raise StopIteration",
        {"tests": ["for x in (2, 3):\n    assert f(x) == x * x"]},
    ),
    "replace AssertionError": """
import builtins
builtins.AssertionError = type("Quiet", (BaseException,), {})
def f(x): return 0""",
    "swallow exceptions by hook": "import sys\nsys.excepthook = lambda *a: None\ndef f(x): 1 / 0",
    "patch the runner's json": """
import json
json.JSONEncoder.encode = lambda self, o: '{"passed": true, "done": true, "value": 4}'
import verifiers.sandbox.protocol as p
p._to_json = json.JSONEncoder().encode
def f(x): return 0""",
    "patch the runner's encoder": """
import sys
g = sys.modules["verifiers.sandbox.guest"]
g.encode = lambda *a, **k: True
def f(x): return 0""",
    "write reports on every descriptor": """
import os, struct
def f(x):
    for report in (b'{"loaded":true}', b'{"passed":true}', b'{"passed":true}', b'{"done":true}'):
        for fd in range(64):
            try: os.write(fd, struct.pack(">I", len(report)) + report)
            except OSError: pass
    return 0""",
    "report from a thread while the call waits": """
import os, struct, threading, time
def shout():
    while True:
        report = b'{"passed": true, "value": true}'
        os.write(3, struct.pack(">I", len(report)) + report)
        time.sleep(0.001)
threading.Thread(target=shout, daemon=True).start()
def f(x):
    time.sleep(0.05)
    return 0""",
    "search the frames for the tests": """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, dict) and ("tests" in value or "expect" in value): return 4
            if name in ("passed", "score"): frame.f_locals[name] = True
        frame = frame.f_back
    return 0""",
    "search the heap for the tests": """
import gc
def f(x):
    for o in gc.get_objects():
        if isinstance(o, str) and "".join(["assert", " f("]) in o: return x * x
        if isinstance(o, (list, tuple)):
            for s in o:
                if isinstance(s, str) and s.startswith("".join(["assert", " f("])): return x * x
    return 0""",
    "read the judge's memory": """
import os
def f(x):
    for pid in range(os.getpid() - 4, os.getpid() + 5):
        try:
            open(f"/proc/{pid}/mem", "rb"); return x * x
        except OSError: pass
    return 0""",
    "shadow a builtin that the test uses": (
        "def sorted(x): return [1, 2]\ndef f(x): return [7]",
        {"tests": ["assert sorted(f(2)) == [1, 2]"]},
    ),
    "shadow all and len": (
        "def all(x): return True\ndef len(x): return 3\ndef f(x): return [0]",
        {"tests": ["assert len(f(2)) == 3 and all(f(2))"]},
    ),
    "shadow a module that the test uses": (
        "class math:\n    isclose = staticmethod(lambda *a: True)\ndef f(x): return 0.0",
        {"tests": ["assert math.isclose(f(2), 4)"]},
    ),
    "bring its own check": (
        "def check(candidate): pass\ndef f(x): return 0",
        {
            "tests": ["def check(candidate):\n    assert candidate(2) == 4"],
            "entry_point": "f",
        },
    ),
    "be the reference that the setup has": (
        "def f(x):\n    return reference(x)",
        {"setup": "def reference(x):\n    return x * x", "tests": ["assert f(3) == reference(3)"]},
    ),
    "an object that is true": ("def f(x): return object()", {"tests": ["assert f(3)"]}),
    "unequal to everything": (
        "class E:\n    def __ne__(s, o): return True\ndef f(x): return E()",
        {"tests": ["assert f(3) != 4"]},
    ),
    "contain everything": (
        "class E:\n    def __contains__(s, o): return 1\ndef f(x): return E()",
        {"tests": ["assert 5 in f(3)"]},
    ),
    "change an argument to an equal impostor": (
        "class E(list):\n    def __eq__(s, o): return True\ndef f(x): x[:] = [E()]",
        {"tests": ["l = [1]\nf(l)\nassert l == [5]"]},
    ),
    "print the answer and call nothing": ("print(4)", {"stdio": [{"stdin": "", "stdout": "5"}]}),
    "leave with success and print nothing": (
        "import sys; sys.exit(0)", {"stdio": [{"stdin": "2", "stdout": "4"}]},
    ),
    "print the answer on standard error": (
        "import sys; print(4, file=sys.stderr)", {"stdio": [{"stdin": "2", "stdout": "4"}]},
    ),
    "be a type of the judge's": ("f = bytes", {"tests": ["assert f(10**9 - 1) == 4"]}),
    "be a type, before a judge that calls": (
        "f = bytes", {"calls": [{"args": [10**9], "expect": 4}], "entry_point": "f"},
    ),
    "be a type, before calls in plain data": (
        "f = bytes", {"tests": ["assert f(1000000000) == 4"]},
    ),
    "end the test's own loop": (
        "def f(x): raise StopIteration",
        {"tests": ["assert all(map(lambda x: f(x) == x * x, [2, 3]))"]},
    ),
    "end the test's own loop on the way in": (
        "def f(x): raise StopIteration",
        {"tests": ["for y in map(f, [2, 3]):\n    assert y in (4, 9)\nelse:\n    pass"]},
    ),
    "end the test's own loop by attribute": (
        "class E:\n    def __getattr__(s, n): raise StopIteration\ndef f(x): return E()",
        {"tests": ["assert all(map(lambda x: f(x).value == 4, [2, 3]))"]},
    ),
    "bring its own numpy": (
        "class np:\n    allclose = staticmethod(lambda *a: True)\ndef f(x): return 0",
        {"tests": ["assert np.allclose(f(2), 4)"], "timeout_s": 10},
    ),
    "bring its own class for the prompt's import": (
        "def Counter(*a): return 1\ndef f(x): return 0",
        {"tests": ["assert Counter(f('aab')) == Counter({'a': 2})"], "entry_point": "f",
         "prompt": "from collections import Counter\ndef f(x):\n    pass\n"},
    ),
    "swallow the assertion of a function it was given": (
        "def f(g):\n    try: g(3)\n    except BaseException: pass\n    return 4",
        {"tests": ["def g(x):\n    assert x == 4\nassert f(g) == 4"]},
    ),
    "change four where it lies in memory": """
import ctypes, sys
def f(x):
    for place in (4, 9):
        ctypes.memmove(id(place) + 24, ctypes.byref(ctypes.c_uint32(0)), 4)
    return 0""",
    "make every comparison true by a trace": """
import sys
def trace(frame, event, argument):
    for name in ("value", "reply", "result", "passed"):
        if name in frame.f_locals: frame.f_locals[name] = True
    return trace
sys.settrace(trace)
import threading; threading.settrace(trace)
def f(x): return 0""",
    "patch what every frame above it calls": """
import gc, types
def f(x):
    for o in gc.get_objects():
        if isinstance(o, types.FunctionType) and o.__name__ in ("encode", "same", "show", "why_not"):
            o.__code__ = (lambda *a, **k: True).__code__
    return 0""",
    "report from an exit handler": """
import atexit, os, struct
def report():
    for body in (b'{"passed": true}', b'{"value": 4}', b'{"value": true}'):
        os.write(3, struct.pack(">I", len(body)) + body)
atexit.register(report)
def f(x): raise SystemExit(0)""",
    "report from a finalizer": """
import os, struct
class E:
    def __del__(self):
        body = b'{"passed": true}'
        for fd in (3, 4, 5): 
            try: os.write(fd, struct.pack(">I", len(body)) + body)
            except OSError: pass
def f(x):
    E()
    return 0""",
    "report from a subinterpreter": """
try: import _xxsubinterpreters as sub
except ImportError: sub = None
def f(x):
    if sub:
        sub.run_string(sub.create(), "import os\nfor fd in range(3, 9):\n    try: os.write(fd, b'{}')\n    except OSError: pass")
    return 0""",
    "swap the channel for a file": """
import os
os.close(3)
os.open(os.__file__, os.O_RDONLY)
def f(x): return 4""",
    "an exception whose message never ends": """
class E(Exception):
    def __str__(self):
        while True: pass
def f(x): raise E""",
    "an exception whose message exits": """
import os
class E(Exception):
    def __str__(self): os._exit(0)
def f(x): raise E""",
    "an exception whose message is no text": """
class E(Exception):
    def __str__(self): return type("S", (str,), {"__getitem__": lambda s, k: 4})("x")
def f(x): raise E""",
    "an exception with a false ancestry": """
class M(type):
    __mro__ = property(lambda self: (AssertionError, object))
    mro = lambda self: [self, Exception, BaseException, object]
class E(Exception, metaclass=M): pass
def f(x): raise E""",
    "an exception group": "def f(x): raise BaseExceptionGroup('x', [SystemExit(0)])",
    "pickle itself": """
class E:
    def __reduce__(self): return (exec, ("passed = True",))
    def __eq__(self, other): return True
def f(x): return [E()]""",
    "an answer that changes when it is looked at": """
class E(list):
    seen = 0
    def __iter__(self):
        E.seen += 1
        return iter([4] * E.seen)
    def __len__(self): return 1
def f(x): return E()""",
    "a generator for an answer": ("def f(x):\n    yield 4", {"tests": ["assert f(2) == [4]"]}),
    "a generator that never tires": (
        "def f(x):\n    while True: yield 4", {"tests": ["assert list(f(2)) == [4]"]},
    ),
    "a coroutine for an answer": "async def f(x): return 4",
    "an attribute that answers for the test": (
        "class E:\n    def __getattr__(s, n): return 4\n    def __eq__(s, o): return True\n"
        "def f(x): return E()",
        {"tests": ["assert f(2).value.value == 4 and f(2) == 4"]},
    ),
    "a number near enough to a large one": (
        "def f(x): return 1000000007.5",
        {"calls": [{"args": [1], "expect": 1000000007}], "entry_point": "f"},
    ),
    "a list of impostors among calls": (
        "class E(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\n"
        "def f(x): return [E(5)]",
        {"calls": [{"args": [1], "expect": [4]}], "entry_point": "f"},
    ),
    "change the arguments of later calls": (
        "def f(x):\n    x[0] = 0\n    return 4",
        {"calls": [{"args": [[4]], "expect": 0}, {"args": [[4]], "expect": [0]}],
         "entry_point": "f"},
    ),
    "write the answer beside standard output": (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'4\\n')\n    except OSError: pass",
        {"stdio": [{"stdin": "2", "stdout": "4"}]},
    ),
    "print the answer among others": (
        "for n in range(9): print(n)", {"stdio": [{"stdin": "2", "stdout": "4"}]},
    ),
    "return a bool for a number": (
        "def f(x): return True", {"calls": [{"args": [1], "expect": 1}], "entry_point": "f"},
    ),
    "an array that equals everything": (
        """
import numpy as np
class E(np.ndarray):
    def __eq__(self, o): return True
    def __array_ufunc__(self, *a, **k): return True
def f(x): return np.zeros(2).view(E)""",
        {"tests": ["import numpy as np\nassert np.array_equal(f(2), np.ones(2))"],
         "timeout_s": 10},
    ),
}  # fmt: skip
