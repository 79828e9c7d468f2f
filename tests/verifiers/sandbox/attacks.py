"""Attacks on the sandbox and on the judge, as data: what a hostile completion tries.

A forger must not be judged correct. An intruder's `f` says "blocked" when the wall stopped
it and what it got otherwise, so its one test passes exactly when the wall holds. @DIR@,
@SECRET@, @PORT@ and @VICTIM@ stand for a folder, a file, a listening port and a process
that all belong to the user the sandbox runs as.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FORGED = ("wrong", "malformed", "timeout")


@dataclass(frozen=True)
class Attack:
    """One hostile completion, the spec it meets and the statuses that mean it failed."""

    group: str
    name: str
    source: str
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    statuses: tuple[str, ...] = FORGED


_TESTS = ["assert f(2) == 4", "assert f(3) == 9"]
_FORGERIES: dict[str, str | tuple[str, dict[str, Any]]] = {
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

_PRELUDE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
def f():
    try:
        got = attempt()
    except OSError as error:
        return "blocked" if "Errno" in str(error) else str(error)
    return f"got through: {got!r}"[:200]
def attempt():
"""
_INTRUSIONS = {
    "read /etc/passwd": 'return open("/etc/passwd").read(20)',
    "read a file of the user's": 'return open("@SECRET@").read()',
    "read its own environment by /proc": 'return open("/proc/self/environ").read(20)',
    "read the memory map of its parent": 'return open(f"/proc/{os.getppid()}/maps").read(20)',
    "list the root folder": 'return os.listdir("/")',
    "list a folder of the user's": 'return os.listdir("@DIR@")',
    "read /sys": 'return os.listdir("/sys")',
    "read a device": 'return open("/dev/zero", "rb").read(4)',
    "read by a path through the library": (
        'return open(os.path.dirname(os.__file__) + "/../../../../../../../../etc/passwd").read(9)'
    ),
    "write a file in /tmp": 'return open("/tmp/strop-attack", "w").write("x")',
    "write a file in a folder of the user's": 'return open("@DIR@/x", "w").write("x")',
    "append to a file of the user's": 'return open("@SECRET@", "a").write("x")',
    "write into the standard library": 'return open(os.__file__, "a")',
    "write a shared memory file": 'return open("/dev/shm/strop-attack", "w").write("x")',
    "make a folder": 'return os.mkdir("@DIR@/x")',
    "remove a file": 'return os.unlink("@SECRET@")',
    "rename a file": 'return os.rename("@SECRET@", "@DIR@/renamed")',
    "truncate a file": 'return os.truncate("@SECRET@", 0)',
    "change a mode": 'return os.chmod("@SECRET@", 0o777)',
    "change an owner": 'return os.chown("@SECRET@", os.getuid(), os.getgid())',
    "change times": 'return os.utime("@SECRET@", (0, 0))',
    "set an extended attribute": 'return os.setxattr("@SECRET@", "user.x", b"x")',
    "make a symbolic link": 'return os.symlink("/etc", "@DIR@/x")',
    "make a hard link": 'return os.link("@SECRET@", "@DIR@/x")',
    "make a named pipe": 'return os.mkfifo("@DIR@/x")',
    "connect to a local port": (
        'import socket\n    return socket.create_connection(("127.0.0.1", @PORT@), 1)'
    ),
    "send a datagram": (
        "import socket\n    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
        '.sendto(b"x", ("127.0.0.1", 9))'
    ),
    "open a unix socket": "import socket\n    return socket.socket(socket.AF_UNIX)",
    "open a raw socket": "import socket\n    return socket.socket(socket.AF_INET, socket.SOCK_RAW)",
    "open a netlink socket": "import socket\n    return socket.socket(socket.AF_NETLINK)",
    "make a socket pair": "import socket\n    return socket.socketpair()",
    "fork": "pid = os.fork()\n    if pid == 0: os._exit(0)\n    return pid",
    "vfork": "return check(libc.vfork())",
    "start a shell": 'if os.system("true") == 0: return "ran"\n    raise OSError("[Errno] none")',
    "start a program": 'import subprocess\n    return subprocess.run(["/bin/true"])',
    "spawn a program": 'return os.posix_spawn("/bin/true", ["true"], {})',
    "become a program": 'return os.execv("/bin/true", ["true"])',
    "trace a process": "return check(libc.ptrace(16, @VICTIM@, 0, 0))",
    "signal a process": "return os.kill(@VICTIM@, 9)",
    "signal its parent": "return os.kill(os.getppid(), 9)",
    "signal everybody": "return os.kill(-1, 9)",
    "signal its group": "return os.killpg(0, 9)",
    "signal by pidfd": "return os.pidfd_open(@VICTIM@)",
    "queue a signal": "return check(libc.sigqueue(@VICTIM@, 9, 0))",
    "own a descriptor's signals": "import fcntl\n    return fcntl.fcntl(3, 8, @VICTIM@)",
    "read another process's memory": (
        "return check(libc.process_vm_readv(@VICTIM@, None, 0, None, 0, 0))"
    ),
    "make a memory file": 'return os.memfd_create("x")',
    "set up io_uring": "return check(libc.syscall(425, 4, ctypes.create_string_buffer(120)))",
    "enter a user namespace": "return check(libc.unshare(0x10000000))",
    "join a namespace": "return check(libc.setns(0, 0))",
    "mount": 'return check(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))',
    "change the root": 'return os.chroot("/tmp")',
    "change the user": "return os.setresuid(65534, 65534, 65534)",
    "leave the session": "return os.setsid()",
    "raise a limit": "return check(libc.prlimit(0, 1, ctypes.create_string_buffer(16), None))",
    "become dumpable": "return check(libc.prctl(4, 1, 0, 0, 0))",
    "outlive its parent": "return check(libc.prctl(1, 0, 0, 0, 0))",
    "add a filter": "return check(libc.prctl(22, 2, 0, 0, 0))",
    "set a personality": "return check(libc.personality(0x0040000))",
    "add a key": 'return check(libc.syscall(248, b"user", b"x", b"x", 1, -3))',
    "load BPF": "return check(libc.syscall(321, 0, None, 0))",
    "count events": "return check(libc.syscall(298, None, 0, -1, -1, 0))",
    "handle page faults": "return check(libc.syscall(323, 0))",
    "share memory": "return check(libc.shmget(0, 4096, 0o1600))",
    "watch files": "return check(libc.inotify_init())",
    "lower its priority": "return os.nice(1)",
    "pin a processor": "return os.sched_setaffinity(0, {0})",
    "call by the x32 numbers": "return check(libc.syscall(0x40000000 | 41, 2, 1, 0))",
    "see the environment of the service": """
    if set(os.environ) <= {"LC_ALL", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LC_CTYPE"}:
        raise OSError("[Errno] nothing there")
    return dict(os.environ)""",
    "find a foreign descriptor": """
    found = []
    for fd in range(1024):
        try: os.fstat(fd); found.append(fd)
        except OSError: pass
    if found == [0, 1, 2, 3]: raise OSError("[Errno] nothing there")
    return found""",
    "call by the 32-bit gate": """
    import mmap
    code = bytes.fromhex("b814000000cd80c3")  # getpid by int 0x80
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if result < 0: raise OSError("[Errno] refused")
    return result""",
}

