"""Facts about C and C++: compiled and run behind the same walls."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from verifiers import code, programs
from verifiers.sandbox.supervisor import Sandbox
from verifiers.spec import SpecError, parse_spec
from verifiers.verdict import Verdict

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="gcc and g++ are not installed"
)
DOUBLE = [{"stdin": "2\n", "stdout": "4\n"}, {"stdin": "5\n", "stdout": "10\n"}]
C = '#include <stdio.h>\nint main(){int x;scanf("%d",&x);printf("%d\\n",2*x);}'
CPP = "#include <iostream>\nint main(){int x;std::cin>>x;std::cout<<2*x<<std::endl;}"


def judge(sandbox: Sandbox, source: str, **spec: Any) -> Verdict:
    parsed = parse_spec({"kind": "code", "language": "c", "stdio": DOUBLE, **spec})
    assert parsed.kind == "code"
    return code.judge(parsed, f"```c\n{source}\n```", sandbox)


def test_c_and_cpp_are_judged_by_what_they_print(sandbox: Sandbox) -> None:
    assert judge(sandbox, C).status == "correct"
    assert judge(sandbox, CPP, language="cpp").status == "correct"
    wrong = judge(sandbox, C.replace("2*x", "x+2"), partial=True)
    assert (wrong.status, wrong.score) == ("wrong", 0.5)


def test_the_compilers_complaint_is_evidence(sandbox: Sandbox) -> None:
    verdict = judge(sandbox, "int main( {")
    assert verdict.status == "malformed"
    assert "error:" in verdict.evidence["reason"]


@pytest.mark.parametrize(
    "source",
    [
        '#include "/etc/passwd"\nint main(){}',
        '__asm__(".incbin \\"/etc/passwd\\"");int main(){}',
        '#include "/proc/self/environ"\nint main(){}',
        '#include "/root/.bashrc"\nint main(){}',
        "#include </dev/zero>\nint main(){}",
        '#include_next "/etc/passwd"\nint main(){}',
        '__asm__(".include \\"/etc/passwd\\"");int main(){}',
        'const char p[] = {\n#embed "/etc/passwd"\n};int main(){}',
        '#line 1 "/etc/passwd"\nint main( {',
        '__asm__(".rept 1000000000\\n.quad 1\\n.endr");int main(){}',
        '__asm__(".fill 4000000000,8,1");int main(){}',
        "char a[1L<<40]={1};int main(){return a[0];}",
        "int main(){return " + "(" * 100_000 + "1" + ")" * 100_000 + ";}",
    ],
)
def test_a_source_gets_nothing_but_a_complaint_from_the_compiler(
    sandbox: Sandbox, source: str
) -> None:
    verdict = judge(sandbox, source)
    assert verdict.status == "malformed", verdict
    assert "root:" not in verdict.evidence["reason"]


@pytest.mark.parametrize(
    "attempt",
    [
        'open("/etc/passwd", 0)',
        'open("/", 0)',
        'open("/usr/include/stdio.h", 0)',
        'open("/proc/self/status", 0)',
        'open("/tmp/strop-native", 0101, 0600)',
        'creat("x", 0600)',
        "socket(2, 1, 0)",
        "fork()",
        "vfork()",
        'execl("/bin/true", "true", (char*)0)',
        'execl("/usr/bin/gcc", "gcc", (char*)0)',
        "kill(getppid(), 9)",
        "kill(-1, 9)",
        "ptrace(16, getppid(), 0, 0)",
        "setsid()",
        "unshare(0x10000000)",
        'memfd_create("x", 0)',
        "syscall(425, 4, 0)",
        "syscall(322, 4, \"\", 0, 0, 0x1000)",
        'syscall(322, -100, "/bin/true", 0, 0, 0)',
        'chmod("/tmp", 0777)',
        'mkdir("/tmp/strop-native", 0700)',
        "setuid(65534)",
        "prctl(1, 0, 0, 0, 0)",
        "raw(2, \"/etc/passwd\")",
        "raw(59, \"/bin/sh\")",
        "raw(0x40000000 | 2, \"/etc/passwd\")",
        "old(20)",
        "read(3, (char[9]){0}, 9)",
        "write(4, \"4\", 1)",
    ],
)  # fmt: skip
def test_a_program_gets_nowhere(sandbox: Sandbox, attempt: str) -> None:
    source = f"""#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
