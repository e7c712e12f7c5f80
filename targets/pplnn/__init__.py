"""PPLNN (OpenPPL's ppl.nn) on x86 CPUs and CUDA GPUs.

target: what the target is. ops: its capability table, with the checks in ops_checks; generator/ makes capabilities.json
from facts.json. passes: the legalizations. emit, readme, readme_hybrid: the files of a bundle. runtime: loads an engine
in a child process; runtime_child: in this one.
"""