_BOUNDED = {"timeout_s": 1.0, "memory_mb": 256}
_EXHAUSTIONS = {
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
    "an endless iterator": (
        "def f(x):\n    while True: yield 1", {"tests": ["assert sum(f(1)) == 1"]}
    ),
    "deep source": "(" * 5000 + ")" * 5000,
    "crash the interpreter": "import ctypes\ndef f(x): return ctypes.string_at(0)",
    "abort": "import os\ndef f(x): os.abort()",
}  # fmt: skip

_RAW = """
import os, struct
def say(body): os.write(3, struct.pack(">I", len(body)) + body)
def hear(): os.read(3, 2**16)
say(b'{"value":null}'); hear()
say(b'{"value":{"handle":0}}'); hear()
"""
_ABUSES = {
    "a frame of four gigabytes": 'os.write(3, b"\\xff\\xff\\xff\\xff" + b"x" * 100)\nhear()',
    "a frame that never ends": 'os.write(3, b"\\x00\\x00\\xff\\xff{")\nwhile True: hear()',
    "half a header": 'os.write(3, b"\\x00\\x00")\nos._exit(0)',
    "no JSON": 'say(b"hello")\nhear()',
    "no UTF-8": 'say(b"\\xff\\xfe")\nhear()',
    "NaN": "say(b'{\"value\":NaN}')\nhear()",
    "deep JSON": "say(b'[' * 10**6)\nhear()",
    "deep values": "say(b'{\"value\":' + b'[' * 500 + b']' * 500 + b'}')\nhear()",
    "a list for a reply": "say(b'[1, 2]')\nhear()",
    "two tags": 'say(b\'{"value":{"tuple":[],"set":[]}}\')\nhear()',
    "an unknown tag": 'say(b\'{"value":{"eval":"4"}}\')\nhear()',
    "a set of lists": 'say(b\'{"value":{"set":[[1]]}}\')\nhear()',
    "a dict of no pairs": 'say(b\'{"value":{"dict":[[1,2,3]]}}\')\nhear()',
    "a dict of texts": 'say(b\'{"value":{"dict":["ab"]}}\')\nhear()',
    "an integer of a million digits": "say(b'{\"value\":' + b'9' * 10**6 + b'}')\nhear()",
    "a huge hexadecimal": 'say(b\'{"value":{"int":"0x\' + b"f" * 10**7 + b\'"}}\')\nhear()',
    "a number for a text": 'say(b\'{"value":{"bytes":7}}\')\nhear()',
    "no such float": 'say(b\'{"value":{"float":"4"}}\')\nhear()',
    "a fraction of nothing": 'say(b\'{"value":{"fraction":[1,0]}}\')\nhear()',
    "a decimal bomb": 'say(b\'{"value":{"decimal":"1E+999999999"}}\')\nhear()',
    "no such day": 'say(b\'{"value":{"date":"2020-13-45"}}\')\nhear()',
    "an array without numpy": 'say(b\'{"value":{"ndarray":["<f8",[1],"00"]}}\')\nhear()',
    "a type that is none": 'say(b\'{"value":{"type":"Exception"}}\')\nhear()',
    "a handle that is no number": 'say(b\'{"value":{"handle":"__class__"}}\')\nhear()',
    "call a function it was not given": 'say(b\'{"callback":0,"arguments":[]}\')\nhear()',
    "call a function by a text": 'say(b\'{"callback":"exit","arguments":[]}\')\nhear()',
    "change an argument that is not there": ('say(b\'{"value":4,"changed":[[7,1]]}\')\nhear()'),
    "change an argument to another type": 'say(b\'{"value":4,"changed":[[0,{}]]}\')\nhear()',
    "no changes at all": 'say(b\'{"value":5,"changed":[7]}\')\nhear()',
    "changes that are a number": 'say(b\'{"value":5,"changed":7}\')\nhear()',
    "an error that is none": "say(b'{\"error\":7}')\nhear()",
    "an error of a private kind": 'say(b\'{"error":["x",["exit","__import__"],"x"]}\')\nhear()',
    "an error that ends the judge": 'say(b\'{"error":["x",["SystemExit"],"0"]}\')\nhear()',
    "an error with a number for a name": 'say(b\'{"error":["x",[7,null],"0"]}\')\nhear()',
    "a value that is missing": "say(b'{}')\nhear()",
    "answers before the questions": "for _ in range(100): say(b'{\"value\":true}')\nhear()",
    "hang up": "os.close(3)",
    "colliding keys": (
        'm = 2**61 - 1\nb = ",".join(str(i * m) for i in range(1, 60000))\n'
        'say(b\'{"value":{"set":[\' + b.encode() + b"]}}")\nhear()'
    ),
    "a lone surrogate": 'say(b\'{"value":"\\\\ud800"}\')\nhear()',
}