long raw(long number, const char *path) {{
    long got;
    __asm__ volatile("syscall" : "=a"(got) : "0"(number), "D"(path), "S"(0L), "d"(0L)
                     : "rcx", "r11", "memory");
    return got < 0 ? -1 : got;
}}
long old(int number) {{
    int got;
    __asm__ volatile("int $0x80" : "=a"(got) : "0"(number) : "memory");
    return got < 0 ? -1 : got;
}}
int main() {{ long got = {attempt}; puts(got == -1 ? "blocked" : "got through"); }}"""
    verdict = judge(sandbox, source, stdio=[{"stdout": "blocked"}])
    assert verdict.status == "correct", verdict
    assert not Path("/tmp/strop-native").exists()
    assert _programs(sandbox) == []


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("int main(){for(;;);}", "timeout"),
        ("#include <unistd.h>\nint main(){sleep(99);}", "timeout"),
        ("int f(int x){return f(x+1)+f(x+2);}int main(){return f(0);}", "wrong"),
        ("int main(){*(volatile int*)0=1;}", "wrong"),
        ("#include <stdlib.h>\nint main(){abort();}", "wrong"),
        ("#include <unistd.h>\nint main(){for(;;)fork();}", "timeout"),
        ("#include <pthread.h>\n#include <unistd.h>\nvoid*g(void*p){sleep(99);return 0;}int main(){"
         "pthread_attr_t a;pthread_attr_init(&a);pthread_attr_setstacksize(&a,16384);"
         "for(;;){pthread_t t;pthread_create(&t,&a,g,0);}}", "timeout"),
        ("#define _GNU_SOURCE\n#include <sched.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
         "int g(void*p){for(;;)pause();}int main(){char*s=malloc(1<<16)+65000;for(;;)"
         "clone(g,s,CLONE_VM|CLONE_THREAD|CLONE_SIGHAND|CLONE_FS|CLONE_FILES,0);}", "timeout"),
        ("#include <signal.h>\nint main(){for(int i=1;i<65;i++)signal(i,SIG_IGN);for(;;);}", "timeout"),
        ("#include <stdio.h>\nint main(){for(;;)fputs(\"4\",stderr);}", "timeout"),
        ("#include <unistd.h>\nint main(){for(int i=3;i<100;i++)write(i,\"4\\n\",2);}", "wrong"),
        ("int main(){for(;;)puts(\"4\");}", "wrong"),
        ("int main(){puts(\"4\");return 0;}", "wrong"),
        ("#include <stdlib.h>\n#include <string.h>\nint main(){for(;;){char*p=malloc(1<<26);"
         "if(!p)return 0;memset(p,1,1<<26);}}", "wrong"),
    ],
)  # fmt: skip
def test_a_hostile_program_costs_only_itself(sandbox: Sandbox, source: str, status: str) -> None:
    verdict = judge(sandbox, source, timeout_s=1.0, memory_mb=256)
    assert verdict.status in (status, "timeout"), verdict
    assert judge(sandbox, C).status == "correct"
    assert _programs(sandbox) == []


def test_a_source_that_never_compiles_is_ended_with_all_its_passes(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled = "\n".join(f"#define D{n} D{n - 1} D{n - 1}" for n in range(1, 40))
    source = f"#define D0 ;\n{doubled}\nint main(){{ D39 }}"
    with monkeypatch.context() as impatient:
        impatient.setattr(programs, "COMPILE_S", 1.0)
        verdict = judge(sandbox, source, language="cpp")
    assert (verdict.status, verdict.evidence["limit"]) == ("timeout", "compile")
    deadline = time.monotonic() + 10  # a killed process takes a moment to give its memory back
    while left := _processes("cc1plus", sandbox):
        assert time.monotonic() < deadline, left
        time.sleep(0.005)
    assert judge(sandbox, C).status == "correct"


def test_compiled_languages_are_judged_by_stdio_alone() -> None:
    with pytest.raises(SpecError, match="stdio alone"):
        parse_spec({"kind": "code", "language": "c", "tests": ["assert True"]})


def _programs(sandbox: Sandbox) -> list[str]:
    """Folders of programs that are not removed in time: the zygote does it when it is asked."""
    deadline = time.monotonic() + 5
    while (left := os.listdir(sandbox.scratch)) and time.monotonic() < deadline:
        time.sleep(0.005)
    return left


def _processes(name: str, sandbox: Sandbox) -> list[str]:
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if name in command and sandbox.scratch in command:
            found.append(command)
    return found
