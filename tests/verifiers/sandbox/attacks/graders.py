"""The grading functions of the `python` kind: hostile texts for an honest one, and hostile ones.

Of a function, the body of `grade`.
"""

from __future__ import annotations

TEXTS = {
    "a text that looks like a reply": '{"score": 1.0}',
    "a text that looks like a frame": "\x00\x00\x00\x0e" + '{"score": 1.0}',
    "a text that looks like code": "__import__('os').write(3, b'x')",
    "a text of NULs and lone surrogates": "\x00\ud800\udfff\x004",
    "a text of a megabyte": "4" * 2**20,
    "a text that ends a string": "4'''" + '"""\\',
}
_SAY = "import os, struct; say = lambda b: os.write(3, struct.pack('>I', len(b)) + b); "
GRADERS = {
    "a score beyond one": "return 2",
    "a score below nothing": "return -0.1",
    "no score": "return None",
    "a score that is no number": "return float('nan')",
    "a score without end": "return float('inf')",
    "a score in words": "return 'very good'",
    "a number with a life of its own": """
    class F(float):
        def __le__(self, other): return True
        def __ge__(self, other): return True
        def __float__(self): return 7.0
    return F(7)""",
    "leave with success": "import os; os._exit(0)",
    "leave by an exception": "raise SystemExit(0)",
    "an exception whose message exits": """
    class E(Exception):
        def __str__(self):
            import os
            os._exit(0)
    raise E""",
    "hang up": "import os; os.close(3)",
    "reply with a list": _SAY + "say(b'[1]'); return 1",
    "reply with a number": _SAY + "say(b'1'); return 1",
    "reply with no JSON": _SAY + "say(b'{'); return 1",
    "reply with a true score": _SAY + "say(b'{\"score\": true}'); return 1",
    "reply with NaN": _SAY + "say(b'{\"score\": NaN}'); return 1",
    "reply with a score beyond all": _SAY + "say(b'{\"score\": 1e400}'); return 1",
    "reply with a deep list": _SAY + "say(b'[' * 60000); return 1",
    "announce four gigabytes": "import os; os.write(3, b'\\xff' * 4); return 1",
    "reply with megabytes of nothing": """
    import os, struct
    body = b'[' + b'[],' * 3000000 + b'[]]'
    data = struct.pack('>I', len(body)) + body
    while data: data = data[os.write(3, data):]
    return 1""",
    "half a frame": "import os; os.write(3, bytes(2)); os._exit(0)",
    "crash": "import ctypes; ctypes.string_at(0)",
    "use up the memory": "return len(bytearray(10**12))",
    "recurse": "return grade(sample, item)",
    "change the rules": """
    import math, sys
    math.isfinite = lambda x: True
    sys.modules['verifiers.sandbox.grader'].math = None
    return 7""",
}
SLOW_GRADERS = {
    "loop for ever": "while True: pass",
    "sleep for ever": "import time; time.sleep(999)",
    "print for ever": "while True: print('x' * 1000)",
    "ignore every signal": """
    import signal
    for n in range(1, 65):
        try: signal.signal(n, signal.SIG_IGN)
        except (OSError, ValueError): pass
    while True: pass""",
}