_MORE_THAN_LITERALS = ["assert f(2) == 4 and f(3) == 9"]

ATTACKS: tuple[Attack, ...] = (
    *(
        Attack("verdict forging", f"{name}, before a judge behind walls", given, spec)
        for spec in ({"tests": _MORE_THAN_LITERALS, "timeout_s": 2.0},)
        for name, given in _FORGERIES.items()
        if isinstance(given, str)
    ),
    *(
        Attack("verdict forging", name, given, {"tests": _TESTS, "timeout_s": 2.0})
        if isinstance(given, str)
        else Attack("verdict forging", name, given[0], {"timeout_s": 2.0, **given[1]})
        for name, given in _FORGERIES.items()
    ),
    *(
        Attack(
            "side effects",
            name,
            f"{_PRELUDE}    {body}\n",
            {"tests": ["assert f() == 'blocked', f()"]},
            ("correct",),
        )
        for name, body in _INTRUSIONS.items()
    ),
    *(
        Attack("resource exhaustion", name, given, {"tests": _TESTS, **_BOUNDED})
        if isinstance(given, str)
        else Attack("resource exhaustion", name, given[0], {**given[1], **_BOUNDED})
        for name, given in _EXHAUSTIONS.items()
    ),
    *(
        Attack("protocol abuse", name, f"{_RAW}{body}\n", {"tests": _TESTS, **_BOUNDED})
        for name, body in _ABUSES.items()
    ),
)
