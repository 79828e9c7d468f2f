"""Side effects: what code behind the walls tries on the machine.

A name, and the body of `attempt`; `f` then says "blocked" or what it got.
"""

from __future__ import annotations

PRELUDE = """
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
INTRUSIONS = {
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
    "write its own memory by /proc": 'return open("/proc/self/mem", "r+b").write(b"x")',
    "list its own descriptors by /proc": 'return os.listdir("/proc/self/fd")',
    "list its own threads by /proc": 'return os.listdir("/proc/self/task")',
    "look at another process's program": 'return os.readlink("/proc/@VICTIM@/exe")',
    "go to another folder": 'return os.chdir("/tmp")',
    "open a folder for files without names": 'return os.open("@DIR@", os.O_TMPFILE | os.O_RDWR)',
    "make a device": 'return os.mknod("@DIR@/x")',
    "open a pseudo-terminal": "return os.openpty()",
    "make a pipe": "return os.pipe()",
    "make an event": "return os.eventfd(0)",
    "wait for descriptors' events": "import select\n    return select.epoll()",
    "make a signal descriptor": "return check(libc.signalfd(-1, ctypes.create_string_buffer(128), 0))",
    "set a timer": "import signal\n    return signal.setitimer(signal.ITIMER_REAL, 100)",
    "signal itself": "import signal\n    return signal.raise_signal(9)",
    "copy between files": "return os.sendfile(1, 3, 0, 1)",
    "lock a file": "import fcntl\n    return fcntl.flock(3, 1)",
    "make the channel wait for nobody": "return os.set_blocking(3, False)",
    "send a descriptor": "import socket\n    return socket.socket(fileno=os.dup(3)).sendmsg([b'x'])",
    "map memory at nothing": "return check(libc.syscall(9, 0, 4096, 7, 0x32, -1, 0))",
    "lock memory": "return check(libc.mlockall(3))",
    "set the clock": "return check(libc.settimeofday(ctypes.create_string_buffer(16), None))",
    "rename the host": 'return check(libc.sethostname(b"x", 1))',
    "read the kernel's log": "return check(libc.klogctl(3, ctypes.create_string_buffer(9), 9))",
    "drop its groups": "return os.setgroups([])",
    "set its own mask": "return os.umask(0)",
    "open by a handle": "return check(libc.open_by_handle_at(-100, ctypes.create_string_buffer(99), 0))",
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
