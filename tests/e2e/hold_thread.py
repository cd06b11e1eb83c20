"""Stops one thread of another process where it is, as a debugger does, until a line comes in.

Usage: hold_thread.py PROCESS NAME. Prints `held`, and ends once the thread goes on.
"""

import ctypes
import os
import sys

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def trace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def named(process, name):
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/comm") as comm:
            if comm.read().strip() == name:
                return int(thread)
    raise SystemExit(f"process {process} has no thread {name}")


thread = named(int(sys.argv[1]), sys.argv[2])
trace(SEIZE, thread)
trace(INTERRUPT, thread)
os.waitpid(thread, WALL)
print("held", flush=True)
sys.stdin.readline()
trace(DETACH, thread)
