"""Protocol abuse: what a candidate writes to the channel in the place of its functions."""

from __future__ import annotations

_SAY = """
import os, struct, time
def say(body): os.write(3, struct.pack(">I", len(body)) + body)
"""
RAW = f"""{_SAY}
def hear(): os.read(3, 2**16)
say(b'{{"value":null}}'); hear()
say(b'{{"value":{{"handle":0}}}}'); hear()
"""
"""Passes for a candidate that was loaded and has a function."""
CALLED = f"""{_SAY}
def hear(): time.sleep(9)
say(b'{{"value":null}}')
"""
"""Passes for a candidate that was loaded; the calls came together with its code."""
ABUSES = {
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
    "changes for ever": "say(b'{\"value\":5,\"changed\":[' + b'[0,1],' * 5000 + b'[0,1]]}')\nhear()",
    "a change at no place": 'say(b\'{"value":5,"changed":[[-1,[]]]}\')\nhear()',
    "a change at a true place": 'say(b\'{"value":5,"changed":[[true,[]]]}\')\nhear()',
    "an error and a value": 'say(b\'{"error":["x",["ValueError"],"x"],"value":4}\')\nhear()',
    "an error that is late": 'say(b\'{"error":["TimeoutError",["TimeoutError"],"x"]}\')\nhear()',
    "an error that ends a loop": 'say(b\'{"error":["x",["StopIteration"],"4"]}\')\nhear()',
    "an error of the judge's own": 'say(b\'{"error":["LateError",["LateError"],"x"]}\')\nhear()',
    "a type for a function": 'say(b\'{"value":{"type":"object"}}\')\nhear()',
    "a huge frame of nothing": "say(b'[' + b'[],' * (5 * 10**6) + b'[]]')\nhear()",
    "a huge shape": 'say(b\'{"value":{"ndarray":["<f8",[0,9999999999],""]}}\')\nhear()',
    "the same key twice": 'say(b\'{"value":5,"value":4,"value":5}\')\nhear()',
    "hang up": "os.close(3)",
    "colliding keys": (
        'm = 2**61 - 1\nb = ",".join(str(i * m) for i in range(1, 60000))\n'
        'say(b\'{"value":{"set":[\' + b.encode() + b"]}}")\nhear()'
    ),
    "a lone surrogate": 'say(b\'{"value":"\\\\ud800"}\')\nhear()',
}
